//! A socket that D-Bus messages come out of, and calls go into. It never blocks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::wire::{Call, Garbled, MESSAGE_MAX, Message, message_len};
use crate::wait::unix_socket;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;

/// What is read at a time, in bytes, and how often in one go.
const READ_LEN: usize = 32 << 10;
const READS_MAX: usize = 2;

/// The longest answer to who we are, in bytes.
const GREETING_MAX: usize = 4096;

/// As many bytes may wait to be sent: many more than any wait ever has.
const OUT_MAX: usize = 64 << 10;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) enum Lost {
    /// The other side has closed it, or the socket failed.
    Closed,
    /// The other side does not want us: what it said.
    Refused(String),
    /// The other side does not speak D-Bus.
    Garbled,
}

/// A connection.
pub(in crate::wait) struct Connection {
    socket: OwnedFd,
    /// What is to be sent.
    out: Vec<u8>,
    /// What came and was not yet taken.
    input: Vec<u8>,
    /// As much of the input was taken.
    taken: usize,
    /// As much of what comes belongs to a message that is too long.
    skip: usize,
    is_greeted: bool,
    is_closed: bool,
    serial: u32,
}

impl Connection {
    /// Connects to who listens at a path.
    pub(in crate::wait) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        unix_socket::connect(&socket, path)?;
        Ok(Self::new(socket))
    }

    /// Speaks over a socket that does not block. The kernel vouches for who we are.
    pub(in crate::wait) fn new(socket: OwnedFd) -> Self {
        let uid: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            socket,
            out: format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").into_bytes(),
            input: Vec::new(),
            taken: 0,
            skip: 0,
            is_greeted: false,
            is_closed: false,
            serial: 0,
        }
    }

    pub(in crate::wait) fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, !self.out.is_empty());
        watch(self.socket.as_fd(), flags);
    }

    /// Sends a call as soon as there is room, and says by which number its answer will be known.
    pub(in crate::wait) fn call(&mut self, call: &Call<'_>) -> u32 {
        // Zero is no number.
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        if self.out.len() < OUT_MAX {
            self.out.extend(call.encode(self.serial));
        } else {
            self.is_closed = true;
        }
        self.serial
    }

    /// Sends what there is to send, as far as there is room.
    pub(in crate::wait) fn flush(&mut self) {
        while !self.out.is_empty() && !self.is_closed {
            match rustix::net::send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // What has come before may still be read.
                Err(_) => self.out.clear(),
            }
        }
    }

    /// Sends what there is to send, and reads what there is to read, up to a bound.
    pub(in crate::wait) fn pump(&mut self) -> Result<(), Lost> {
        self.input.drain(..self.taken);
        self.taken = 0;
        self.flush();
        self.skip_long()?;
        let mut buffer = [0; READ_LEN];
        for _ in 0..READS_MAX {
            if self.is_closed || self.input.len() > MESSAGE_MAX {
                break;
            }
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => self.is_closed = true,
                Ok((len, _)) => {
                    let skipped = self.skip.min(len);
                    self.skip -= skipped;
                    self.input.extend(&buffer[skipped..len]);
                    self.greet()?;
                    self.skip_long()?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.is_closed = true,
            }
        }
        Ok(())
    }

    /// The next message that has come.
    pub(in crate::wait) fn next(&mut self) -> Result<Option<Message>, Lost> {
        loop {
            let rest = &self.input[self.taken..];
            let len = if self.is_greeted {
                message_len(rest).map_err(|Garbled| Lost::Garbled)?
            } else {
                None
            };
            match len {
                Some(len) if len <= rest.len() => {
                    self.taken += len;
                    if len > MESSAGE_MAX {
                        continue;
                    }
                    let message = Message::parse(&self.input[self.taken - len..self.taken]);
                    return message.map(Some).map_err(|Garbled| Lost::Garbled);
                }
                // What came before the end counts.
                Some(_) | None if self.is_closed => return Err(Lost::Closed),
                Some(_) | None => return Ok(None),
            }
        }
    }

    /// Reads the answer to who we are: a line, after which messages follow.
    fn greet(&mut self) -> Result<(), Lost> {
        if self.is_greeted {
            return Ok(());
        }
        let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") else {
            if self.input.len() > GREETING_MAX {
                return Err(Lost::Garbled);
            }
            return Ok(());
        };
        let line: Vec<u8> = self.input.drain(..end + 2).collect();
        if !line.starts_with(b"OK") {
            let line = String::from_utf8_lossy(&line);
            return Err(Lost::Refused(line.trim_end().to_owned()));
        }
        self.is_greeted = true;
        Ok(())
    }

    /// Drops what is in the input of a message that is too long, and remembers to skip its rest.
    fn skip_long(&mut self) -> Result<(), Lost> {
        if !self.is_greeted || self.taken > 0 {
            return Ok(());
        }
        let len = message_len(&self.input).map_err(|Garbled| Lost::Garbled)?;
        if let Some(len) = len.filter(|&len| len > MESSAGE_MAX) {
            let have = self.input.len().min(len);
            self.input.drain(..have);
            self.skip = len - have;
        }
        Ok(())
    }
}
