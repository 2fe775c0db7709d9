//! Chains of a queue, many in a row: where the queue lies is looked up once, and the driver sees what was used when all are done.

use std::sync::atomic::Ordering;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Error, Queue, QueueT as _};
use vm_memory::bitmap::RefSlice;
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, VolatileMemory as _, VolatileSlice,
};

use crate::dirty::Dirty;
use crate::memory::Memory;

/// Bytes of a descriptor.
const DESCRIPTOR_LEN: usize = 16;
/// Bytes of what is in front of a ring's elements: its flags, and its index.
const HEAD_LEN: usize = 4;
/// Where the index is.
const INDEX: usize = 2;
/// Bytes of an element of the ring of what is available, and of that of what was used.
const AVAILABLE_LEN: usize = 2;
const USED_LEN: usize = 8;

/// A piece of the guest's memory.
type Piece<'r> = VolatileSlice<'r, RefSlice<'r, Dirty>>;

/// Chains of a queue that are taken and given back together. The driver sees it when this is dropped.
#[derive(Debug)]
pub struct Batch<'r> {
    queue: &'r mut Queue,
    added: &'r mut u16,
    memory: &'r Memory,
    descriptors: Piece<'r>,
    available: Piece<'r>,
    used: Piece<'r>,
    size: u16,
    /// The chain that is next.
    position: u16,
    /// How far the driver had got at first.
    end: u16,
    next_used: u16,
}

impl<'r> Batch<'r> {
    /// Looks where the queue is, and how far the driver has got.
    pub(crate) fn new(
        queue: &'r mut Queue,
        added: &'r mut u16,
        memory: &'r Memory,
    ) -> Result<Self, Error> {
        let (size, position) = (queue.size(), queue.next_avail());
        let part = |at: u64, head: usize, len: usize| {
            let len = head + usize::from(size) * len;
            memory.get_slice(GuestAddress(at), len)
        };
        let descriptors =
            part(queue.desc_table(), 0, DESCRIPTOR_LEN).map_err(Error::GuestMemory)?;
        let available =
            part(queue.avail_ring(), HEAD_LEN, AVAILABLE_LEN).map_err(Error::GuestMemory)?;
        let used = part(queue.used_ring(), HEAD_LEN, USED_LEN).map_err(Error::GuestMemory)?;
        let end = available.load::<u16>(INDEX, Ordering::Acquire);
        let end = u16::from_le(end.map_err(|_| Error::AddressOverflow)?);
        if end.wrapping_sub(position) > size {
            return Err(Error::InvalidAvailRingIndex);
        }
        Ok(Self {
            next_used: queue.next_used(),
            queue,
            added,
            memory,
            descriptors,
            available,
            used,
            size,
            position,
            end,
        })
    }

    /// Takes the next chain.
    pub fn next_chain(&mut self) -> Option<Chain<'r>> {
        if self.position == self.end {
            return None;
        }
        let place = usize::from(self.position.checked_rem(self.size)?);
        let at = HEAD_LEN + AVAILABLE_LEN * place;
        let head = self.available.get_ref::<u16>(at).ok()?.load();
        let head = u16::from_le(head);
        self.position = self.position.wrapping_add(1);
        Some(Chain {
            head,
            memory: self.memory,
            table: self.descriptors,
            next: Some(head),
            left: self.size,
            is_indirect: false,
        })
    }

    /// How many entries the queue has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Which chain is next.
    #[must_use]
    pub fn position(&self) -> u16 {
        self.position
    }

    /// Has the chains from `position` on be taken again: none of them was given back.
    pub fn rewind(&mut self, position: u16) {
        self.position = position;
    }

    /// Gives a chain back, into which `len` bytes were written.
    ///
    /// # Errors
    ///
    /// When there is no such chain.
    pub fn give_back(&mut self, head: u16, len: u32) -> Result<(), Error> {
        if head >= self.size {
            return Err(Error::InvalidDescriptorIndex);
        }
        let at = HEAD_LEN + USED_LEN * usize::from(self.next_used % self.size);
        let element = u64::from(head) | u64::from(len) << 32;
        let place = self.used.get_ref::<u64>(at);
        place
            .map_err(|_| Error::AddressOverflow)?
            .store(element.to_le());
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.set_next_avail(self.position);
        let count = self.next_used.wrapping_sub(self.queue.next_used());
        if count > 0 {
            // It lies where the first element does, which was written.
            let _ = self
                .used
                .store(self.next_used.to_le(), INDEX, Ordering::Release);
            self.queue.set_next_used(self.next_used);
            *self.added = self.added.wrapping_add(count);
        }
    }
}

/// A chain of buffers. One that is broken ends early: after a descriptor that has a next one, or before the first.
#[derive(Debug)]
pub struct Chain<'r> {
    head: u16,
    memory: &'r Memory,
    table: Piece<'r>,
    next: Option<u16>,
    /// How many descriptors there may be yet: no chain is longer than its table.
    left: u16,
    is_indirect: bool,
}

impl Chain<'_> {
    /// Its number, to give it back.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    fn next_of_table(&mut self) -> Option<Descriptor> {
        let at = DESCRIPTOR_LEN * usize::from(self.next.take()?);
        self.left = self.left.checked_sub(1)?;
        let place = self.table.get_ref::<Descriptor>(at);
        Some(place.ok()?.load())
    }

    /// Goes on with the table that a descriptor is about.
    fn enter(&mut self, descriptor: &Descriptor) -> Option<()> {
        let len = usize::try_from(descriptor.len()).ok()?;
        if self.is_indirect || !len.is_multiple_of(DESCRIPTOR_LEN) {
            return None;
        }
        self.left = u16::try_from(len / DESCRIPTOR_LEN).ok()?;
        self.table = self.memory.get_slice(descriptor.addr(), len).ok()?;
        self.next = Some(0);
        self.is_indirect = true;
        Some(())
    }
}

impl Iterator for Chain<'_> {
    type Item = Descriptor;

    fn next(&mut self) -> Option<Descriptor> {
        let mut descriptor = self.next_of_table()?;
        if descriptor.refers_to_indirect_table() {
            self.enter(&descriptor)?;
            descriptor = self.next_of_table()?;
            if descriptor.refers_to_indirect_table() {
                self.next = None;
                return None;
            }
        }
        if descriptor.has_next() {
            self.next = Some(descriptor.next());
        }
        Some(descriptor)
    }
}

/// What the fuzzer does with its bytes: they are a guest's memory, with a queue in it. Each chain ends, and as many are used as were
/// taken.
///
/// # Panics
///
/// When that is not so.
pub fn fuzz(bytes: &[u8]) {
    const SIZE: u16 = 16;
    const MEMORY_LEN: usize = 8192;
    let ranges = [
        (GuestAddress(0), MEMORY_LEN / 2),
        (GuestAddress(0x1800), MEMORY_LEN / 2),
    ];
    let memory = Memory::from_ranges(&ranges).expect("memory");
    let len = bytes.len().min(MEMORY_LEN / 2);
    let _ = memory.write(&bytes[..len], GuestAddress(0));
    let mut queue = Queue::new(SIZE).expect("a power of two");
    queue.set_desc_table_address(Some(0), None);
    queue.set_avail_ring_address(Some(0x100), None);
    queue.set_used_ring_address(Some(0x200), None);
    let (mut added, mut count) = (0, 0);
    if let Ok(mut batch) = Batch::new(&mut queue, &mut added, &memory) {
        while let Some(chain) = batch.next_chain() {
            let head = chain.head();
            assert!(chain.count() <= usize::from(u16::MAX) + 1);
            count += u16::from(batch.give_back(head, 1).is_ok());
        }
    }
    assert!(added == count && count <= SIZE);
    assert_eq!(queue.next_used(), count);
}
