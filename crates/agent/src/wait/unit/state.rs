//! What a wait asks systemd, and what the answers and signals mean.

use std::collections::BTreeMap;

use crate::wait::bus::wire::{Call, Kind, Message, Value};
use crate::wait::{Failure, FailureKind};

#[cfg(test)]
mod tests;

pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// As many questions may be open: many more than are ever asked at once.
const ASKED_MAX: usize = 64;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) enum Goal {
    /// A unit in one of these states.
    Unit {
        name: String,
        states: Vec<String>,
        or_fail: bool,
        finished: bool,
    },
    /// The end of the boot.
    Boot,
}

/// A question that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Where the unit is.
    Path,
    /// A property of its service.
    Service(&'static str),
    /// In which state it is; for the last time, for there are no jobs.
    Active { is_last: bool },
    /// How many jobs there are.
    Jobs,
    /// In which state the system is.
    System,
}

/// Sends a call, and says by which number its answer will be known.
pub(super) type Send<'a> = &'a mut dyn FnMut(&Call<'_>) -> u32;

/// What is known of the unit or the boot.
#[derive(Debug)]
pub(super) struct State {
    goal: Goal,
    path: String,
    asked: BTreeMap<u32, Asked>,
    /// The unit's `ActiveState`.
    active: String,
    /// Of its service: `Type`, `Result`, and whether a process of it has ended.
    kind: String,
    result: String,
    has_run: bool,
    /// The number of jobs may have changed since it was asked.
    wants_jobs: bool,
}

impl State {
    pub(super) fn new(goal: Goal) -> Self {
        Self {
            goal,
            path: String::new(),
            asked: BTreeMap::new(),
            active: String::new(),
            kind: String::new(),
            result: String::new(),
            has_run: false,
            wants_jobs: false,
        }
    }

    /// Asks everything, as on a new connection; answers to earlier questions do not count.
    pub(super) fn begin(&mut self, send: Send<'_>) {
        self.asked.clear();
        self.wants_jobs = false;
        // Its answer says nothing.
        send(&call(MANAGER_PATH, MANAGER, "Subscribe", &[]));
        match &self.goal {
            Goal::Unit { name, .. } => {
                let serial = send(&call(MANAGER_PATH, MANAGER, "LoadUnit", &[name]));
                self.asked.insert(serial, Asked::Path);
            }
            Goal::Boot => self.get(MANAGER_PATH, MANAGER, "SystemState", Asked::System, send),
        }
    }

    /// Whether there are questions that systemd has not answered yet.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether the number of jobs is to be asked.
    pub(super) fn wants_jobs(&self) -> bool {
        self.wants_jobs
    }

    pub(super) fn ask_jobs(&mut self, send: Send<'_>) {
        self.wants_jobs = false;
        self.get(MANAGER_PATH, MANAGER, "NJobs", Asked::Jobs, send);
    }

    /// Takes a message; what was found, if that is the end.
    ///
    /// # Errors
    ///
    /// When it can not happen any more.
    pub(super) fn handle(
        &mut self,
        message: &Message,
        send: Send<'_>,
    ) -> Result<Option<String>, Failure> {
        match message.kind {
            Kind::Return | Kind::Error => match self.asked.remove(&message.reply_to) {
                Some(asked) => self.handle_answer(asked, message, send),
                None => Ok(None),
            },
            Kind::Signal => self.handle_signal(message, send),
            Kind::Call | Kind::Other => Ok(None),
        }
    }

    fn handle_answer(
        &mut self,
        asked: Asked,
        message: &Message,
        send: Send<'_>,
    ) -> Result<Option<String>, Failure> {
        let is_error = message.kind == Kind::Error;
        let value = || match message.arguments().variant() {
            Ok(value) if !is_error => value,
            _ => Value::Other,
        };
        match asked {
            Asked::Path if is_error => self.handle_no_path(message),
            Asked::Path => {
                self.path = message.arguments().text().unwrap_or_default().to_owned();
                self.ask_state(false, send);
                Ok(None)
            }
            Asked::Service(property) => {
                self.set_service(property, &value());
                Ok(None)
            }
            Asked::Active { is_last } => match value() {
                Value::Text(active) => self.judge(active, is_last),
                // It was unloaded this moment, which only happens to an inactive one.
                _ if is_error && is_unknown(&message.error) => {
                    self.judge("inactive".to_owned(), is_last)
                }
                // It is asked again later.
                _ => Ok(None),
            },
            Asked::Jobs => {
                if value() == Value::Number(0) {
                    self.ask_state(true, send);
                }
                Ok(None)
            }
            Asked::System => match value() {
                Value::Text(state) => judge_system(state),
                _ => Ok(None),
            },
        }
    }

    /// The unit can not be loaded. One that there is no file of can, so this is about its name, or about systemd.
    fn handle_no_path(&self, message: &Message) -> Result<Option<String>, Failure> {
        let Goal::Unit { name, .. } = &self.goal else {
            return Ok(None);
        };
        if message.error != "org.freedesktop.DBus.Error.InvalidArgs" {
            return Ok(None);
        }
        let text = message.arguments().text().unwrap_or_default().to_owned();
        Err(Failure::new(
            FailureKind::Invalid,
            format!("retrieving systemctl info for unit \"{name}\" failed: {text}"),
        ))
    }

    fn handle_signal(
        &mut self,
        message: &Message,
        send: Send<'_>,
    ) -> Result<Option<String>, Failure> {
        let Goal::Unit { name, .. } = &self.goal else {
            if message.member == "StartupFinished" && message.interface == MANAGER {
                self.get(MANAGER_PATH, MANAGER, "SystemState", Asked::System, send);
            }
            return Ok(None);
        };
        match (message.interface.as_str(), message.member.as_str()) {
            (PROPERTIES, "PropertiesChanged") if message.path == self.path => {
                self.handle_changes(message, send)
            }
            (MANAGER, "JobRemoved") => {
                let mut arguments = message.arguments();
                let is_ours = arguments.number().is_ok()
                    && arguments.text().is_ok()
                    && arguments.text().is_ok_and(|unit| unit == name);
                if is_ours {
                    self.ask_state(false, send);
                }
                self.wants_jobs |= self.is_hopeless_without_jobs();
                Ok(None)
            }
            // Its files were read anew: its path may be another one.
            (MANAGER, "Reloading") if message.arguments().number() == Ok(0) => {
                self.begin(send);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn handle_changes(
        &mut self,
        message: &Message,
        send: Send<'_>,
    ) -> Result<Option<String>, Failure> {
        let mut arguments = message.arguments();
        let interface = arguments.text().unwrap_or_default();
        let mut active = None;
        let read = arguments.properties(&mut |name, value| match (interface, name, value) {
            (UNIT, "ActiveState", Value::Text(text)) => active = Some(text),
            (SERVICE, name, value) => self.set_service(name, &value),
            _ => {}
        });
        match active {
            Some(active) if read.is_ok() => self.judge(active, false),
            // It says that it has changed, but not into what.
            _ if interface == UNIT => {
                self.ask_state(false, send);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn set_service(&mut self, property: &str, value: &Value) {
        match (property, value) {
            ("Type", Value::Text(kind)) => self.kind.clone_from(kind),
            ("Result", Value::Text(result)) => self.result.clone_from(result),
            ("ExecMainExitTimestampMonotonic", Value::Number(time)) => self.has_run = *time > 0,
            _ => {}
        }
    }

    /// Asks in which state the unit is, and before that how its service has ended, for the answers come in this order.
    fn ask_state(&mut self, is_last: bool, send: Send<'_>) {
        let path = self.path.clone();
        if matches!(self.goal, Goal::Unit { finished: true, .. }) {
            for property in ["Type", "Result", "ExecMainExitTimestampMonotonic"] {
                self.get(&path, SERVICE, property, Asked::Service(property), send);
            }
        }
        self.get(&path, UNIT, "ActiveState", Asked::Active { is_last }, send);
    }

    fn get(&mut self, path: &str, interface: &str, name: &str, asked: Asked, send: Send<'_>) {
        if self.asked.len() >= ASKED_MAX {
            return;
        }
        let serial = send(&call(path, PROPERTIES, "Get", &[interface, name]));
        self.asked.insert(serial, asked);
    }

    /// Whether the unit's state is one that without jobs will not change.
    fn is_hopeless_without_jobs(&self) -> bool {
        match &self.goal {
            Goal::Unit {
                states, or_fail, ..
            } => *or_fail && self.active == "inactive" && !states.contains(&self.active),
            Goal::Boot => false,
        }
    }

    /// What the unit's state means; without jobs if that is known.
    fn judge(&mut self, active: String, has_no_jobs: bool) -> Result<Option<String>, Failure> {
        self.active = active;
        let Goal::Unit {
            name,
            states,
            or_fail,
            finished,
        } = &self.goal
        else {
            return Ok(None);
        };
        let has_finished = *finished
            && self.active == "inactive"
            && self.kind == "oneshot"
            && self.result == "success"
            && self.has_run;
        if states.contains(&self.active) || has_finished {
            return Ok(Some(self.active.clone()));
        }
        let hopeless = |message| Err(Failure::new(FailureKind::Hopeless, message));
        if *or_fail && self.active == "failed" {
            return hopeless(format!("unit \"{name}\" reached state \"failed\""));
        }
        if self.is_hopeless_without_jobs() {
            if has_no_jobs {
                return hopeless(format!(
                    "unit \"{name}\" is inactive and there are no pending jobs"
                ));
            }
            self.wants_jobs = true;
        }
        Ok(None)
    }
}

/// What the state of the system means for who waits for the end of its boot.
fn judge_system(state: String) -> Result<Option<String>, Failure> {
    match state.as_str() {
        "running" | "degraded" | "maintenance" => Ok(Some(state)),
        "stopping" => Err(Failure::new(
            FailureKind::Hopeless,
            "the system is shutting down",
        )),
        _ => Ok(None),
    }
}

fn is_unknown(error: &str) -> bool {
    matches!(
        error,
        "org.freedesktop.DBus.Error.UnknownObject" | "org.freedesktop.systemd1.NoSuchUnit"
    )
}

fn call<'a>(
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    arguments: &'a [&'a str],
) -> Call<'a> {
    Call {
        destination: SYSTEMD,
        path,
        interface,
        member,
        arguments,
    }
}
