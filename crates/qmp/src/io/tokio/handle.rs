//! The task that reads, and what it shares with the callers.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{Interest, Ready};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::error::Error;
use crate::io::link::{GREETING, Link, READ_SIZE};
use crate::wire::Greeting;

/// What all clones of a client, and the commands that wait, hold together.
#[derive(Debug)]
pub(super) struct Handle {
    shared: Arc<Shared>,
    greeting: Greeting,
    /// Ends with the handle.
    _reader: Reader,
}

/// The task that reads; dropping this ends it.
#[derive(Debug)]
struct Reader(AbortHandle);

/// What the callers and the reading task share.
#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    /// Tells the reading task that there is something to write.
    wake: Notify,
    link: Mutex<Link>,
    /// Something came from QEMU, or the session ended.
    news: watch::Sender<()>,
}

impl Handle {
    /// Starts the task, and waits for the end of negotiation.
    pub(super) async fn open(
        stream: std::os::unix::net::UnixStream,
        until: Instant,
    ) -> Result<Handle, Error> {
        stream.set_nonblocking(true).map_err(Error::Socket)?;
        let socket = UnixStream::from_std(stream).map_err(Error::Socket)?;
        let link = Mutex::new(Link::new());
        let news = watch::Sender::new(());
        let shared = Arc::new(Shared {
            socket,
            wake: Notify::new(),
            link,
            news,
        });
        let reading = Arc::clone(&shared);
        let reader = Reader(tokio::spawn(async move { reading.read().await }).abort_handle());
        let greeting = shared.wait(until, Link::negotiated).await?;
        let greeting = greeting.ok_or_else(|| Error::Timeout {
            command: GREETING.to_owned(),
        })?;
        Ok(Handle {
            shared,
            greeting,
            _reader: reader,
        })
    }

    pub(super) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Link> {
        self.shared.lock()
    }

    /// Writes as much as the socket takes, and leaves the rest to the task.
    pub(super) fn flush(&self, link: &mut Link) {
        link.flush(self.shared.socket.as_fd());
        if link.wants_to_write() || link.session.end("").is_some() {
            self.shared.wake.notify_one();
        }
    }

    /// Gives what `look` finds, as soon as it finds something; none at `until`.
    pub(super) async fn wait<T>(
        &self,
        until: Instant,
        look: impl FnMut(&mut Link) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        self.shared.wait(until, look).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Link> {
        // A session is whole between any two of its methods: a caller's panic leaves nothing half done.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait<T>(
        &self,
        until: Instant,
        mut look: impl FnMut(&mut Link) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        // Subscribing comes before looking: what comes in between is news.
        let mut news = self.news.subscribe();
        loop {
            if let Some(found) = look(&mut self.lock())? {
                return Ok(Some(found));
            }
            if tokio::time::timeout_at(until.into(), news.changed())
                .await
                .is_err()
            {
                return Ok(None);
            }
        }
    }

    /// Reads, and writes what could not be written at once, until the session is over.
    async fn read(&self) {
        let mut buffer = vec![0; READ_SIZE];
        while self.read_once(&mut buffer).await {
            self.news.send_replace(());
        }
        self.news.send_replace(());
    }

    /// Waits until the socket has something or takes something; says whether the session goes on.
    async fn read_once(&self, buffer: &mut [u8]) -> bool {
        let mut interest = Interest::READABLE;
        if self.lock().wants_to_write() {
            interest |= Interest::WRITABLE;
        }
        let ready = tokio::select! {
            ready = self.socket.ready(interest) => ready,
            () = self.wake.notified() => Ok(Ready::EMPTY),
        };
        let received = match ready.and_then(|_| self.socket.try_read(buffer)) {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        };
        let mut link = self.lock();
        link.handle_received(received, buffer);
        // The error makes tokio wait until the socket takes more.
        let _ = self.socket.try_io(Interest::WRITABLE, || {
            link.flush(self.socket.as_fd());
            if link.wants_to_write() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        link.session.end("").is_none()
    }
}
