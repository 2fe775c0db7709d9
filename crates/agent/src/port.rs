//! The port to the host: a virtio port, or a unix socket in its place.
//!
//! The host may close it and open it again at any time, unnoticed even. What is read goes to the decoder's own memory, what is to be
//! sent lies in one buffer.

use hotbed_console::agent::wire::{Decoder, PORT_NAME};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// As long as more than this is to be sent, nothing is read from commands and files.
pub(crate) const OUT_MAX: usize = 512 << 10;

/// The port.
#[derive(Debug)]
pub(crate) struct Port {
    path: Option<PathBuf>,
    fd: Option<OwnedFd>,
    pub(crate) decoder: Decoder,
    pub(crate) out: Vec<u8>,
    sent: usize,
    is_readable: bool,
    is_writable: bool,
}

/// What reading the port gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Bytes,
    Nothing,
    /// The host is away.
    Hangup,
}

impl Port {
    /// Makes a port that is not open. Without a path it is looked for by its name.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            fd: None,
            decoder: Decoder::new(),
            out: Vec::with_capacity(OUT_MAX),
            sent: 0,
            is_readable: false,
            is_writable: false,
        }
    }

    /// The descriptor, while the port is open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Opens the port, if it is there.
    pub(crate) fn open(&mut self) -> bool {
        let path = self.path.clone().or_else(find);
        self.fd = path.and_then(|path| open(&path));
        (self.is_readable, self.is_writable) = (true, true);
        self.fd.is_some()
    }

    /// Closes it.
    pub(crate) fn close(&mut self) {
        self.fd = None;
        self.forget();
        self.decoder.reset();
    }

    /// Forgets what is to be sent.
    pub(crate) fn forget(&mut self) {
        self.out.clear();
        self.sent = 0;
    }

    /// How much is to be sent.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Takes note of what epoll says.
    pub(crate) fn handle_ready(&mut self, readable: bool, writable: bool) {
        self.is_readable |= readable;
        self.is_writable |= writable;
    }

    /// Reads what there is, as much as there is room for.
    pub(crate) fn read(&mut self) -> Came {
        let Some(fd) = &self.fd else {
            return Came::Nothing;
        };
        let mut came = Came::Nothing;
        // A virtio port gives a page at a time.
        while self.is_readable {
            let space = self.decoder.space();
            if space.is_empty() {
                break;
            }
            let room = space.len();
            match rustix::io::read(fd, space) {
                Ok(0) => {
                    self.is_readable = false;
                    return Came::Hangup;
                }
                Ok(len) => {
                    self.decoder.handle_read(len);
                    came = Came::Bytes;
                    if room - len < ROOM_MIN {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_readable = false,
                Err(_) => {
                    self.is_readable = false;
                    return Came::Hangup;
                }
            }
        }
        came
    }

    /// Sends what the host takes. Says whether it is there.
    pub(crate) fn flush(&mut self) -> bool {
        let Some(fd) = &self.fd else {
            return true;
        };
        while self.is_writable && self.sent < self.out.len() {
            match rustix::io::write(fd, &self.out[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_writable = false,
                Err(_) => return false,
            }
        }
        if self.sent == self.out.len() {
            self.forget();
        } else if self.sent > OUT_MAX {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        true
    }
}

/// With less room than this, what was read is looked at first.
const ROOM_MIN: usize = 4096;

fn open(path: &Path) -> Option<OwnedFd> {
    if std::fs::metadata(path).ok()?.file_type().is_socket() {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_nonblocking(true).ok()?;
        return Some(stream.into());
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Finds the port by its name.
fn find() -> Option<PathBuf> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports").ok()? {
        let entry = entry.ok()?;
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return Some(Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}
