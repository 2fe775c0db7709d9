//! Takes chains of descriptors out of a queue, and finds the memory that they stand for.
//!
//! This is where the guest's numbers are checked. A chain is at most as long as its queue; its buffers all go one way, and
//! lie in guest memory. Of what is left, a [`Batch`] takes so much that one system call can move it.

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{GuestMemory, Permissions};

use super::GuestSlice;
use super::error::Flaw;
use super::queue::available;
use super::sys::PIECES_MAX;

/// How many chains a batch has at most.
pub(super) const CHAINS_MAX: usize = 256;

/// How many bytes a batch has at most.
pub(super) const BATCH_MAX: usize = 16 << 20;

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
        let mut batch = Batch {
            chains: Vec::with_capacity(available),
            slices: Vec::with_capacity(available),
            bytes: 0,
        };
        let size = queue.size();
        let mut skip = skip;
        let mut queue = queue.lock();
        let mut chains = queue.iter(memory).map_err(|_| Flaw::Rings)?;
        for _ in 0..available {
            let chain = chains.next().ok_or(Flaw::Rings)?;
            let taken = batch.add(memory, chain, size, way, skip)?;
            batch.chains.push(taken);
            skip = 0;
            if !taken.whole {
                break;
            }
        }
        Ok(Some(batch))
    }

    /// Takes as much of one chain as there is room for.
    fn add(
        &mut self,
        memory: &'m M,
        chain: DescriptorChain<&'m M>,
        size: u16,
        way: Way,
        mut skip: usize,
    ) -> Result<Taken, Flaw> {
        let head = chain.head_index();
        let before = self.bytes;
        let mut whole = true;
        let mut length = 0;
        let mut more = true;
        for descriptor in chain {
            length += 1;
            more = descriptor.has_next();
            if length > size {
                return Err(Flaw::Endless(head));
            }
            whole = self.add_buffer(memory, head, &descriptor, way, &mut skip)?;
            if !whole {
                break;
            }
        }
        match (length, whole && more) {
            (0, _) => Err(Flaw::Head(head)),
            // The iterator ends without an error at a descriptor that it cannot follow.
            (_, true) => Err(Flaw::Endless(head)),
            (_, false) => Ok(Taken {
                head,
                bytes: self.bytes - before,
                whole,
            }),
        }
    }

    /// Takes as much of one buffer as there is room for, and says whether that is all of it.
    fn add_buffer(
        &mut self,
        memory: &'m M,
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
        let nowhere = || Flaw::Address {
            head,
            address: descriptor.addr().0,
            len: descriptor.len(),
        };
        // What is not looked at now has to be in memory, too.
        let cut = || match memory.check_range(descriptor.addr(), len, access) {
            true => Ok(false),
            false => Err(nowhere()),
        };
        let slices = memory.get_slices(descriptor.addr(), len, access);
        for slice in slices.map_err(|_| nowhere())? {
            let slice = slice.map_err(|_| nowhere())?;
            let skipped = (*skip).min(slice.len());
            *skip -= skipped;
            let wanted = slice.len() - skipped;
            if wanted == 0 {
                continue;
            }
            let room = BATCH_MAX - self.bytes;
            if self.slices.len() == PIECES_MAX || room == 0 {
                return cut();
            }
            let here = wanted.min(room);
            self.slices
                .push(slice.subslice(skipped, here).map_err(|_| nowhere())?);
            self.bytes += here;
            if here < wanted {
                return cut();
            }
        }
        Ok(true)
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
        for chain in &self.chains {
            let here = left.min(chain.bytes);
            let is_full = here == chain.bytes && chain.whole;
            let len = match way {
                Way::FromGuest if is_full => 0,
                Way::ToGuest if is_full || here > 0 => here,
                _ => break,
            };
            let len = u32::try_from(len).expect("a batch is at most BATCH_MAX long");
            queue
                .add_used(memory, chain.head, len)
                .map_err(|_| Flaw::Rings)?;
            left -= here;
            used += 1;
        }
        let back = u16::try_from(self.chains.len() - used).expect("at most CHAINS_MAX");
        queue.set_next_avail(queue.next_avail().wrapping_sub(back));
        Ok(Settled { used, left })
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// How many chains were given back as used.
    pub(super) used: usize,
    /// How many bytes are done of the first chain that was not.
    pub(super) left: usize,
}
