//! What a command reads: it lies here until its pipe takes it.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Leave to send more is given in pieces of this size, or when all was taken.
const CREDIT_STEP: u32 = 128 << 10;

/// The writing end of a command's standard input.
#[derive(Debug, Default)]
pub(crate) struct Input {
    fd: Option<OwnedFd>,
    queue: VecDeque<Vec<u8>>,
    written: usize,
    queued: usize,
    owed: u32,
    is_ended: bool,
    is_terminal: bool,
    /// Nobody reads any more: what comes goes nowhere.
    is_closed: bool,
}

impl Input {
    /// Gives it its pipe, or terminal, which does not block.
    pub(crate) fn open(&mut self, fd: OwnedFd, is_terminal: bool) {
        self.fd = Some(fd);
        self.is_terminal = is_terminal;
    }

    /// The descriptor, while it is open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// How many bytes wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Takes more, and whether it is the last.
    pub(crate) fn push(&mut self, bytes: &[u8], end: bool) {
        if !bytes.is_empty() && !self.is_ended {
            self.queued += bytes.len();
            self.queue.push_back(bytes.to_vec());
        }
        if end && !self.is_ended {
            self.is_ended = true;
            if self.is_terminal {
                self.queued += 1;
                self.queue.push_back(vec![END_OF_FILE]);
            }
        }
    }

    /// Writes what the pipe takes. Says for how much more there is leave, if it is worth saying.
    pub(crate) fn pump(&mut self) -> Option<u32> {
        while let Some(front) = self.queue.front() {
            let rest = &front[self.written..];
            let len = match &self.fd {
                Some(fd) if !self.is_closed => match rustix::io::write(fd, rest) {
                    Ok(len) => len,
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => break,
                    Err(_) => {
                        self.is_closed = true;
                        continue;
                    }
                },
                Some(_) => rest.len(),
                None => break,
            };
            self.written += len;
            self.queued -= len;
            self.owed = self
                .owed
                .saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
            if self.written == front.len() {
                self.queue.pop_front();
                self.written = 0;
            }
        }
        if self.queue.is_empty() && self.is_ended && !self.is_terminal {
            self.fd = None;
        }
        let is_due = self.owed >= CREDIT_STEP || (self.owed > 0 && self.queue.is_empty());
        (is_due && !self.is_ended).then(|| std::mem::take(&mut self.owed))
    }
}

/// What ends the input of a terminal.
const END_OF_FILE: u8 = 4;
