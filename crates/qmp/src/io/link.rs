//! A session and the socket that it goes over, without waiting: what both fronts do.

use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::state::{FILES_MAX, Over, Session, Transmit};

/// How much is read from a socket at once, in bytes.
pub(super) const READ_SIZE: usize = 64 << 10;

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

    /// Reads once from the socket into the session; says whether more may come.
    pub(super) fn fill(&mut self, received: io::Result<Option<usize>>, buffer: &[u8]) -> bool {
        match received {
            Ok(None) => {}
            Ok(Some(0)) => self.session.handle_end(Over::Closed),
            Ok(Some(count)) => self.session.handle_bytes(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.session.handle_end(Over::Closed)
            }
            Err(error) => self.session.handle_end(Over::Socket(Arc::new(error))),
        }
        self.session.end("").is_none()
    }
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
