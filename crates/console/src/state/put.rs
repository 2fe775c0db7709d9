//! Files on their way into the guest.
//!
//! The guest says when it is ready, then it reads chunks: each follows a line with a plus, and is read by a process that takes
//! exactly so many bytes. At the end, early or not, stands a line that the guest looks for whatever happened before.

use super::{Session, excerpt};
use crate::{Error, script};

/// How many bytes of a file wait at once.
const PUT_QUEUE_MAX: usize = 256 << 10;

/// A file that the guest takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was told, and has not said yet that it is ready.
    Asked { len: u64 },
    /// It reads: so many bytes are to come, so many of them in the chunk that has begun.
    Going { left: u64, chunk: u64 },
    /// It reads no more; what still is given goes nowhere.
    Over { left: u64 },
}

impl Session {
    /// Begins a file of `len` bytes.
    ///
    /// # Errors
    ///
    /// As [`Shell::begin`](crate::Shell::begin).
    pub fn begin_put(&mut self, target: &str, len: u64) -> Result<(), Error> {
        let line = script::put_line(self.last + 1, target, len)?;
        self.start(&line, format!("putting the file `{}`", excerpt(target)))?;
        self.put = Some(Put::Asked { len });
        Ok(())
    }

    /// Takes the next bytes of a file and says how many it took: none when it must wait for the guest.
    ///
    /// # Errors
    ///
    /// [`Error::PutOverrun`], and what [`poll_progress`](Self::poll_progress) would give.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.closed {
            return Err(self.closed_error());
        }
        let left = match self.put {
            Some(Put::Asked { len: left } | Put::Going { left, .. } | Put::Over { left }) => left,
            None => 0,
        };
        if bytes.len() as u64 > left {
            return Err(Error::PutOverrun);
        }
        match self.put {
            Some(Put::Going { left, chunk }) => Ok(self.put_going(bytes, left, chunk)),
            Some(Put::Over { left }) => {
                self.put = Some(Put::Over {
                    left: left - bytes.len() as u64,
                });
                Ok(bytes.len())
            }
            Some(Put::Asked { .. }) | None => Ok(0),
        }
    }

    pub(super) fn put_going(&mut self, mut bytes: &[u8], mut left: u64, mut chunk: u64) -> usize {
        let given = bytes.len();
        while !bytes.is_empty() && self.poll_transmit().len() < PUT_QUEUE_MAX {
            if chunk == 0 {
                chunk = left.min(script::CHUNK);
                self.enqueue(script::PUT_MORE);
            }
            let room = PUT_QUEUE_MAX.min(usize::try_from(chunk).unwrap_or(usize::MAX));
            let (piece, rest) = bytes.split_at(bytes.len().min(room));
            self.enqueue(piece);
            (left, chunk, bytes) = (left - piece.len() as u64, chunk - piece.len() as u64, rest);
        }
        self.put = Some(Put::Going { left, chunk });
        if left == 0 {
            self.end_put();
            self.put_over();
        }
        given - bytes.len()
    }

    /// Ends a file early: fills up the chunk that the guest is reading, so that it stays in step.
    pub(super) fn abandon_put(&mut self) {
        let fill = match self.put {
            None | Some(Put::Over { .. }) => return,
            Some(Put::Asked { .. }) => 0,
            Some(Put::Going { chunk, .. }) => usize::try_from(chunk).unwrap_or(usize::MAX),
        };
        self.enqueue(&vec![0; fill]);
        self.end_put();
    }

    pub(super) fn end_put(&mut self) {
        self.enqueue(script::end(&self.name).as_bytes());
    }

    pub(super) fn put_over(&mut self) {
        if let Some(Put::Asked { len: left } | Put::Going { left, .. }) = self.put {
            self.put = Some(Put::Over { left });
        }
    }
}
