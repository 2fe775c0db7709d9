//! Where a frame lies in a guest's memory.

use hotbed_vhost_user::dirty::Dirty;
use hotbed_vhost_user::vm_memory::bitmap::{BitmapSlice, RefSlice};
use hotbed_vhost_user::vm_memory::{
    GuestMemoryBackend as _, GuestMemoryRegion as _, MemoryRegionAddress, VolatileSlice,
};
use hotbed_vhost_user::{Chain, Memory};

use crate::error::Error;

/// Pieces of a chain at most: no driver may make it longer than a queue.
const PIECES_MAX: usize = 1024;

/// Pieces of a guest's memory, each of which is there.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pieces: Vec<Piece>,
    /// Pieces that were skipped.
    first: usize,
    len: usize,
}

/// A piece of one of the regions of the memory.
#[derive(Debug, Clone, Copy)]
struct Piece {
    region: usize,
    offset: u64,
    len: usize,
}

impl Piece {
    /// The piece was there when it was found, and memory is not replaced meanwhile.
    fn slice(self, memory: &Memory) -> Option<VolatileSlice<'_, RefSlice<'_, Dirty>>> {
        let region = memory.iter().nth(self.region)?;
        let offset = MemoryRegionAddress(self.offset);
        region.get_slice(offset, self.len).ok()
    }
}

impl Buffers {
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.first = 0;
        self.len = 0;
    }

    /// Counts the bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends the buffers of a chain, which must all be for the device to write, or all to read.
    pub(super) fn read_chain(
        &mut self,
        memory: &Memory,
        chain: Chain<'_>,
        is_writable: bool,
    ) -> Result<(), Error> {
        let (mut is_open, mut count) = (true, 0);
        for descriptor in chain {
            is_open = descriptor.has_next();
            count += 1;
            if descriptor.is_write_only() != is_writable {
                return Err(Error::Guest("a buffer is in the wrong queue"));
            }
            if count > PIECES_MAX {
                return Err(Error::Guest("a chain of buffers is too long"));
            }
            let (address, len) = (descriptor.addr().0, descriptor.len() as usize);
            self.find(memory, address, len)
                .ok_or(Error::Guest("a buffer lies outside of its memory"))?;
        }
        if is_open {
            return Err(Error::Guest("a chain of buffers does not end"));
        }
        Ok(())
    }

    /// Appends what lies at an address, which may go on in the next region.
    fn find(&mut self, memory: &Memory, mut address: u64, mut len: usize) -> Option<()> {
        while len > 0 {
            let mut regions = memory.iter().enumerate();
            let (region, offset, room) = regions.find_map(|(place, region)| {
                let offset = address.checked_sub(region.start_addr().0)?;
                let room = region.len().checked_sub(offset).filter(|room| *room > 0)?;
                Some((place, offset, usize::try_from(room).ok()?))
            })?;
            let part = len.min(room);
            self.pieces.push(Piece {
                region,
                offset,
                len: part,
            });
            self.len += part;
            address = address.checked_add(part as u64)?;
            len -= part;
        }
        Some(())
    }

    /// Leaves the first `len` bytes out from now on.
    pub(super) fn skip(&mut self, len: usize) {
        let mut left = len.min(self.len);
        self.len -= left;
        while let Some(piece) = self.pieces.get_mut(self.first) {
            let skipped = left.min(piece.len);
            piece.offset += skipped as u64;
            piece.len -= skipped;
            left -= skipped;
            if piece.len > 0 {
                break;
            }
            self.first += 1;
        }
    }

    /// Copies as many bytes as there is room for.
    pub(super) fn copy_to(&self, memory: &Memory, to: &mut [u8]) {
        let mut done = 0;
        for slice in self.slices(memory) {
            let room = &mut to[done..];
            if room.is_empty() {
                break;
            }
            done += slice.copy_to(room);
        }
    }

    /// Copies everything.
    pub(super) fn copy_to_sink(&self, memory: &Memory, sink: &mut Sink<'_>) {
        for slice in self.slices(memory) {
            sink.put_slice(&slice);
        }
    }

    /// Gives them to be written to, from the first byte on.
    pub(super) fn sink<'a>(&'a self, memory: &'a Memory) -> Sink<'a> {
        Sink {
            memory,
            pieces: self.pieces[self.first..].iter(),
            current: None,
        }
    }

    fn slices<'a>(
        &'a self,
        memory: &'a Memory,
    ) -> impl Iterator<Item = VolatileSlice<'a, RefSlice<'a, Dirty>>> {
        self.pieces[self.first..]
            .iter()
            .filter_map(|piece| piece.slice(memory))
    }
}

/// Room in a guest's memory, which is filled in order.
pub(super) struct Sink<'a> {
    memory: &'a Memory,
    pieces: std::slice::Iter<'a, Piece>,
    current: Option<VolatileSlice<'a, RefSlice<'a, Dirty>>>,
}

impl Sink<'_> {
    /// Copies bytes of ours. What does not fit is lost.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.fill_up() {
            let Some(room) = self.current.take() else {
                return;
            };
            let len = room.len().min(rest.len());
            room.copy_from(&rest[..len]);
            self.current = room.offset(len).ok();
            rest = &rest[len..];
        }
    }

    /// Copies bytes of a guest: this is the one copy on their way.
    pub(super) fn put_slice<B: BitmapSlice>(&mut self, from: &VolatileSlice<'_, B>) {
        let mut done = 0;
        while done < from.len() && self.fill_up() {
            let Some(room) = self.current.take() else {
                return;
            };
            let len = room.len().min(from.len() - done);
            let (Ok(part), Ok(start)) = (from.subslice(done, len), room.subslice(0, len)) else {
                return;
            };
            part.copy_to_volatile_slice(start);
            self.current = room.offset(len).ok();
            done += len;
        }
    }

    /// Goes on to the next piece if there is no room in this one. False if there is none.
    fn fill_up(&mut self) -> bool {
        while self.current.as_ref().is_none_or(|room| room.is_empty()) {
            let Some(piece) = self.pieces.next() else {
                return false;
            };
            self.current = piece.slice(self.memory);
        }
        true
    }
}
