//! Looks guest memory up once for many accesses: to look it up is what a descriptor costs most.
//!
//! Nothing here outlives the memory map that it was made from: both borrow it.

use std::sync::atomic::Ordering;

use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryRegion,
    Permissions, VolatileMemory,
};

use super::GuestSlice;

/// Guest memory, with the region of it at hand that was needed last.
pub(super) struct Window<'m, M: GuestMemory> {
    memory: &'m M,
    /// Where it begins, and all of it.
    region: Option<(u64, GuestSlice<'m, M>)>,
}

impl<'m, M: GuestMemory> Window<'m, M> {
    /// The memory, of which nothing was needed yet.
    pub(super) fn new(memory: &'m M) -> Self {
        let region = None;
        Self { memory, region }
    }

    pub(super) fn memory(&self) -> &'m M {
        self.memory
    }

    /// A piece of memory. `None` when it does not lie within one region, or when addresses are translated on the way: then
    /// [`GuestMemory::get_slices`] knows more.
    #[inline]
    pub(super) fn piece(&mut self, address: GuestAddress, len: usize) -> Option<GuestSlice<'m, M>> {
        if let Some(piece) = self.cut(address, len) {
            return Some(piece);
        }
        self.move_to(address)?;
        self.cut(address, len)
    }

    /// Cuts a piece out of the region at hand.
    #[inline]
    fn cut(&self, address: GuestAddress, len: usize) -> Option<GuestSlice<'m, M>> {
        let (start, region) = self.region.as_ref()?;
        let offset = usize::try_from(address.0.checked_sub(*start)?).ok()?;
        region.subslice(offset, len).ok()
    }

    /// Takes the region at hand that an address lies in.
    #[cold]
    fn move_to(&mut self, address: GuestAddress) -> Option<()> {
        // Only where there is no translation is a whole region one piece, and open to every access.
        let region = self.memory.physical_memory()?.find_region(address)?;
        let (start, len) = (region.start_addr(), usize::try_from(region.len()).ok()?);
        let region = one_piece(self.memory, start, len, Permissions::ReadWrite)?;
        self.region = Some((start.0, region));
        Some(())
    }
}

/// A stretch of guest memory of which much is needed: a table or a ring.
pub(super) struct Stretch<'m, M: GuestMemory> {
    memory: &'m M,
    start: u64,
    len: u64,
    /// All of it, if it lies in one piece; else each access looks for its own.
    whole: Option<GuestSlice<'m, M>>,
}

impl<'m, M: GuestMemory> Stretch<'m, M> {
    /// The stretch of this length, which need not be there.
    pub(super) fn new(
        window: &mut Window<'m, M>,
        start: u64,
        len: u64,
        access: Permissions,
    ) -> Self {
        let (memory, address) = (window.memory(), GuestAddress(start));
        let whole = usize::try_from(len).ok().and_then(|len| {
            let piece = window.piece(address, len);
            piece.or_else(|| one_piece(memory, address, len, access))
        });
        Self {
            memory,
            start,
            len,
            whole,
        }
    }

    /// Reads once what is at this place. `None`: it is not in the stretch, or not in memory.
    #[inline]
    pub(super) fn read<T: ByteValued>(&self, offset: u64) -> Option<T> {
        let Some(whole) = &self.whole else {
            return self.memory.read_obj(self.place::<T>(offset)?).ok();
        };
        let place = whole.get_ref(usize::try_from(offset).ok()?).ok()?;
        Some(place.load())
    }

    /// Writes once to this place. `None`: it is not in the stretch, or not in memory.
    #[inline]
    pub(super) fn write<T: ByteValued>(&self, offset: u64, value: T) -> Option<()> {
        let Some(whole) = &self.whole else {
            let place = self.place::<T>(offset)?;
            return self.memory.write_obj(value, place).ok();
        };
        let place = whole.get_ref(usize::try_from(offset).ok()?).ok()?;
        place.store(value);
        Some(())
    }

    /// Writes an index to this place, before which the other side sees all that was written so far.
    pub(super) fn publish(&self, offset: u64, index: u16) -> Option<()> {
        let place = self.place::<u16>(offset)?;
        let stored = self.memory.store(index.to_le(), place, Ordering::Release);
        stored.ok()
    }

    /// Where in guest memory a place of the stretch is.
    fn place<T>(&self, offset: u64) -> Option<GuestAddress> {
        let end = offset.checked_add(size_of::<T>() as u64)?;
        let place = self.start.checked_add(offset)?;
        (end <= self.len).then_some(GuestAddress(place))
    }
}

/// Memory that is one piece of ours.
fn one_piece<M: GuestMemory>(
    memory: &M,
    start: GuestAddress,
    len: usize,
    access: Permissions,
) -> Option<GuestSlice<'_, M>> {
    let mut slices = memory.get_slices(start, len, access).ok()?;
    let first = slices.next()?.ok()?;
    (first.len() == len).then_some(first)
}
