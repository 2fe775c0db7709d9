//! What a guest sent: slices of its memory, and the duty to give them back.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use virtio_queue::QueueT;
use vm_memory::GuestMemory;

use super::GuestSlice;
use super::chain::{Batch, Way};
use super::error::Error;
use super::queue::{Role, needs_interrupt};
use super::sys;

/// What a guest sent by a port: slices of the guest's own memory, which are the guest's again when this is dropped.
///
/// The guest can change them all the while: copy what has to stay as it is.
pub struct Received<'a, M: GuestMemory, Q: QueueT> {
    pub(super) batch: Batch<'a, M>,
    pub(super) memory: &'a M,
    pub(super) queue: &'a mut Q,
    pub(super) role: Role,
    /// How many bytes of the first chain were done when the batch was taken.
    pub(super) taken: &'a mut usize,
    pub(super) broken: &'a mut bool,
    pub(super) done: usize,
    pub(super) is_settled: bool,
}

impl<'a, M: GuestMemory, Q: QueueT> Received<'a, M, Q> {
    /// The data, in their order. There is no empty slice.
    #[must_use]
    pub fn slices(&self) -> &[GuestSlice<'a, M>] {
        &self.batch.slices
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.bytes
    }

    /// Whether the guest sent buffers with nothing in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.bytes == 0
    }

    /// Says how many bytes were used, from the beginning. The rest comes again with the next [`Console::receive`].
    ///
    /// Without this, all of them were.
    ///
    /// [`Console::receive`]: super::Console::receive
    pub fn keep_after(&mut self, used: usize) {
        self.done = used;
    }

    /// How many bytes will come again.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.len() - self.done.min(self.len())
    }

    /// Copies to the buffer what fits into it, and says how many bytes that is. It keeps nothing: see
    /// [`Received::keep_after`].
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        for slice in &self.batch.slices {
            filled += slice.copy_to(&mut buffer[filled..]);
            if filled == buffer.len() {
                break;
            }
        }
        filled
    }

    /// Writes the data to a file descriptor with one `writev`, and keeps what that did not take.
    ///
    /// # Errors
    ///
    /// Fails when the system call fails; then everything is kept. That there is no room now is no failure.
    pub fn write_to(&mut self, to: impl AsFd) -> io::Result<usize> {
        self.done = 0;
        if self.is_empty() {
            return Ok(0);
        }
        self.done = loop {
            match sys::write_from(to.as_fd(), &self.batch.slices) {
                Ok(written) => break written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) => return Err(error),
            }
        };
        Ok(self.done)
    }

    /// Gives the guest its buffers back, and says whether it wants an interrupt for that.
    ///
    /// # Errors
    ///
    /// Fails when the guest moved its rings out of its memory.
    pub fn finish(mut self) -> Result<bool, Error> {
        let before = self.queue.next_used();
        self.settle()?;
        needs_interrupt(self.memory, self.queue, before).map_err(|flaw| flaw.at(self.role))
    }

    fn settle(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_settled, true) {
            return Ok(());
        }
        let settled = self
            .batch
            .settle(self.memory, self.queue, Way::FromGuest, self.done);
        let settled = settled.map_err(|flaw| {
            *self.broken = true;
            flaw.at(self.role)
        })?;
        *self.taken = match settled.used {
            0 => *self.taken + settled.left,
            _ => settled.left,
        };
        Ok(())
    }
}

impl<M: GuestMemory, Q: QueueT> Drop for Received<'_, M, Q> {
    fn drop(&mut self) {
        // That it failed is known to the device, and its next call says so.
        let _ = self.settle();
    }
}

impl<M: GuestMemory, Q: QueueT> fmt::Debug for Received<'_, M, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("role", &self.role)
            .field("chains", &self.batch.chains)
            .field("bytes", &self.batch.bytes)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
