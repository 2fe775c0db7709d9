//! What a command writes, from its pipe into frames.

use crate::port::{OUT_MAX, Port};
use hotbed_console::agent::wire::{Event, Id, OpenFrame, Stream};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// What is read at first: most commands write little.
const FIRST_READ: usize = 4 << 10;

/// What is read when there is more.
const READ_MAX: usize = 128 << 10;

/// The size of a pipe whose command writes much.
const PIPE_SIZE: usize = 512 << 10;

/// The most that one turn takes from one pipe: then others have theirs.
const TURN_MAX: usize = 256 << 10;

/// The reading end of a command's pipe, or its terminal.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) fd: OwnedFd,
    is_ready: bool,
    is_ended: bool,
    is_large: bool,
}

/// Why no more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// All writers have closed it.
    End,
    /// There is no more for now.
    Empty,
    /// There may be more, but it must wait.
    Blocked,
}

impl Output {
    /// Takes a descriptor that does not block.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            is_ready: true,
            is_ended: false,
            is_large: false,
        }
    }

    /// Takes note that there is something.
    pub(crate) fn handle_ready(&mut self) {
        self.is_ready = true;
    }

    /// Whether there may be something to read.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready && !self.is_ended
    }

    /// Sends what there is and may be sent.
    pub(crate) fn pump(
        &mut self,
        id: Id,
        stream: Stream,
        credit: &mut u32,
        port: &mut Port,
    ) -> Pumped {
        let mut taken = 0;
        let mut size = if self.is_large { READ_MAX } else { FIRST_READ };
        loop {
            if self.is_ended {
                return Pumped::End;
            }
            if !self.is_ready {
                return Pumped::Empty;
            }
            let room = size
                .min(*credit as usize)
                .min(OUT_MAX.saturating_sub(port.backlog()));
            if room == 0 || taken >= TURN_MAX {
                return Pumped::Blocked;
            }
            let offset = 0;
            let Ok(frame) = OpenFrame::new(&Event::Output { id, stream, offset }, &mut port.out)
            else {
                return Pumped::Blocked;
            };
            let payload_at = port.out.len();
            port.out.resize(payload_at + room, 0);
            let len = self.read(payload_at, &mut port.out);
            port.out.truncate(payload_at + len);
            if len == 0 {
                frame.abandon(&mut port.out);
                continue;
            }
            if frame.close(&mut port.out).is_err() {
                return Pumped::Blocked;
            }
            *credit -= u32::try_from(len).unwrap_or(*credit);
            taken += len;
            if len == FIRST_READ && !self.is_large {
                self.is_large = true;
                size = READ_MAX;
                let _ = rustix::pipe::fcntl_setpipe_size(&self.fd, PIPE_SIZE);
            }
        }
    }

    /// Reads to the end of a buffer; zero when there is no more for now, or ever.
    fn read(&mut self, at: usize, out: &mut [u8]) -> usize {
        loop {
            match rustix::io::read(&self.fd, &mut out[at..]) {
                Ok(0) => self.is_ended = true,
                Ok(len) => return len,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => self.is_ready = false,
                // A terminal that nobody has open any more.
                Err(_) => self.is_ended = true,
            }
            return 0;
        }
    }

    /// Keeps the end of what there is for ourselves.
    pub(crate) fn keep(&mut self, message: &mut Vec<u8>, max: usize) -> Pumped {
        let mut bytes = [0; 1024];
        while self.is_ready() {
            let len = self.read(0, &mut bytes);
            message.extend_from_slice(&bytes[..len]);
            let excess = message.len().saturating_sub(max);
            message.drain(..excess);
        }
        if self.is_ended {
            Pumped::End
        } else {
            Pumped::Empty
        }
    }
}
