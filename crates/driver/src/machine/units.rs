//! systemd in the guest.

use std::time::Duration;

use hotbed_console::Command;

use super::quoting::quote;
use super::shell::{TIMED_OUT, timed_out};
use super::wait::PAUSE;
use super::{Execute, Machine, Output};
use crate::call::now;
use crate::{Call, Error};

/// Looks at a unit again and again until it is decided what becomes of it, and writes the last state that was seen.
///
/// A look costs tens of milliseconds of a slow guest's time, most of them while it boots: so the pause after a look is three
/// times as long as the look took, and never less than 20 ms. Statuses: 0 active, 3 failed, 4 inactive without jobs, 5 and the
/// status of `systemctl` (on its own line) when that fails.
const WAIT_FOR_UNIT: &str = r#"
look() {
  local answer
  answer=$(@SHOW@) || { echo "$?"; exit 5; }
  state=
  while IFS= read -r line; do
    case $line in ActiveState=*) state=${line#ActiveState=} ;; esac
  done <<< "$answer"
}
jobs() { @JOBS@; }
while :; do
  begin=${EPOCHREALTIME/[^0-9]/}
  look
  case $state in
    active) exit 0 ;;
    failed) exit 3 ;;
    inactive)
      case $(jobs) in *'No jobs'*)
        look
        case $state in active) exit 0 ;; failed) exit 3 ;; inactive) exit 4 ;; esac ;;
      esac ;;
  esac
  pause $(( (${EPOCHREALTIME/[^0-9]/} - begin) * 3 )) 20000 1000000
done
"#;

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
        let with = user
            .map(|user| format!(" with user {user}"))
            .unwrap_or_default();
        let begin = now();
        self.nested(&format!("waiting for unit {unit}{with}"), || {
            self.with_shell(call, |session| {
                let script = wait_for_unit_script(unit, user);
                let within = timeout.saturating_sub(now().saturating_duration_since(begin));
                let command = Command {
                    timeout: Some(within.max(Duration::from_millis(1))),
                    ..Command::new(&script)
                };
                let mut said = Vec::new();
                match session.wait(&command, &mut said, begin, timeout, call)? {
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

pub(super) fn wait_for_unit_script(unit: &str, user: Option<&str>) -> String {
    // `show` of a user's unit goes through two more shells, so the unit is quoted as the NixOS driver does it.
    let unit = if user.is_some() {
        format!("\"{unit}\"")
    } else {
        quote(unit)
    };
    let show = systemctl(
        &format!("--no-pager show --property=ActiveState -- {unit}"),
        user,
    );
    let jobs = systemctl("list-jobs --full 2>&1", user);
    format!(
        "{PAUSE}{}",
        WAIT_FOR_UNIT
            .replace("@SHOW@", &show)
            .replace("@JOBS@", &jobs)
    )
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
