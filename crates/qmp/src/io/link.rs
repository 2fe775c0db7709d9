//! A session and the socket that it goes over, without waiting: what both fronts do.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::state::{FILES_MAX, Over, Session, Transmit};
use crate::wire::{Event, Greeting};

/// How much is read from a socket at once, in bytes.
pub(super) const READ_SIZE: usize = 64 << 10;

/// What is waited for first, in the words of an error.
pub(super) const GREETING: &str = "the greeting";

/// A session, and the command that is being written.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: Session,
    current: Option<Transmit>,
    written: usize,
}

impl Link {
    /// Begins a session whose tag no other session of this host has now.
    pub(super) fn new() -> Link {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(&format!("hotbed-{}-{number}", process::id()));
        Link {
            session,
            current: None,
            written: 0,
        }
    }

    /// Gives what QEMU said when the session began, once negotiation is over; none yet.
    pub(super) fn negotiated(&mut self) -> Result<Option<Greeting>, Error> {
        match self.session.end(GREETING) {
            Some(error) => Err(error),
            None => Ok(self
                .session
                .greeting()
                .filter(|_| self.session.is_ready())
                .cloned()),
        }
    }

    /// Gives the events from a sequence number on, of which there is at least one; none yet.
    pub(super) fn fresh_events(&mut self, cursor: u64) -> Result<Option<Vec<Arc<Event>>>, Error> {
        let history = self.session.history();
        let lost = history.lost_since(cursor);
        if lost > 0 {
            return Err(Error::EventsLost { lost });
        }
        let fresh: Vec<Arc<Event>> = history.since(cursor).cloned().collect();
        match self.session.end("an event") {
            _ if !fresh.is_empty() => Ok(Some(fresh)),
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Says whether something waits for the socket to take more.
    pub(super) fn wants_to_write(&self) -> bool {
        self.current.is_some()
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) {
        loop {
            let Some(current) = self.current.take().or_else(|| self.session.poll_transmit()) else {
                return;
            };
            match send(socket, &current, self.written) {
                Ok(count) => {
                    self.written += count;
                    if self.written < current.bytes.len() {
                        self.current = Some(current);
                    } else {
                        self.written = 0;
                    }
                }
                Err(Errno::INTR) => self.current = Some(current),
                Err(Errno::AGAIN) => {
                    self.current = Some(current);
                    return;
                }
                // What QEMU said before it went is still to be read; the end comes after it.
                Err(Errno::PIPE | Errno::CONNRESET) => return self.written = 0,
                Err(error) => {
                    return self
                        .session
                        .handle_end(Over::Socket(Arc::new(error.into())));
                }
            }
        }
    }

    /// Takes what was read from the socket.
    pub(super) fn handle_received(&mut self, received: io::Result<Option<usize>>, buffer: &[u8]) {
        match received {
            Ok(None) => {}
            Ok(Some(0)) => self.session.handle_end(Over::Closed),
            Ok(Some(count)) => self.session.handle_bytes(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.session.handle_end(Over::Closed)
            }
            Err(error) => self.session.handle_end(Over::Socket(Arc::new(error))),
        }
    }
}

/// Gives duplicates of files, for QEMU to get.
pub(super) fn duplicates(fds: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Error> {
    let files = fds
        .iter()
        .map(BorrowedFd::try_clone_to_owned)
        .collect::<io::Result<_>>();
    files.map_err(Error::Socket)
}

/// Reads an answer as what the caller expects of it.
pub(super) fn read_answer<T: DeserializeOwned>(
    command: &str,
    answer: &RawValue,
) -> Result<T, Error> {
    serde_json::from_str(answer.get()).map_err(|source| Error::Answer {
        command: command.to_owned(),
        source,
    })
}

/// Gives arguments, unless they are `Null`.
pub(super) fn unless_null(arguments: &Value) -> Option<&Value> {
    Some(arguments).filter(|arguments| !arguments.is_null())
}

/// Reads what the socket has: how many bytes, or none for now. Files that come along are closed by the kernel.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((count, _)) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn send(socket: BorrowedFd<'_>, transmit: &Transmit, written: usize) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd<'_>> = transmit.files.iter().map(AsFd::as_fd).collect();
    if written == 0 && !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    let bytes = [IoSlice::new(&transmit.bytes[written..])];
    rustix::net::sendmsg(
        socket,
        &bytes,
        &mut ancillary,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}
