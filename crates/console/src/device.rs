//! A virtio-console device (virtio 1.2, section 5.3), for any VMM.
//!
//! [`Console`] is all of the device but what carries it: several ports, the control queues, the console's size, emergency
//! writes. Whoever owns the queues and the guest's memory (a VMM, a vhost-user back end) hands them in with each call.
//!
//! - [`wire`]: the configuration space and the control messages, from bytes and back.
//! - [`state`]: who has said what in the handshake of each port, and what is to be said next. No memory, no queues.
//! - [`Console`]: brings both to split queues in guest memory. Every check of a descriptor is behind it.
//! - [`in_process`]: for a VMM that links this crate: kicks come by ioeventfd, interrupts go by irqfd.
//!
//! What a guest sends is never copied here: [`Received`] holds slices of the guest's own memory, and gives the buffers back
//! when it is dropped. What is sent goes from a [`Source`] straight into the guest's buffers.
//!
//! Invariant: no content of guest memory makes this module panic, work without bound, or touch anything that is not the
//! guest's memory. A guest that breaks the rules breaks its own device, until it resets it.

mod chain;
mod console;
mod control;
mod error;
mod fuzz;
pub mod in_process;
mod queue;
mod received;
mod saved;
mod source;
pub mod state;
#[expect(unsafe_code, reason = "readv and writev on guest memory")]
mod sys;
mod table;
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "tests send through sockets")]
pub(crate) mod tests;
#[cfg(feature = "vhost-user")]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
pub mod vhost_user;
mod window;
pub mod wire;

pub use console::{Config, Console, EMERGENCY_MAX, PORTS_MAX, Port, Sent, Stop};
pub use control::Control;
pub use error::{Error, Flaw};
pub use fuzz::fuzz;
pub use queue::{Role, needs_interrupt};
pub use received::Received;
pub use saved::{SavedQueue, State};
pub use source::{Descriptor, Slices, Source};
pub use state::PortEvent;
pub use wire::{ResizeOrder, Size};

/// A piece of guest memory.
pub type GuestSlice<'m, M> =
    vm_memory::VolatileSlice<'m, vm_memory::bitmap::BS<'m, <M as vm_memory::GuestMemory>::Bitmap>>;
