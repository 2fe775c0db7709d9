//! systemd in the guest.

use std::time::{Duration, Instant};

use hotbed_console::Command;
use hotbed_console::agent::wire::{FailureKind, Wait};

use super::channel::Event;
use super::quoting::quote;
use super::shell::{TIMED_OUT, timed_out};
use super::wait::PAUSE;
use super::{Execute, Machine, Output};
use crate::call::now;
use crate::{Call, Error};

/// Looks at a unit again and again until it is decided what becomes of it. `$wanted` is a state, or `finished`.
///
/// A look costs tens of milliseconds of a slow guest's time, most of them while it boots: so the pause after a look is three
/// times as long as the look took, and never less than 20 ms. Statuses: 0 as wanted, 3 failed, 4 inactive without jobs, 5 and the
/// status of `systemctl` (on its own line) when that fails.
const WAIT_FOR_UNIT: &str = r#"
look() {
  local answer
  answer=$(@SHOW@) || { echo "$?"; exit 5; }
  state= result= ended=
  while IFS= read -r line; do
    case $line in
      ActiveState=*) state=${line#*=} ;;
      Result=*) result=${line#*=} ;;
      ExecMainExitTimestampMonotonic=*) ended=${line#*=} ;;
    esac
  done <<< "$answer"
  case $wanted in
    "$state") exit 0 ;;
    finished)
      [ "$state" != active ] || exit 0
      [ "$state $result" != 'inactive success' ] || [ "${ended:-0}" = 0 ] || exit 0 ;;
  esac
}
jobs() { @JOBS@; }
while :; do
  begin=${EPOCHREALTIME/[^0-9]/}
  look
  case $state in
    failed) exit 3 ;;
    inactive)
      case $(jobs) in *'No jobs'*)
        look
        case $state in failed) exit 3 ;; inactive) exit 4 ;; esac ;;
      esac ;;
  esac
  pause $(( (${EPOCHREALTIME/[^0-9]/} - begin) * 3 )) 20000 1000000
done
"#;

/// A state of ours: active, or a oneshot that has run and ended well.
const FINISHED: &str = "finished";
/// What a unit can be.
const STATES: [&str; 9] = [
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
    "refreshing",
    FINISHED,
];

/// What the names of units end with.
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "mount",
    "automount",
    "path",
    "device",
    "slice",
    "scope",
    "swap",
];

impl Machine {
    /// Runs `systemctl <query>`, as `user` when one is given.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn systemctl(
        &self,
        query: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        self.execute(&systemctl(query, user), &Execute::default(), call)
    }

    /// The properties of a unit, in systemd's order.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `systemctl` fails.
    pub fn get_unit_info(
        &self,
        unit: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Vec<(String, String)>, Error> {
        let output = self.systemctl(&format!("--no-pager show \"{unit}\""), user, call)?;
        if output.status != 0 {
            return Err(info_failed(unit, user, output.status));
        }
        Ok(output
            .text()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }

    /// One property of a unit.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `systemctl` fails.
    pub fn get_unit_property(
        &self,
        unit: &str,
        property: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let output = self.systemctl(
            &format!("--no-pager show \"{unit}\" --property=\"{property}\""),
            user,
            call,
        )?;
        if output.status != 0 {
            let under = under_user(user);
            let status = output.status;
            return Err(Error::TestFailed(format!(
                "retrieving systemctl property \"{property}\" for unit \"{unit}\"{under} failed with exit code {status}"
            )));
        }
        let text = output.text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(property)?.strip_prefix('='));
        value.map(str::to_owned).ok_or_else(|| {
            Error::Assertion(format!("systemctl show --property \"{property}\" \"{unit}\" produced invalid output: {text}"))
        })
    }

    /// Waits in the guest until a unit is active.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it failed, when it is inactive and no job is pending, or when `timeout` passes.
    pub fn wait_for_unit(
        &self,
        unit: &str,
        user: Option<&str>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.wait_for_unit_state(unit, "active", user, timeout, call)
    }

    /// Waits in the guest until a unit is in a state: an `ActiveState` of systemd, or `finished`, which is active, or a oneshot that has
    /// run and ended well.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it failed, or is inactive and no job is pending, unless that is what was waited for; or when `timeout`
    /// passes. [`Error::Argument`] for a state that systemd does not know.
    pub fn wait_for_unit_state(
        &self,
        unit: &str,
        state: &str,
        user: Option<&str>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        if !STATES.contains(&state) {
            return Err(Error::Argument(format!(
                "{state:?} is no state of a unit: there are {}",
                STATES.join(", ")
            )));
        }
        let with = user
            .map(|user| format!(" with user {user}"))
            .unwrap_or_default();
        let to_be = match state {
            "active" => String::new(),
            state => format!(" to be {state}"),
        };
        let begin = now();
        self.nested(&format!("waiting for unit {unit}{with}{to_be}"), || {
            let finished = state == FINISHED;
            let event = match full_name(unit) {
                None => Event::Unknown,
                Some(name) => {
                    let wait = Wait::Unit {
                        unit: name,
                        user: user.map(str::to_owned),
                        states: vec![if finished { "active" } else { state }.to_owned()],
                        or_fail: true,
                        finished,
                    };
                    self.wait_for_event(&wait, begin, timeout, call)?
                }
            };
            match event {
                Event::Happened(_) => Ok(()),
                Event::Refused(FailureKind::Hopeless, message) => {
                    // In the test's own words for the unit.
                    let named = full_name(unit).map(|name| format!("\"{name}\""));
                    let message =
                        message.replace(&named.unwrap_or_default(), &format!("\"{unit}\""));
                    Err(Error::TestFailed(message))
                }
                // The words for it are those of `systemctl`.
                Event::Refused(..) | Event::Unknown => {
                    self.wait_for_unit_by_script(unit, state, user, (begin, timeout), call)
                }
            }
        })
    }

    fn wait_for_unit_by_script(
        &self,
        unit: &str,
        state: &str,
        user: Option<&str>,
        (begin, timeout): (Instant, Duration),
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let script = wait_for_unit_script(unit, state, user);
        self.with_channel(script.len(), call, |channel| {
            let within = timeout.saturating_sub(now().saturating_duration_since(begin));
            let command = Command {
                timeout: Some(within.max(Duration::from_millis(1))),
                ..Command::new(&script)
            };
            let mut said = Vec::new();
            match channel.wait(&command, &mut said, begin, timeout, call)? {
                0 => Ok(()),
                3 => Err(Error::TestFailed(format!(
                    "unit \"{unit}\" reached state \"failed\""
                ))),
                4 => Err(Error::TestFailed(format!(
                    "unit \"{unit}\" is inactive and there are no pending jobs"
                ))),
                5 => Err(info_failed(
                    unit,
                    user,
                    String::from_utf8_lossy(&said).trim().parse().unwrap_or(1),
                )),
                TIMED_OUT => Err(timed_out(begin, timeout)),
                status => Err(Error::Machine(format!(
                    "waiting for unit \"{unit}\" in {} failed with exit code {status}",
                    self.name()
                ))),
            }
        })
    }

    /// Checks the state of a unit.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it is in another one.
    pub fn require_unit_state(
        &self,
        unit: &str,
        state: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.nested(&format!("checking if unit '{unit}' has reached state '{state}'"), || {
            let present = self.get_unit_property(unit, "ActiveState", None, call)?;
            if present == state {
                return Ok(());
            }
            Err(Error::TestFailed(format!("Expected unit '{unit}' to to be in state '{state}' but it is in state '{present}'")))
        })
    }

    /// Runs `systemctl start <name>`; a failure is in the output's status.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn start_job(
        &self,
        name: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        self.systemctl(&format!("start {name}"), user, call)
    }

    /// Runs `systemctl stop <name>`; a failure is in the output's status.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn stop_job(
        &self,
        name: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        self.systemctl(&format!("stop {name}"), user, call)
    }
}

/// The guest's command for `systemctl <query>`, in the NixOS driver's form.
pub(super) fn systemctl(query: &str, user: Option<&str>) -> String {
    match user {
        None => format!("systemctl {query}"),
        Some(user) => {
            let query = query.replace('\'', "\\'");
            format!(
                "su -l {user} --shell /bin/sh -c $'XDG_RUNTIME_DIR=/run/user/`id -u` systemctl --user {query}'"
            )
        }
    }
}

pub(super) fn wait_for_unit_script(unit: &str, state: &str, user: Option<&str>) -> String {
    // `show` of a user's unit goes through two more shells, so the unit is quoted as the NixOS driver does it.
    let unit = if user.is_some() {
        format!("\"{unit}\"")
    } else {
        quote(unit)
    };
    let properties = match state {
        FINISHED => "ActiveState,Result,ExecMainExitTimestampMonotonic",
        _ => "ActiveState",
    };
    let show = systemctl(
        &format!("--no-pager show --property={properties} -- {unit}"),
        user,
    );
    let jobs = systemctl("list-jobs --full 2>&1", user);
    format!(
        "{PAUSE}wanted={state}\n{}",
        WAIT_FOR_UNIT
            .replace("@SHOW@", &show)
            .replace("@JOBS@", &jobs)
    )
}

/// The name of a unit as systemd has it, if `systemctl` would make nothing else of this one.
pub(super) fn full_name(unit: &str) -> Option<String> {
    let is_plain = unit
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    if unit.is_empty() || unit.starts_with('-') || !is_plain {
        return None;
    }
    let is_full = unit
        .rsplit_once('.')
        .is_some_and(|(_, kind)| KINDS.contains(&kind));
    Some(if is_full {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    })
}

fn under_user(user: Option<&str>) -> String {
    user.map(|user| format!(" under user \"{user}\""))
        .unwrap_or_default()
}

fn info_failed(unit: &str, user: Option<&str>, status: i32) -> Error {
    Error::TestFailed(format!(
        "retrieving systemctl info for unit \"{unit}\"{} failed with exit code {status}",
        under_user(user)
    ))
}
