//! Where what is sent comes from.

use std::io;
use std::os::fd::AsFd;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileSlice};

use super::sys;

/// Where what is sent comes from: it writes straight into the guest's buffers.
pub trait Source {
    /// Fills the buffers from their beginning, and says how many bytes it wrote. 0: there is nothing now.
    ///
    /// # Errors
    ///
    /// Fails when reading fails. Then the guest does not see what was written.
    fn fill<B: BitmapSlice>(&mut self, buffers: &[VolatileSlice<'_, B>]) -> io::Result<usize>;
}

/// The bytes, from which those that were sent are cut off.
impl Source for &[u8] {
    fn fill<B: BitmapSlice>(&mut self, buffers: &[VolatileSlice<'_, B>]) -> io::Result<usize> {
        let before = self.len();
        for buffer in buffers {
            if self.is_empty() {
                break;
            }
            self.read_volatile(&mut buffer.offset(0).map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
        Ok(before - self.len())
    }
}

/// Several slices, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    slices: &'a [&'a [u8]],
    /// How many bytes of the first slice are sent.
    sent: usize,
}

impl<'a> Slices<'a> {
    /// These slices, none of which is sent yet.
    #[must_use]
    pub fn new(slices: &'a [&'a [u8]]) -> Slices<'a> {
        Slices { slices, sent: 0 }
    }

    /// How many bytes are still to be sent.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum::<usize>() - self.sent
    }
}

impl Source for Slices<'_> {
    fn fill<B: BitmapSlice>(&mut self, buffers: &[VolatileSlice<'_, B>]) -> io::Result<usize> {
        let mut total = 0;
        for buffer in buffers {
            let mut filled = 0;
            while let Some((first, rest)) = self.slices.split_first()
                && filled < buffer.len()
            {
                let mut left = &first[self.sent..];
                let before = left.len();
                let mut room = buffer.offset(filled).map_err(io::Error::other)?;
                left.read_volatile(&mut room).map_err(io::Error::other)?;
                filled += before - left.len();
                self.sent += before - left.len();
                if left.is_empty() {
                    (self.slices, self.sent) = (rest, 0);
                }
            }
            total += filled;
        }
        Ok(total)
    }
}

/// A file descriptor, for example of a socket, from which the kernel reads into guest memory.
#[derive(Debug)]
pub struct Descriptor<F> {
    descriptor: F,
    is_at_end: bool,
}

impl<F: AsFd> Descriptor<F> {
    /// Reads from this file descriptor; it need not be non-blocking, but had better be.
    pub fn new(descriptor: F) -> Descriptor<F> {
        Descriptor {
            descriptor,
            is_at_end: false,
        }
    }

    /// Whether everything was read, and nothing will follow.
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }
}

impl<F: AsFd> Source for Descriptor<F> {
    fn fill<B: BitmapSlice>(&mut self, buffers: &[VolatileSlice<'_, B>]) -> io::Result<usize> {
        if buffers.is_empty() {
            return Ok(0);
        }
        loop {
            match sys::read_into(self.descriptor.as_fd(), buffers) {
                Ok(0) => {
                    self.is_at_end = true;
                    return Ok(0);
                }
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }
}
