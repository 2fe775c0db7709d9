//! Takes chains of descriptors out of a queue, and finds the memory that they stand for.
//!
//! This is where the guest's numbers are checked. A chain is at most as long as its queue; its buffers all go one way, and
//! lie in guest memory. Of what is left, a [`Batch`] takes so much that one system call can move it.

use virtio_queue::QueueT;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestMemory, Le16, Le64, Permissions};

use super::GuestSlice;
use super::error::Flaw;
use super::queue::{HEAD_LEN, HEADER_LEN, available};
use super::sys::PIECES_MAX;
use super::table::{Chain, Table};
use super::window::{Stretch, Window};

/// How many chains a batch has at most.
pub(super) const CHAINS_MAX: usize = 256;

/// How many bytes a batch has at most.
pub(super) const BATCH_MAX: usize = 16 << 20;

/// How long an entry of the used ring is.
const USED_LEN: u64 = 8;

/// Where a ring has its index.
const INDEX: u64 = 2;

/// Which way the buffers of a chain go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The guest wrote them.
    FromGuest,
    /// The guest reads them.
    ToGuest,
}

/// What was taken of one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Its head.
    pub(super) head: u16,
    /// How many bytes of it the batch has.
    pub(super) bytes: usize,
    /// The batch has it up to its end.
    pub(super) whole: bool,
}

/// Chains that were taken from a queue.
#[derive(Debug)]
pub(super) struct Batch<'m, M: GuestMemory> {
    /// The chains, in their order.
    pub(super) chains: Vec<Taken>,
    /// Their memory, in its order, without empty slices.
    pub(super) slices: Vec<GuestSlice<'m, M>>,
    /// How many bytes that is.
    pub(super) bytes: usize,
}

impl<'m, M: GuestMemory> Batch<'m, M> {
    /// Takes up to `limit` of the chains that the guest made available, but for the first `skip` bytes of the first one.
    ///
    /// `None`: there is none. Then the guest will kick when there is.
    pub(super) fn take<Q: QueueT>(
        memory: &'m M,
        queue: &mut Q,
        way: Way,
        skip: usize,
        limit: usize,
    ) -> Result<Option<Batch<'m, M>>, Flaw> {
        if !queue.ready() {
            return Ok(None);
        }
        let available = usize::from(available(memory, queue)?).min(limit);
        if available == 0 {
            return Ok(None);
        }
        if queue.avail_ring() == 0 {
            return Err(Flaw::Rings);
        }
        let mut batch = Batch {
            chains: Vec::with_capacity(available),
            slices: Vec::with_capacity(available),
            bytes: 0,
        };
        let size = queue.size();
        let mut window = Window::new(memory);
        let table = Table::new(&mut window, queue.desc_table(), size);
        let heads = ring(
            &mut window,
            queue.avail_ring(),
            HEAD_LEN,
            size,
            Permissions::Read,
        );
        let mut skip = skip;
        let mut next = queue.next_avail();
        for _ in 0..available {
            let slot = HEADER_LEN + HEAD_LEN * u64::from(next % size);
            let head: Le16 = heads.read(slot).ok_or(Flaw::Rings)?;
            let taken = batch.add(&mut window, &table, head.into(), way, skip)?;
            next = next.wrapping_add(1);
            batch.chains.push(taken);
            skip = 0;
            if !taken.whole {
                break;
            }
        }
        queue.set_next_avail(next);
        Ok(Some(batch))
    }

    /// Takes as much of one chain as there is room for.
    fn add(
        &mut self,
        window: &mut Window<'m, M>,
        table: &Table<'m, M>,
        head: u16,
        way: Way,
        mut skip: usize,
    ) -> Result<Taken, Flaw> {
        let before = self.bytes;
        let mut chain = Chain::new(table, head);
        let mut length = 0;
        while let Some(descriptor) = chain.next(window)? {
            length += 1;
            if length > table.size {
                return Err(Flaw::Endless(head));
            }
            if !self.add_buffer(window, head, &descriptor, way, &mut skip)? {
                let bytes = self.bytes - before;
                return Ok(Taken {
                    head,
                    bytes,
                    whole: false,
                });
            }
        }
        let bytes = self.bytes - before;
        Ok(Taken {
            head,
            bytes,
            whole: true,
        })
    }

    /// Takes as much of one buffer as there is room for, and says whether that is all of it.
    fn add_buffer(
        &mut self,
        window: &mut Window<'m, M>,
        head: u16,
        descriptor: &Descriptor,
        way: Way,
        skip: &mut usize,
    ) -> Result<bool, Flaw> {
        let access = match (way, descriptor.is_write_only()) {
            (Way::FromGuest, false) => Permissions::Read,
            (Way::ToGuest, true) => Permissions::Write,
            (Way::FromGuest, true) => {
                return Err(Flaw::Direction {
                    head,
                    found: "only to be written to",
                });
            }
            (Way::ToGuest, false) => {
                return Err(Flaw::Direction {
                    head,
                    found: "only to be read",
                });
            }
        };
        let len = descriptor.len() as usize;
        if let Some(piece) = window.piece(descriptor.addr(), len) {
            return Ok(self.add_piece(&piece, skip));
        }
        let nowhere = || Flaw::Address {
            head,
            address: descriptor.addr().0,
            len: descriptor.len(),
        };
        let memory = window.memory();
        let slices = memory.get_slices(descriptor.addr(), len, access);
        for slice in slices.map_err(|_| nowhere())? {
            let slice = slice.map_err(|_| nowhere())?;
            if self.add_piece(&slice, skip) {
                continue;
            }
            // What is not looked at now has to be in memory, too.
            return match memory.check_range(descriptor.addr(), len, access) {
                true => Ok(false),
                false => Err(nowhere()),
            };
        }
        Ok(true)
    }

    /// Takes as much of a piece of memory as there is room for, and says whether that is all of it.
    #[inline]
    fn add_piece(&mut self, piece: &GuestSlice<'m, M>, skip: &mut usize) -> bool {
        let skipped = (*skip).min(piece.len());
        *skip -= skipped;
        let wanted = piece.len() - skipped;
        if wanted == 0 {
            return true;
        }
        let room = BATCH_MAX - self.bytes;
        if self.slices.len() == PIECES_MAX || room == 0 {
            return false;
        }
        let here = wanted.min(room);
        let slice = piece.subslice(skipped, here);
        self.slices.push(slice.expect("it is within the piece"));
        self.bytes += here;
        here == wanted
    }

    /// Gives back to the queue, as used, what `done` bytes of the batch cover, and makes the rest available again.
    ///
    /// Buffers that the guest reads are used as soon as they hold a byte; those that it wrote, when nothing of them is left.
    pub(super) fn settle<Q: QueueT>(
        &self,
        memory: &M,
        queue: &mut Q,
        way: Way,
        done: usize,
    ) -> Result<Settled, Flaw> {
        let mut left = done.min(self.bytes);
        let mut used = 0;
        let size = queue.size();
        let mut next = queue.next_used();
        let mut window = Window::new(memory);
        let ring = ring(
            &mut window,
            queue.used_ring(),
            USED_LEN,
            size,
            Permissions::Write,
        );
        for chain in &self.chains {
            let here = left.min(chain.bytes);
            let is_full = here == chain.bytes && chain.whole;
            let len = match way {
                Way::FromGuest if is_full => 0,
                Way::ToGuest if is_full || here > 0 => here,
                _ => break,
            };
            let len = u32::try_from(len).expect("a batch is at most BATCH_MAX long");
            // The head comes first, then the length.
            let entry = Le64::from(u64::from(chain.head) | u64::from(len) << 32);
            let slot = HEADER_LEN + USED_LEN * u64::from(next % size);
            ring.write(slot, entry).ok_or(Flaw::Rings)?;
            next = next.wrapping_add(1);
            left -= here;
            used += 1;
        }
        if used > 0 {
            // One index for all: the guest sees the whole batch at once, or nothing of it.
            ring.publish(INDEX, next).ok_or(Flaw::Rings)?;
            queue.set_next_used(next);
        }
        let back = u16::try_from(self.chains.len() - used).expect("at most CHAINS_MAX");
        queue.set_next_avail(queue.next_avail().wrapping_sub(back));
        Ok(Settled { used, left })
    }
}

/// A queue's ring of entries of this length.
fn ring<'m, M: GuestMemory>(
    window: &mut Window<'m, M>,
    start: u64,
    entry_len: u64,
    size: u16,
    access: Permissions,
) -> Stretch<'m, M> {
    let len = HEADER_LEN + entry_len * u64::from(size);
    Stretch::new(window, start, len, access)
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// How many chains were given back as used.
    pub(super) used: usize,
    /// How many bytes are done of the first chain that was not.
    pub(super) left: usize,
}
