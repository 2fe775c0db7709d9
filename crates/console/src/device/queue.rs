//! Which queue is for what, and when the guest wants to hear about one.

use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::QueueT;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

use super::error::{Error, Flaw};

/// What both rings begin with: flags and index.
pub(super) const HEADER_LEN: u64 = 4;

/// How long a chain's head is in the ring of available ones.
pub(super) const HEAD_LEN: u64 = 2;

/// What a queue is for, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The guest receives a port's data by it: the device fills its buffers.
    Receive(u32),
    /// The guest transmits a port's data by it: the device reads its buffers.
    Transmit(u32),
    /// The guest receives control messages by it.
    ControlReceive,
    /// The guest transmits control messages by it.
    ControlTransmit,
}

impl Role {
    /// What the queue with this number is for.
    #[must_use]
    pub fn of(index: usize) -> Role {
        let port = |index: usize| u32::try_from(index / 2).unwrap_or(u32::MAX);
        match index {
            0 => Role::Receive(0),
            1 => Role::Transmit(0),
            2 => Role::ControlReceive,
            3 => Role::ControlTransmit,
            _ if index.is_multiple_of(2) => Role::Receive(port(index - 2)),
            _ => Role::Transmit(port(index - 2)),
        }
    }

    /// The number of the queue.
    #[must_use]
    pub fn index(self) -> usize {
        let first = |port: u32| match port {
            0 => 0,
            _ => 2 + 2 * port as usize,
        };
        match self {
            Role::Receive(port) => first(port),
            Role::Transmit(port) => first(port) + 1,
            Role::ControlReceive => 2,
            Role::ControlTransmit => 3,
        }
    }
}

/// Whether the guest wants an interrupt for what was put into a queue's used ring since its [`QueueT::next_used`] was `since`.
///
/// Ask after each call that may have put something there, and interrupt the guest when the answer is yes.
/// [`QueueT::needs_notification`] is no help: it counts what was put into the ring one by one, and minds no flag.
///
/// # Errors
///
/// Fails when the rings are not in guest memory.
pub fn needs_interrupt<M: GuestMemory, Q: QueueT>(
    memory: &M,
    queue: &Q,
    since: u16,
) -> Result<bool, Flaw> {
    let (since, used) = (Wrapping(since), Wrapping(queue.next_used()));
    if !queue.ready() || used == since {
        return Ok(false);
    }
    // The used ring's index must be there before it is read what the guest wants.
    fence(Ordering::SeqCst);
    if !queue.event_idx_enabled() {
        let flags: u16 = memory
            .load(GuestAddress(queue.avail_ring()), Ordering::Relaxed)
            .map_err(|_| Flaw::Rings)?;
        return Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0);
    }
    let event = GuestAddress(queue.avail_ring())
        .checked_add(HEADER_LEN + HEAD_LEN * u64::from(queue.size()))
        .ok_or(Flaw::Rings)?;
    let event: u16 = memory
        .load(event, Ordering::Relaxed)
        .map_err(|_| Flaw::Rings)?;
    // The guest wants to hear when the entry with this number is there.
    Ok(used - Wrapping(u16::from_le(event)) - Wrapping(1) < used - since)
}

/// How many chains the guest has made available. When there is none, the guest is asked to kick when there is one.
pub(super) fn available<M: GuestMemory, Q: QueueT>(memory: &M, queue: &mut Q) -> Result<u16, Flaw> {
    let mut count = waiting(memory, queue)?;
    if count == 0 && queue.enable_notification(memory).map_err(|_| Flaw::Rings)? {
        count = waiting(memory, queue)?;
    }
    if count > queue.size() {
        return Err(Flaw::Overfull(count));
    }
    Ok(count)
}

fn waiting<M: GuestMemory, Q: QueueT>(memory: &M, queue: &Q) -> Result<u16, Flaw> {
    let end = queue.avail_idx(memory, Ordering::Acquire);
    let end = end.map_err(|_| Flaw::Rings)?;
    Ok((end - Wrapping(queue.next_avail())).0)
}

impl Flaw {
    /// The error that says where the flaw is.
    pub(super) fn at(self, role: Role) -> Error {
        Error::Guest {
            queue: role.index(),
            flaw: self,
        }
    }
}
