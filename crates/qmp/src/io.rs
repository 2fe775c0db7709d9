//! Moves bytes between sockets and sessions: the two fronts, and the fake QEMU.

pub mod blocking;
mod connect;
#[cfg(feature = "fake")]
pub mod fake;
mod link;
#[cfg(feature = "tokio")]
pub mod tokio;
