//! The guest's side of a split queue, written from the standard and without the crate that is tested.

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Memory in two regions that touch at [`SEAM`], and nothing behind [`END`].
pub(crate) const SEAM: u64 = 0x20_0000;
pub(crate) const END: u64 = 0x40_0000;

pub(crate) fn memory() -> GuestMemoryMmap<()> {
    let len = |bytes: u64| usize::try_from(bytes).unwrap();
    GuestMemoryMmap::from_ranges(&[
        (GuestAddress(0), len(SEAM)),
        (GuestAddress(SEAM), len(END - SEAM)),
    ])
    .unwrap()
}

/// A descriptor: address, length, flags, next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raw(
    pub(crate) u64,
    pub(crate) u32,
    pub(crate) u16,
    pub(crate) u16,
);

impl Raw {
    pub(crate) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.1.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.2.to_le_bytes());
        bytes[14..].copy_from_slice(&self.3.to_le_bytes());
        bytes
    }
}

/// A driver of one queue.
pub(crate) struct Guest<'m, M> {
    memory: &'m M,
    size: u16,
    table: u64,
    avail: u64,
    used: u64,
    next_avail: u16,
    next_used: u16,
}

impl<'m, M: GuestMemory> Guest<'m, M> {
    /// Lays out a queue at `base` and gives the device its side of it.
    pub(crate) fn new(memory: &'m M, base: u64, size: u16) -> (Guest<'m, M>, Queue) {
        let entries = u64::from(size);
        let (table, avail) = (base, base + 16 * entries);
        let used = (avail + 6 + 2 * entries).next_multiple_of(4);
        let mut queue = Queue::new(size).unwrap();
        queue.set_desc_table_address(Some(table as u32), Some((table >> 32) as u32));
        queue.set_avail_ring_address(Some(avail as u32), Some((avail >> 32) as u32));
        queue.set_used_ring_address(Some(used as u32), Some((used >> 32) as u32));
        queue.set_ready(true);
        assert!(queue.is_valid(memory), "the rings are in memory");
        let guest = Guest {
            memory,
            size,
            table,
            avail,
            used,
            next_avail: 0,
            next_used: 0,
        };
        (guest, queue)
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .unwrap();
    }

    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }

    fn read_u16(&self, address: u64) -> u16 {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    pub(crate) fn describe(&self, index: u16, raw: Raw) {
        self.write(self.table + 16 * u64::from(index), &raw.bytes());
    }

    /// Makes a chain available.
    pub(crate) fn publish(&mut self, head: u16) {
        let slot = u64::from(self.next_avail % self.size);
        self.write(self.avail + 4 + 2 * slot, &head.to_le_bytes());
        self.next_avail = self.next_avail.wrapping_add(1);
        self.set_avail_index(self.next_avail);
    }

    /// Goes on as a driver does that has had so many chains used.
    pub(crate) fn start_at(&mut self, count: u16) {
        (self.next_avail, self.next_used) = (count, count);
        self.set_avail_index(count);
        self.write(self.used + 2, &count.to_le_bytes());
    }

    pub(crate) fn set_avail_index(&self, index: u16) {
        self.write(self.avail + 2, &index.to_le_bytes());
    }

    /// Makes a chain of such buffers available, in the descriptors from `first` on, and says which comes behind it.
    pub(crate) fn offer(&mut self, first: u16, buffers: &[(u64, u32)], flags: u16) -> u16 {
        let count = u16::try_from(buffers.len()).unwrap();
        for (place, (address, len)) in (0..count).zip(buffers) {
            let next = if place + 1 == count { 0 } else { NEXT };
            let index = first + place;
            self.describe(index, Raw(*address, *len, flags | next, index + 1));
        }
        self.publish(first);
        first + count
    }

    /// A chain that the device gave back: its head, and how many bytes the device says that it wrote.
    pub(crate) fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.read_u16(self.used + 2) == self.next_used {
            return None;
        }
        let entry = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        let len = self.memory.read_obj(GuestAddress(entry + 4)).unwrap();
        Some((self.read_u16(entry), len))
    }

    pub(crate) fn all_used(&mut self) -> Vec<(u16, u32)> {
        std::iter::from_fn(|| self.take_used()).collect()
    }

    /// Whether the device asks for a kick when this many chains were made available before the last one.
    pub(crate) fn wants_kick(&self, event_idx: bool) -> bool {
        match event_idx {
            true => {
                let event = self.read_u16(self.used + 4 + 8 * u64::from(self.size));
                event == self.next_avail.wrapping_sub(1)
            }
            false => self.read_u16(self.used) & 1 == 0,
        }
    }

    /// Asks for no interrupt, as far as that can be done without event index.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.write(self.avail, &u16::from(quiet).to_le_bytes());
    }

    /// Asks for an interrupt once this many chains in all were given back.
    pub(crate) fn wake_after(&self, used: u16) {
        let event = self.avail + 4 + 2 * u64::from(self.size);
        self.write(event, &used.wrapping_sub(1).to_le_bytes());
    }
}
