//! Waits that only an agent can do.

use std::time::Duration;

use hotbed_console::agent::wire::{FailureKind, Process, Wait};

use super::Machine;
use super::channel::{Event, refused};
use crate::call::now;
use crate::{Call, Error};

impl Machine {
    /// Waits for a line of the guest's journal in which the regular expression (in the syntax of Rust's `regex`) is found, and gives
    /// it. Lines of this boot that are there already count.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes, [`Error::Argument`] for what is no regular expression, [`Error::NoAgent`].
    pub fn wait_for_journal(
        &self,
        pattern: &str,
        unit: Option<&str>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let of = unit.map(|unit| format!(" of {unit}")).unwrap_or_default();
        let what = format!("{pattern:?} in the journal{of}");
        let wait = Wait::Journal {
            pattern: pattern.to_owned(),
            unit: unit.map(str::to_owned),
            past: true,
        };
        self.wait_by_agent(&what, &wait, timeout, call)
    }

    /// Waits until a program of this name (at most 15 bytes of it count) runs in the guest, or none does any more.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes, [`Error::NoAgent`].
    pub fn wait_for_process(
        &self,
        name: &str,
        running: bool,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let what = match running {
            true => format!("process {name}"),
            false => format!("the end of process {name}"),
        };
        let wait = Wait::Process {
            process: Process::Name(name.to_owned()),
            running,
        };
        self.wait_by_agent(&what, &wait, timeout, call).map(drop)
    }

    /// Has the agent answer, and no more: the way there and back.
    ///
    /// # Errors
    ///
    /// [`Error::NoAgent`], or when the guest is lost or the call ends before.
    pub fn ping(&self, call: &Call<'_>) -> Result<(), Error> {
        let run = self.connected(call)?;
        match self.awaited_conversation(&run, call)? {
            Some(conversation) => conversation.ping(call),
            None => Err(self.no_agent("a ping".to_owned(), run.agent.why_not())),
        }
    }

    fn wait_by_agent(
        &self,
        what: &str,
        wait: &Wait,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let begin = now();
        self.nested(&format!("waiting for {what}"), || {
            let run = self.connected(call)?;
            let event = match self.awaited_conversation(&run, call)? {
                Some(conversation) => conversation.wait(wait, begin, timeout, call)?,
                None => Event::Unknown,
            };
            match event {
                Event::Happened(found) => Ok(found),
                Event::Refused(FailureKind::Invalid, message) => Err(Error::Argument(message)),
                Event::Refused(kind, message) => Err(refused(self.name(), kind, &message)),
                Event::Unknown => {
                    Err(self.no_agent(format!("to wait for {what}"), run.agent.why_not()))
                }
            }
        })
    }

    fn no_agent(&self, what: String, why: String) -> Error {
        Error::NoAgent {
            what,
            machine: self.name().to_owned(),
            why,
        }
    }
}
