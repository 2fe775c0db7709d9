//! The way to the agent of one run of QEMU, for as long as there is one.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hotbed_console::agent::{Agent, Error as AgentError, Hello};

use crate::call::now;
use crate::process::wait_readable;

/// How long a shell of the last boot may be there after it was told to reboot.
const REBOOT: Duration = Duration::from_secs(20);
/// How often is looked whether a guest that is to reboot has done so.
const LOOK: Duration = Duration::from_millis(10);

/// The way to an agent.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None when there is no port, or what is at its other end is of no use in this run.
    agent: Option<Agent>,
    /// Why it is of no use.
    why_not: String,
    /// The boot in which it was found to be there.
    boot: Option<String>,
    /// A boot that is about to end: its agent does not count any more.
    ending: Option<String>,
}

impl Link {
    /// A link over QEMU's end of the port, if there is a port.
    pub(crate) fn new(stream: Option<UnixStream>) -> Self {
        let (agent, why_not) = match stream.map(Agent::new) {
            None => (None, "it has no port for one".to_owned()),
            Some(Ok(agent)) => (Some(agent), String::new()),
            Some(Err(error)) => (None, error.to_string()),
        };
        Self {
            state: Mutex::new(State {
                agent,
                why_not,
                boot: None,
                ending: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an agent may still answer.
    pub(crate) fn is_open(&self) -> bool {
        self.state().agent.is_some()
    }

    /// Why there is no agent.
    pub(crate) fn why_not(&self) -> String {
        let state = self.state();
        if state.agent.is_some() {
            "none has answered".to_owned()
        } else {
            state.why_not.clone()
        }
    }

    /// Waits for an agent of a boot that is not about to end.
    pub(crate) fn poll_ready(&self, until: Instant) -> Option<(Agent, Hello)> {
        let (agent, ending) = {
            let state = self.state();
            (state.agent.clone()?, state.ending.clone())
        };
        match agent.poll_ready(until) {
            Ok(Some(hello)) if ending.as_ref() == Some(&hello.boot_id) => {
                // Nothing tells when it will be gone.
                let _ = wait_readable::<BorrowedFd<'_>>(&[], until.min(now() + LOOK));
                None
            }
            Ok(Some(hello)) => Some((agent, hello)),
            Ok(None) => None,
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// The guest takes commands now: notes whose boot this is.
    pub(crate) fn begin_boot(&self, hello: Option<&Hello>) {
        let mut state = self.state();
        state.boot = hello.map(|hello| hello.boot_id.clone());
        state.ending = None;
    }

    /// Whether that boot is over, though nobody asked for its end.
    pub(crate) fn is_other_boot(&self, hello: &Hello) -> bool {
        let mut state = self.state();
        let boot = state.boot.get_or_insert_with(|| hello.boot_id.clone());
        *boot != hello.boot_id
    }

    /// How long to wait for the agent of a guest whose shell is there: not at all, but while an end of the last boot is waited for. Then
    /// it may be the last boot's shell.
    pub(crate) fn patience(&self) -> Duration {
        match self.state().ending {
            Some(_) => REBOOT,
            None => Duration::ZERO,
        }
    }

    /// The guest is about to boot again.
    pub(crate) fn expect_boot(&self, now: Instant) {
        // It may have answered after the guest took its first commands.
        let present = self.poll_ready(now).map(|(_, hello)| hello.boot_id);
        let mut state = self.state();
        state.ending = state.boot.take().or(present);
    }

    /// Does without an agent for the rest of the run.
    pub(crate) fn give_up(&self, error: &AgentError) {
        let mut state = self.state();
        state.why_not = error.to_string();
        state.agent = None;
    }
}
