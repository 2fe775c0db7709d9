//! Waits for UNIX-domain sockets.
//!
//! That the file comes is an event; that somebody listens on it is not, but follows soon: so a socket that is there is tried with
//! short pauses. What counts is a connection, which goes through symbolic links and network namespaces as a client's does.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::file::Presence;
use super::{Failure, Watch, earlier, pause};

/// The pause between two attempts on a socket that is there.
const PAUSE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(15)];

/// The same, for who waits for it to close: the server has work with each.
const OPEN_PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// A socket that is to be listened on (or bound, for datagrams), or not to be.
pub(super) struct UnixSocketWatch {
    path: PathBuf,
    presence: Presence,
    kind: SocketType,
    is_wanted_open: bool,
    begin: Instant,
    next: Option<Instant>,
}

impl UnixSocketWatch {
    pub(super) fn new(
        path: &str,
        is_datagram: bool,
        is_wanted_open: bool,
        now: Instant,
    ) -> Result<Self, Failure> {
        let kind = if is_datagram {
            SocketType::DGRAM
        } else {
            SocketType::STREAM
        };
        Ok(Self {
            path: PathBuf::from(path),
            presence: Presence::new(path)?,
            kind,
            is_wanted_open,
            begin: now,
            next: None,
        })
    }
}

impl Watch for UnixSocketWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        earlier(self.presence.interest(watch), self.next)
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        let is_there = self.presence.look(now);
        let is_open = is_there && is_open(&self.path, self.kind)?;
        if is_open == self.is_wanted_open {
            return Ok(Some(String::new()));
        }
        let [min, max] = if is_open { OPEN_PAUSE } else { PAUSE };
        let elapsed = now.saturating_duration_since(self.begin);
        self.next = is_there.then(|| now + pause(elapsed, min, max));
        Ok(None)
    }
}

/// Whether a connection can be made now.
pub(super) fn is_open(path: &Path, kind: SocketType) -> Result<bool, Failure> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
        .map_err(|error| Failure::os("cannot make a socket", error))?;
    Ok(match connect(&socket, path) {
        // Somebody listens whose queue is full, or a datagram socket has chosen whom to hear.
        Ok(()) | Err(Errno::AGAIN | Errno::PERM) => true,
        Err(_) => false,
    })
}

/// Connects to a socket whose path may be longer than an address can be.
pub(super) fn connect(socket: impl std::os::fd::AsFd, path: &Path) -> Result<(), Errno> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return rustix::net::connect(socket, &address);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::NAMETOOLONG);
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mut short = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
    short.push::<&OsStr>(name);
    rustix::net::connect(socket, &SocketAddrUnix::new(Path::new(&short))?)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;
