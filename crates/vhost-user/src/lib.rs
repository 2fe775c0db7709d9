//! The connection loop of a vhost-user back end: what a device of ours needs to serve QEMU, crosvm or User-mode Linux.
//!
//! A front end (the VMM) connects to a unix socket, hands over the guest's memory and an eventfd or two per queue, and says
//! when queues start and stop. [`Connection`] answers it, with the `vhost` crate's request handler, and tells the embedder
//! which queue has something to do. It has no thread and no loop: it puts its descriptors into an epoll instance of the
//! embedder's, so that one thread can serve any number of front ends.
//!
//! - [`wire`]: the few bytes that are looked at before the `vhost` crate sees them. Every length check is here.
//! - [`device`]: what a device must be able to do, [`Device`].
//! - [`memory`], [`dirty`]: the guest's memory, and the log of what was written to it.
//! - [`ring`]: a queue with its descriptors, [`Ring`]. [`batch`]: its chains, many in a row.
//! - `state`: answers each request. It waits for nothing.
//! - [`io`]: reads the socket, [`Connection`] and [`Listener`]. The only file that reads or writes it.
//!
//! Invariant: nothing that a front end sends makes a call wait, allocate without bound, or panic.

#![forbid(unsafe_code)]

pub mod batch;
pub mod device;
pub mod dirty;
mod error;
#[expect(clippy::disallowed_types, reason = "the I/O shell")]
pub mod io;
pub mod memory;
pub mod ring;
mod state;
pub mod wire;

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use batch::{Batch, Chain};
pub use device::Device;
pub use error::Error;
pub use io::{Connection, Event, Listener, Parts, Poller};
pub use memory::Memory;
pub use ring::Ring;
// Their types are in our interface: the embedder needs the same versions of them.
pub use {virtio_queue, vm_memory};
