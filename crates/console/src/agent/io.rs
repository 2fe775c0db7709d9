//! Reads and writes the stream to the agent, with deadlines. The only file that may block.

use super::Error;
use super::state::{Hello, Outcome, Phase, Session};
use super::wire::{Command, Decoder, Id, Put, Request, System, Wait};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

mod operation;
#[cfg(test)]
mod tests;

pub use operation::{Getting, Putting, Running, Waiting};

/// The greeting is sent again at this pace until it is answered.
const GREETING_INTERVAL: Duration = Duration::from_secs(1);

/// A frame that goes on after such a pause may have been cut off.
const QUIET: Duration = Duration::from_millis(200);

/// An agent, over the stream of the chardev behind its virtio port.
///
/// It may be used from many threads at once, and cloned: all clones are the same. The stream is closed with the last one, and the last
/// operation. Every call that waits takes the moment `until` when it gives up; nothing is lost then, and the same call goes on where
/// it was.
#[derive(Debug, Clone)]
pub struct Agent {
    handle: Arc<Handle>,
}

/// What ends the reader.
#[derive(Debug)]
struct Handle {
    link: Arc<Link>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.link.lock().session.handle_end(Error::Closed);
        let _ = self.link.stream.shutdown(Shutdown::Both);
        self.link.wake_reader();
    }
}

/// What callers and the reader share.
#[derive(Debug)]
struct Link {
    stream: UnixStream,
    waker: OwnedFd,
    state: Mutex<State>,
    /// For the greeting's answer, and the end.
    greeted: Condvar,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// Who waits for what.
    signals: BTreeMap<Id, Arc<Condvar>>,
    /// The reader was told that there is something to send.
    is_reader_woken: bool,
}

impl Agent {
    /// Takes the stream over, and greets. It does not wait for the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when the stream cannot be switched to non-blocking, or there can be no more threads.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        stream.set_nonblocking(true)?;
        let link = Arc::new(Link {
            stream,
            waker: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(std::io::Error::from)?,
            state: Mutex::new(State {
                // The standard library's hash keys are the random numbers at hand.
                session: Session::new(RandomState::new().hash_one(0).max(1)),
                signals: BTreeMap::new(),
                is_reader_woken: false,
            }),
            greeted: Condvar::new(),
        });
        let weak = Arc::downgrade(&link);
        let builder = std::thread::Builder::new().name("agent".to_owned());
        builder.spawn(move || read(&weak))?;
        Ok(Self {
            handle: Arc::new(Handle { link }),
        })
    }

    /// Waits until the agent has answered. `Ok(None)` at `until`. Once it has, this returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Version`], [`Error::Garbled`], [`Error::Socket`].
    pub fn poll_ready(&self, until: Instant) -> Result<Option<Hello>, Error> {
        let link = &self.handle.link;
        let mut state = link.lock();
        loop {
            match &state.session.phase {
                Phase::Ready(hello) => return Ok(Some(hello.clone())),
                Phase::Over(error) => return Err(error.clone()),
                Phase::Greeting => {}
            }
            let Some(left) = left(until) else {
                return Ok(None);
            };
            let waited = link.greeted.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the agent has answered and is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.handle.link.lock().session.phase, Phase::Ready(_))
    }

    /// Has the agent answer, and no more. `Ok(None)` at `until`.
    ///
    /// # Errors
    ///
    /// As of a [`Waiting`].
    pub fn ping(&self, until: Instant) -> Result<Option<()>, Error> {
        let waiting = Waiting(self.begin(false, &[], |id| Request::Ping { id })?);
        Ok(waiting.poll(until)?.map(|_| ()))
    }

    /// Starts a command. The script is what [`Program::Script`](super::wire::Program::Script) runs, else empty.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`], [`Error::TooLarge`], [`Error::Backlog`], and what ended the session.
    pub fn start(&self, command: &Command, script: &[u8]) -> Result<Running, Error> {
        let started = self.begin(command.detached, script, |id| Request::Start {
            id,
            command: command.clone(),
        })?;
        Ok(Running(started))
    }

    /// Begins to wait for something; with a timeout, the agent gives up by itself then.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn wait(&self, wait: Wait, timeout: Option<Duration>) -> Result<Waiting, Error> {
        let timeout_ms = timeout.map(|time| time.as_millis().try_into().unwrap_or(u64::MAX));
        let begun = self.begin(false, &[], |id| Request::Wait {
            id,
            wait,
            timeout_ms,
        })?;
        Ok(Waiting(begun))
    }

    /// Begins to put a file or folder.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn put(&self, put: Put) -> Result<Putting, Error> {
        Ok(Putting(
            self.begin(false, &[], |id| Request::Put { id, put })?,
        ))
    }

    /// Begins to get a file or folder.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn get(&self, path: &str) -> Result<Getting, Error> {
        let path = path.to_owned();
        let begun = self.begin(false, &[], |id| Request::Get { id, path })?;
        Ok(Getting(begun))
    }

    /// Has something done to the guest itself. The payload is what [`System::AddEntropy`] takes, else empty.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn system(&self, action: System, payload: &[u8]) -> Result<Waiting, Error> {
        let begun = self.begin(false, payload, |id| Request::System { id, action })?;
        Ok(Waiting(begun))
    }

    fn begin(
        &self,
        is_detached: bool,
        payload: &[u8],
        request: impl FnOnce(Id) -> Request,
    ) -> Result<operation::Begun, Error> {
        let link = &self.handle.link;
        let mut state = link.lock();
        let id = state.session.begin(is_detached, payload, request)?;
        let signal = Arc::new(Condvar::new());
        state.signals.insert(id, Arc::clone(&signal));
        link.transmit(&mut state);
        drop(state);
        Ok(operation::Begun::new(self.clone(), id, signal))
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the stream takes; the rest is the reader's to send.
    fn transmit(&self, state: &mut State) {
        while !state.session.poll_transmit().is_empty() {
            match send(
                &self.stream,
                state.session.poll_transmit(),
                SendFlags::NOSIGNAL,
            ) {
                Ok(len) => state.session.handle_sent(len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !state.is_reader_woken {
                        state.is_reader_woken = true;
                        self.wake_reader();
                    }
                    return;
                }
                // What the guest said before it went away is still to be read.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    let waiting = state.session.poll_transmit().len();
                    state.session.handle_sent(waiting);
                }
                Err(error) => {
                    let error = Error::from(std::io::Error::from(error));
                    self.end(state, error);
                }
            }
        }
    }

    fn wake_reader(&self) {
        let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
    }

    /// Ends the session and tells everybody.
    fn end(&self, state: &mut State, error: Error) {
        state.session.handle_end(error);
        self.greeted.notify_all();
        for signal in state.signals.values() {
            signal.notify_all();
        }
    }
}

/// What the reader's thread does: it takes what comes, and sends what could not be sent at once.
fn read(link: &Weak<Link>) {
    let mut decoder = Decoder::new();
    let mut last_greeting = Instant::now();
    while let Some(link) = link.upgrade() {
        let (wants_out, timeout) = {
            let mut state = link.lock();
            state.is_reader_woken = !state.session.poll_transmit().is_empty();
            match state.session.phase {
                Phase::Over(_) => return,
                Phase::Greeting if last_greeting.elapsed() >= GREETING_INTERVAL => {
                    last_greeting = Instant::now();
                    state.session.greet();
                    link.transmit(&mut state);
                }
                _ => {}
            }
            let timeout = match state.session.phase {
                _ if decoder.is_undecided() => Some(QUIET),
                Phase::Greeting => Some(GREETING_INTERVAL),
                _ => None,
            };
            (state.is_reader_woken, timeout)
        };
        let is_quiet = !wait(&link, wants_out, timeout);
        let mut state = link.lock();
        link.transmit(&mut state);
        drop(state);
        receive(&link, &mut decoder, is_quiet);
    }
}

/// Waits until there is something to read or to send; says whether there is, or only some time has passed.
fn wait(link: &Link, wants_out: bool, timeout: Option<Duration>) -> bool {
    let mut flags = PollFlags::IN;
    if wants_out {
        flags |= PollFlags::OUT;
    }
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(1),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let mut fds = [
        PollFd::new(&link.stream, flags),
        PollFd::new(&link.waker, PollFlags::IN),
    ];
    let count = poll(&mut fds, timeout.as_ref());
    if fds[1].revents().contains(PollFlags::IN) {
        let _ = rustix::io::read(&link.waker, &mut [0; 8]);
    }
    count.is_ok_and(|count| count > 0)
}

/// Takes what there is.
fn receive(link: &Link, decoder: &mut Decoder, is_quiet: bool) {
    let end = match recv(&link.stream, decoder.space(), RecvFlags::empty()) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Some(Error::Closed),
        Ok((len, _)) => {
            decoder.handle_read(len);
            None
        }
        Err(Errno::AGAIN) if is_quiet && decoder.handle_quiet() => None,
        Err(Errno::AGAIN | Errno::INTR) => return,
        Err(error) => Some(Error::from(std::io::Error::from(error))),
    };
    let mut state = link.lock();
    let mut came: Vec<Id> = Vec::new();
    state.session.handle_input(decoder, &mut |id| {
        if came.last() != Some(&id) {
            came.push(id);
        }
    });
    link.transmit(&mut state);
    if let Some(error) = end {
        link.end(&mut state, error);
    }
    if !matches!(state.session.phase, Phase::Greeting) {
        link.greeted.notify_all();
    }
    for id in came {
        if let Some(signal) = state.signals.get(&id) {
            signal.notify_all();
        }
    }
}

/// How long it is until then, if it is not over.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// An operation ended in a way that is none of its kind's.
fn unexpected(outcome: &Outcome) -> Error {
    Error::Garbled(format!("an operation of another kind ended: {outcome:?}"))
}
