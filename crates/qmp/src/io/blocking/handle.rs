//! The thread that reads, and what it shares with the callers.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::Client;
use crate::error::Error;
use crate::io::link::{GREETING, Link, READ_SIZE, receive};
use crate::state::Over;
use crate::wire::Greeting;

/// What all clones of a client, and the commands that wait, hold together.
#[derive(Debug)]
pub(super) struct Handle {
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

/// What the callers and the reading thread share.
#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    /// Tells the reading thread that there is something to write.
    wake: OwnedFd,
    link: Mutex<Link>,
    /// Something came from QEMU, or the session ended.
    news: Condvar,
}

/// A session that is being opened: QEMU is still to greet, or to end negotiation.
///
/// If it is dropped, the session is given up.
#[derive(Debug)]
pub struct Opening {
    shared: Arc<Shared>,
    /// Goes to the session when it is open.
    reader: Option<Reader>,
}

impl Opening {
    /// Starts the thread.
    pub(super) fn begin(socket: UnixStream) -> Result<Opening, Error> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::Socket(error.into()))?;
        let link = Mutex::new(Link::new());
        let shared = Arc::new(Shared {
            socket,
            wake,
            link,
            news: Condvar::new(),
        });
        let reader = Reader::start(&shared).map_err(Error::Socket)?;
        Ok(Opening {
            shared,
            reader: Some(reader),
        })
    }

    /// Gives the client as soon as negotiation is over; none at `until`, after which the caller may wait again.
    ///
    /// # Errors
    ///
    /// If the other end goes away or does not speak QMP, or the client was given already.
    pub fn wait(&mut self, until: Instant) -> Result<Option<Client>, Error> {
        let Some(greeting) = self.shared.wait(until, Link::negotiated)? else {
            return Ok(None);
        };
        let reader = self.reader.take().ok_or_else(|| Error::Answered {
            command: GREETING.to_owned(),
        })?;
        let shared = Arc::clone(&self.shared);
        Ok(Some(Client {
            handle: Arc::new(Handle {
                shared,
                greeting,
                _reader: reader,
            }),
        }))
    }
}

impl Handle {
    pub(super) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Link> {
        self.shared.lock()
    }

    /// Writes as much as the socket takes, and leaves the rest to the thread.
    pub(super) fn flush(&self, link: &mut Link) {
        link.flush(self.shared.socket.as_fd());
        if link.session.end("").is_some() {
            // The thread sees this as the end.
            drop(self.shared.socket.shutdown(Shutdown::Both));
        } else if link.wants_to_write() {
            // Fails only if the counter is full, and then the thread is awake.
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Gives what `look` finds, as soon as it finds something; none at `until`.
    pub(super) fn wait<T>(
        &self,
        until: Instant,
        look: impl FnMut(&mut Link) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        self.shared.wait(until, look)
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

    fn wait<T>(
        &self,
        until: Instant,
        mut look: impl FnMut(&mut Link) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let mut link = self.lock();
        loop {
            if let Some(found) = look(&mut link)? {
                return Ok(Some(found));
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(None);
            }
            link = self
                .news
                .wait_timeout(link, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Reads, and writes what could not be written at once, until the session is over.
    fn read(&self) {
        let mut buffer = vec![0; READ_SIZE];
        while self.read_once(&mut buffer) {
            self.news.notify_all();
        }
        drop(self.socket.shutdown(Shutdown::Both));
        self.news.notify_all();
    }

    /// Waits until the socket has something or takes something; says whether the session goes on.
    fn read_once(&self, buffer: &mut [u8]) -> bool {
        let mut events = PollFlags::IN;
        if self.lock().wants_to_write() {
            events |= PollFlags::OUT;
        }
        let mut polled = [
            PollFd::new(&self.socket, events),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        if let Err(error) = poll(&mut polled, None)
            && error != Errno::INTR
        {
            self.lock()
                .session
                .handle_end(Over::Socket(Arc::new(error.into())));
            return false;
        }
        if polled[1].revents().contains(PollFlags::IN) {
            // There is nothing in it but the news that it was written to.
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        let received = receive(self.socket.as_fd(), buffer);
        let mut link = self.lock();
        link.handle_received(received, buffer);
        link.flush(self.socket.as_fd());
        link.session.end("").is_none()
    }
}
