//! The front for threads: calls wait, each until its deadline.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::connect::connect_when_there;
use super::link::{Link, READ_SIZE, receive};
use crate::commands::Command;
use crate::error::Error;
use crate::state::{CommandId, Over};
use crate::wire::{Event, Execution, Greeting};

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

/// What all clones of a client, and the commands that wait, hold together.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    greeting: Greeting,
    /// Ends with the handle.
    _reader: Reader,
}

/// The thread that reads; dropping this ends it.
#[derive(Debug)]
struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the callers and the reader thread share.
#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    /// Tells the reader thread that there is something to write.
    wake: OwnedFd,
    link: Mutex<Link>,
    /// Something came from QEMU, or the session ended.
    news: Condvar,
}

impl Client {
    /// Connects to the monitor at `path`, as soon as QEMU listens there, and negotiates.
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
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::Socket(error.into()))?;
        let shared = Arc::new(Shared {
            socket: stream,
            wake,
            link: Mutex::new(Link::new()),
            news: Condvar::new(),
        });
        let reader = Reader::start(&shared).map_err(Error::Socket)?;
        let greeting = shared.negotiated(until)?;
        Ok(Client {
            handle: Arc::new(Handle {
                shared,
                greeting,
                _reader: reader,
            }),
        })
    }

    /// Gives what QEMU said when the session began.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        &self.handle.greeting
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
        self.submit_as(Execution::InBand, command, some(&arguments), &[])?
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
        self.submit_as(Execution::OutOfBand, command, some(&arguments), &[])?
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
        self.submit_as(Execution::InBand, command, some(&arguments), fds)?
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
        self.submit_as(Execution::InBand, command, some(&arguments), fds)
    }

    fn submit_as<A: Serialize + ?Sized>(
        &self,
        execution: Execution,
        command: &str,
        arguments: Option<&A>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, Error> {
        let files = fds
            .iter()
            .map(BorrowedFd::try_clone_to_owned)
            .collect::<io::Result<Vec<_>>>();
        let files = files.map_err(Error::Socket)?;
        let shared = &self.handle.shared;
        let mut link = shared.lock();
        let id = link.session.submit(execution, command, arguments, files)?;
        shared.flush(&mut link);
        Ok(Pending {
            handle: Arc::clone(&self.handle),
            id,
            command: command.to_owned(),
        })
    }

    /// Gives the sequence number that the next event will have: where to begin to wait for what comes of what is
    /// done next.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.handle.shared.lock().session.history().cursor()
    }

    /// Gives the events that are kept, from a sequence number on. The first of them shows by its own number whether
    /// some were lost.
    #[must_use]
    pub fn events_since(&self, cursor: u64) -> Vec<Event> {
        let link = self.handle.shared.lock();
        link.session
            .history()
            .since(cursor)
            .map(|event| Event::clone(event))
            .collect()
    }

    /// Gives how many events, from a sequence number on, fell out of the bounded history.
    #[must_use]
    pub fn events_lost_since(&self, cursor: u64) -> u64 {
        self.handle
            .shared
            .lock()
            .session
            .history()
            .lost_since(cursor)
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
        let shared = &self.handle.shared;
        let mut next = cursor;
        let mut link = shared.lock();
        loop {
            let lost = link.session.history().lost_since(next);
            if lost > 0 {
                return Err(Error::EventsLost { lost });
            }
            let fresh: Vec<Arc<Event>> = link.session.history().since(next).cloned().collect();
            if !fresh.is_empty() {
                next = next.max(link.session.history().cursor());
                // The filter is the caller's, and may itself call the client.
                drop(link);
                if let Some(event) = fresh.iter().find(|event| filter(event)) {
                    return Ok(Some(Event::clone(event)));
                }
                link = shared.lock();
                continue;
            }
            if let Some(error) = link.session.end("an event") {
                return Err(error);
            }
            link = match shared.wait(link, until) {
                Some(link) => link,
                None => return Ok(None),
            };
        }
    }

    /// Waits until the session is over; says whether it is.
    #[must_use]
    pub fn wait_closed(&self, until: Instant) -> bool {
        let shared = &self.handle.shared;
        let mut link = shared.lock();
        while link.session.end("").is_none() {
            link = match shared.wait(link, until) {
                Some(link) => link,
                None => return false,
            };
        }
        true
    }

    /// Says whether the session is over: QEMU went away, broke the protocol, or the socket failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.shared.lock().session.end("").is_some()
    }
}

/// A command that was sent, and whose answer is still to come.
///
/// If it is dropped, the answer is let go; the command runs all the same.
#[derive(Debug)]
pub struct Pending {
    handle: Arc<Handle>,
    id: CommandId,
    command: String,
}

impl Pending {
    /// Gives the answer as soon as it comes; none at `until`, after which the caller may wait again.
    ///
    /// # Errors
    ///
    /// If QEMU refuses the command or goes away, or the answer was given already.
    pub fn wait(&mut self, until: Instant) -> Result<Option<Value>, Error> {
        self.wait_as(until)
    }

    /// Gives the command's name.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    fn wait_as<T: DeserializeOwned>(&mut self, until: Instant) -> Result<Option<T>, Error> {
        let Some(answer) = self.wait_raw(until)? else {
            return Ok(None);
        };
        let parsed = serde_json::from_str(answer.get());
        parsed.map(Some).map_err(|source| Error::Answer {
            command: self.command.clone(),
            source,
        })
    }

    fn wait_raw(&mut self, until: Instant) -> Result<Option<Box<RawValue>>, Error> {
        let shared = &self.handle.shared;
        let mut link = shared.lock();
        loop {
            if let Some(answer) = link.session.poll_answer(self.id, &self.command)? {
                return Ok(Some(answer));
            }
            link = match shared.wait(link, until) {
                Some(link) => link,
                None => return Ok(None),
            };
        }
    }

    fn finish<T: DeserializeOwned>(mut self, until: Instant) -> Result<T, Error> {
        self.wait_as(until)?.ok_or_else(|| Error::Timeout {
            command: self.command.clone(),
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.handle.shared.lock().session.abandon(self.id);
    }
}

impl Reader {
    fn start(shared: &Arc<Shared>) -> io::Result<Reader> {
        let reading = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || reading.read())?;
        Ok(Reader {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Either the thread ends by this, or it has ended.
        drop(self.shared.socket.shutdown(Shutdown::Both));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Link> {
        // A session is whole between any two of its methods: a caller's panic leaves nothing half done.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news; none if the deadline passed.
    fn wait<'a>(
        &'a self,
        link: MutexGuard<'a, Link>,
        until: Instant,
    ) -> Option<MutexGuard<'a, Link>> {
        let rest = until
            .checked_duration_since(Instant::now())
            .filter(|rest| !rest.is_zero())?;
        let waited = self.news.wait_timeout(link, rest);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn negotiated(&self, until: Instant) -> Result<Greeting, Error> {
        let mut link = self.lock();
        loop {
            if let Some(greeting) = link.session.greeting().filter(|_| link.session.is_ready()) {
                return Ok(greeting.clone());
            }
            if let Some(error) = link.session.end("the greeting") {
                return Err(error);
            }
            link = match self.wait(link, until) {
                Some(link) => link,
                None => {
                    return Err(Error::Timeout {
                        command: "the greeting".to_owned(),
                    });
                }
            };
        }
    }

    /// Writes as much as the socket takes, and leaves the rest to the reader thread.
    fn flush(&self, link: &mut Link) {
        link.flush(self.socket.as_fd());
        if link.session.end("").is_some() {
            drop(self.socket.shutdown(Shutdown::Both));
        } else if link.wants_to_write() {
            // Fails only if the counter is full, and then the thread is awake.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Reads, and writes what could not be written at once, until the session is over.
    fn read(&self) {
        let mut buffer = vec![0; READ_SIZE];
        let mut is_open = true;
        while is_open {
            let events = match self.lock().wants_to_write() {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            };
            let mut polled = [
                PollFd::new(&self.socket, events),
                PollFd::new(&self.wake, PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    self.lock()
                        .session
                        .handle_end(Over::Socket(Arc::new(error.into())));
                    break;
                }
            }
            if polled[1].revents().contains(PollFlags::IN) {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            }
            let received = receive(self.socket.as_fd(), &mut buffer);
            let mut link = self.lock();
            is_open = link.fill(received, &buffer);
            link.flush(self.socket.as_fd());
            drop(link);
            self.news.notify_all();
        }
        drop(self.socket.shutdown(Shutdown::Both));
        self.news.notify_all();
    }
}

/// Gives arguments, unless they are `Null`.
fn some(arguments: &Value) -> Option<&Value> {
    Some(arguments).filter(|arguments| !arguments.is_null())
}
