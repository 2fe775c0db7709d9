//! Commands in a guest over a virtio-console: the NixOS backdoor protocol.
//!
//! [`Shell`] talks to the root shell that a guest offers on its first virtio console, through the unix stream that QEMU
//! puts there. One command costs one round trip, and as few processes in the guest as its output allows.
//!
//! - [`wire`]: finds a command's answer in what comes from the guest. Every length check is here.
//! - [`script`]: writes the shell text that makes a guest answer like that.
//! - [`state`]: decides what is sent next and what that which arrives means. No sockets, no clock.
//! - [`io`]: reads and writes the stream. The only file that may block.
//! - `device` (a feature): the virtio-console device itself, for VMMs.
//! - [`agent`]: the protocol of the agent, which does more and is faster where it runs.
//!
//! Invariant: what is handed out as a command's output was printed by that command, all of it and in its order, or
//! there is an error.

#![cfg_attr(not(feature = "device"), forbid(unsafe_code))]

pub mod agent;
#[cfg(feature = "device")]
pub mod device;
mod error;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
pub mod io;
pub mod script;
pub mod state;
pub mod wire;

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use error::Error;
pub use io::Shell;
pub use script::{Command, Repeat, Until};
pub use state::{Exit, Progress};
