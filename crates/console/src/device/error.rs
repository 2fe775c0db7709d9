//! Why a device does not go on.

use std::io;

use super::wire::BadMessage;

/// Why a device does not go on.
///
/// After [`Error::Guest`] the device answers every call but [`Console::reset`](super::Console::reset) with
/// [`Error::Broken`]: set `DEVICE_NEEDS_RESET` in its status, and say so to whoever waits for the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The guest broke the rules of virtio. Its fault, never that of the host.
    #[error("the guest broke its console: queue {queue} holds {flaw}")]
    Guest {
        /// The number of the queue that is broken.
        queue: usize,
        /// What is wrong there.
        flaw: Flaw,
    },
    /// The guest broke the rules earlier, and did not reset the device yet.
    #[error("the guest broke its console earlier, and did not reset it")]
    Broken,
    /// There is no such port: the caller's fault.
    #[error("there is no port {0}")]
    NoPort(u32),
    /// The device cannot be as it was asked for.
    #[error("a console cannot have {0}")]
    Config(String),
    /// A saved state does not belong to such a device.
    #[error("a saved state with {0}")]
    State(String),
    /// Reading what is to be sent failed. The guest has not seen any of it.
    #[error("reading what is to be sent to the guest")]
    Source(#[source] io::Error),
    /// The kernel does not watch or signal a descriptor.
    #[error("the device's descriptors")]
    Descriptor(#[source] io::Error),
}

/// What is wrong with a queue.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Its rings do not lie in guest memory, or nobody set it up.
    #[error("no rings in guest memory")]
    Rings,
    /// More is made available than the queue can hold.
    #[error("{0} available chains, more than it has room for")]
    Overfull(u16),
    /// A chain has no first descriptor.
    #[error("a chain with head {0} that cannot be read")]
    Head(u16),
    /// A chain is longer than its queue (it may be a loop), or leads to a descriptor that does not exist.
    #[error("a chain with head {0} without an end")]
    Endless(u16),
    /// A chain has a descriptor of the wrong direction.
    #[error("a chain with head {head} and a buffer that is {found}")]
    Direction {
        /// The chain.
        head: u16,
        /// What its buffer is, and must not be.
        found: &'static str,
    },
    /// A chain has a buffer that is not in guest memory.
    #[error(
        "a chain with head {head} and a buffer of {len} bytes at {address:#x}, where no memory is"
    )]
    Address {
        /// The chain.
        head: u16,
        /// Where its buffer begins.
        address: u64,
        /// How long it is.
        len: u32,
    },
    /// A chain of the control queue is too small for a message.
    #[error("a chain with head {head} and {len} bytes for a control message of {needed}")]
    Small {
        /// The chain.
        head: u16,
        /// How many bytes it has.
        len: usize,
        /// How many it needs.
        needed: usize,
    },
    /// The driver sent a control message that makes no sense.
    #[error("{0}")]
    Message(BadMessage),
}
