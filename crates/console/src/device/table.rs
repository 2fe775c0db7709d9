//! Follows chains through a table of descriptors. Each descriptor is read once, in one piece: a guest that changes it later
//! changes nothing.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestMemory, Permissions};

use super::error::Flaw;
use super::window::{Stretch, Window};

/// How long a descriptor is.
const ENTRY_LEN: u32 = 16;

/// A table of descriptors.
pub(super) struct Table<'m, M: GuestMemory> {
    entries: Stretch<'m, M>,
    /// How many they are.
    pub(super) size: u16,
}

impl<'m, M: GuestMemory> Table<'m, M> {
    /// The table at this address.
    pub(super) fn new(window: &mut Window<'m, M>, start: u64, size: u16) -> Self {
        let len = u64::from(size) * u64::from(ENTRY_LEN);
        let entries = Stretch::new(window, start, len, Permissions::Read);
        Self { entries, size }
    }

    /// The table that a descriptor of another one stands for. `None`: it cannot be one.
    fn indirect(window: &mut Window<'m, M>, descriptor: &Descriptor) -> Option<Self> {
        let len = descriptor.len();
        let size = u16::try_from(len / ENTRY_LEN).ok()?;
        let is_one = len.is_multiple_of(ENTRY_LEN);
        is_one.then(|| Self::new(window, descriptor.addr().0, size))
    }

    #[inline]
    fn read(&self, index: u16) -> Option<Descriptor> {
        self.entries.read(u64::from(index) * u64::from(ENTRY_LEN))
    }
}

/// A chain that is followed, from its head to its end.
pub(super) struct Chain<'t, 'm, M: GuestMemory> {
    table: &'t Table<'m, M>,
    /// The table that it goes on in.
    indirect: Option<Table<'m, M>>,
    head: u16,
    next: Option<u16>,
    /// How many descriptors it may have still: a table has no room for more.
    left: u16,
    /// How many bytes its buffers have so far: the standard allows 4 GiB.
    bytes: u32,
    has_begun: bool,
}

impl<'t, 'm, M: GuestMemory> Chain<'t, 'm, M> {
    /// The chain with this head.
    pub(super) fn new(table: &'t Table<'m, M>, head: u16) -> Self {
        Self {
            table,
            indirect: None,
            head,
            next: Some(head),
            left: table.size,
            bytes: 0,
            has_begun: false,
        }
    }

    /// The next descriptor that stands for a buffer. `None`: the chain has ended.
    #[inline]
    pub(super) fn next(&mut self, window: &mut Window<'m, M>) -> Result<Option<Descriptor>, Flaw> {
        let Some(index) = self.next else {
            return Ok(None);
        };
        let descriptor = self.follow(window, index).ok_or(match self.has_begun {
            false => Flaw::Head(self.head),
            true => Flaw::Endless(self.head),
        })?;
        self.has_begun = true;
        self.next = descriptor.has_next().then(|| descriptor.next());
        Ok(Some(descriptor))
    }

    #[inline]
    fn follow(&mut self, window: &mut Window<'m, M>, index: u16) -> Option<Descriptor> {
        let mut descriptor = match &self.indirect {
            None => self.table.read(index)?,
            Some(table) => table.read(index)?,
        };
        if descriptor.refers_to_indirect_table() {
            if self.indirect.is_some() {
                return None;
            }
            let table = Table::indirect(window, &descriptor)?;
            descriptor = table.read(0)?;
            if descriptor.refers_to_indirect_table() {
                return None;
            }
            self.left = table.size;
            self.indirect = Some(table);
        }
        self.left = self.left.checked_sub(1)?;
        self.bytes = self.bytes.checked_add(descriptor.len())?;
        Some(descriptor)
    }
}
