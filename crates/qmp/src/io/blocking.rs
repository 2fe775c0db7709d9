//! The front for threads: calls wait, each until its deadline.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::connect::connect_when_there;
use super::link::{GREETING, unless_null};
use crate::commands::Command;
use crate::error::Error;
use crate::wire::{Event, Execution, Greeting};

mod handle;
mod pending;

use handle::Handle;
pub use handle::Opening;
pub use pending::Pending;

/// A session with a QEMU, for many threads at once.
///
/// Clones are the same session, which ends with the last of them. A thread of its own reads all that QEMU sends, so
/// that events are kept from the first on, whether or not somebody waits.
///
/// ```
/// use std::time::{Duration, Instant};
/// use hotbed_qmp::{blocking::Client, commands::QueryStatus, fake::FakeQemu};
///
/// let (_qemu, socket) = FakeQemu::pair(|request| match request.command.as_str() {
///     "query-status" => serde_json::json!({"running": true, "status": "running"}).into(),
///     _ => FakeQemu::unknown_command(request),
/// })?;
/// let soon = Instant::now() + Duration::from_secs(5);
/// let client = Client::from_stream(socket, soon)?;
/// assert!(client.call(&QueryStatus {}, soon)?.running);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl Client {
    /// Connects to the monitor at `path`, as soon as QEMU listens there, and negotiates.
    ///
    /// Start QEMU with `server=on,wait=on`: it then waits for its client before it sets the monitor up. With
    /// `wait=off` the two race in QEMU, which greets twice (a session copes with that) or, seen with QEMU 7.2 on a
    /// busy host, never.
    ///
    /// # Errors
    ///
    /// If QEMU does not listen or does not greet by `until`, or what listens there does not speak QMP.
    pub fn connect(path: &Path, until: Instant) -> Result<Client, Error> {
        Client::from_stream(connect_when_there(path, until)?, until)
    }

    /// Negotiates over a socket that is connected already.
    ///
    /// # Errors
    ///
    /// If the other end does not greet by `until`, or does not speak QMP.
    pub fn from_stream(stream: UnixStream, until: Instant) -> Result<Client, Error> {
        let client = Client::begin(stream)?.wait(until)?;
        client.ok_or_else(|| Error::Timeout {
            command: GREETING.to_owned(),
        })
    }

    /// Begins to negotiate over a socket that is connected already, and leaves waiting to the caller.
    ///
    /// # Errors
    ///
    /// If the host has no more files or threads.
    pub fn begin(stream: UnixStream) -> Result<Opening, Error> {
        Opening::begin(stream)
    }

    /// Gives what QEMU said when the session began.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        self.handle.greeting()
    }

    /// Runs a command that has a type, and gives its answer.
    ///
    /// # Errors
    ///
    /// If QEMU refuses the command, goes away, or does not answer by `until`.
    pub fn call<C: Command>(&self, command: &C, until: Instant) -> Result<C::Answer, Error> {
        self.call_as(Execution::InBand, command, until)
    }

    /// Runs a command that has a type at once, whatever QEMU is busy with.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); and if the monitor does not offer this. QEMU refuses most commands here: see
    /// [`Schema::is_out_of_band`](crate::schema::Schema::is_out_of_band).
    pub fn call_oob<C: Command>(&self, command: &C, until: Instant) -> Result<C::Answer, Error> {
        self.call_as(Execution::OutOfBand, command, until)
    }

    fn call_as<C: Command>(
        &self,
        execution: Execution,
        command: &C,
        until: Instant,
    ) -> Result<C::Answer, Error> {
        let file = command.file();
        self.submit_as(execution, C::NAME, Some(command), file.as_slice())?
            .finish(until)
    }

    /// Runs any command, by name, and gives its answer. Arguments that are `Null` are not sent.
    ///
    /// # Errors
    ///
    /// If QEMU refuses the command, goes away, or does not answer by `until`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the arguments in place with `json!`"
    )]
    pub fn execute(&self, command: &str, arguments: Value, until: Instant) -> Result<Value, Error> {
        self.submit_as(Execution::InBand, command, unless_null(&arguments), &[])?
            .finish(until)
    }

    /// Runs any command at once, whatever QEMU is busy with.
    ///
    /// # Errors
    ///
    /// As [`execute`](Client::execute); and if the monitor does not offer this.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the arguments in place with `json!`"
    )]
    pub fn execute_oob(
        &self,
        command: &str,
        arguments: Value,
        until: Instant,
    ) -> Result<Value, Error> {
        self.submit_as(Execution::OutOfBand, command, unless_null(&arguments), &[])?
            .finish(until)
    }

    /// Runs any command with open files beside it, of which QEMU gets duplicates.
    ///
    /// # Errors
    ///
    /// As [`execute`](Client::execute); and if the files are too many, or cannot be duplicated.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the arguments in place with `json!`"
    )]
    pub fn execute_with_fds(
        &self,
        command: &str,
        arguments: Value,
        fds: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<Value, Error> {
        self.submit_as(Execution::InBand, command, unless_null(&arguments), fds)?
            .finish(until)
    }

    /// Sends any command, and leaves waiting for its answer to the caller.
    ///
    /// # Errors
    ///
    /// If the session is over, too much is waiting for QEMU already, or the command cannot be sent at all.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the arguments in place with `json!`"
    )]
    pub fn submit(
        &self,
        command: &str,
        arguments: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, Error> {
        self.submit_as(Execution::InBand, command, unless_null(&arguments), fds)
    }

    fn submit_as<A: Serialize + ?Sized>(
        &self,
        execution: Execution,
        command: &str,
        arguments: Option<&A>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, Error> {
        Pending::submit(&self.handle, execution, command, arguments, fds)
    }

    /// Gives the sequence number that the next event will have: where to begin to wait for what comes of what is
    /// done next.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.handle.lock().session.history().cursor()
    }

    /// Gives the events that are kept, from a sequence number on. The first of them shows by its own number whether
    /// some were lost.
    #[must_use]
    pub fn events_since(&self, cursor: u64) -> Vec<Event> {
        let link = self.handle.lock();
        link.session
            .history()
            .since(cursor)
            .map(|event| Event::clone(event))
            .collect()
    }

    /// Gives how many events, from a sequence number on, fell out of the bounded history.
    #[must_use]
    pub fn events_lost_since(&self, cursor: u64) -> u64 {
        self.handle.lock().session.history().lost_since(cursor)
    }

    /// Gives the first event from a sequence number on that `filter` takes, as soon as there is one; none at `until`.
    ///
    /// Events that came before the call count. To wait on, pass the sequence number of the last event plus one.
    ///
    /// # Errors
    ///
    /// If QEMU is gone and none of the events is the one; or if events were lost, so that it may have been among
    /// them.
    pub fn wait_event(
        &self,
        cursor: u64,
        filter: &mut dyn FnMut(&Event) -> bool,
        until: Instant,
    ) -> Result<Option<Event>, Error> {
        let mut next = cursor;
        loop {
            let events = self.handle.wait(until, |link| link.fresh_events(next))?;
            let Some(events) = events else {
                return Ok(None);
            };
            // The filter runs without the lock: it is the caller's, and may itself call the client.
            for event in events {
                next = event.sequence + 1;
                if filter(&event) {
                    return Ok(Some(Event::clone(&event)));
                }
            }
        }
    }

    /// Waits until the session is over; says whether it is.
    #[must_use]
    pub fn wait_closed(&self, until: Instant) -> bool {
        let over = self
            .handle
            .wait(until, |link| Ok(link.session.end("").map(drop)));
        matches!(over, Ok(Some(())))
    }

    /// Says whether the session is over: QEMU went away, broke the protocol, or the socket failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.lock().session.end("").is_some()
    }
}
