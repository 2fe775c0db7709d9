//! A QMP client: control of QEMU, with events, deadlines and file-descriptor passing.
//!
//! Bytes come in from QEMU's monitor socket and become answers and events, through three files:
//!
//! - [`wire`]: bytes to [`wire::Message`], however they were cut up; every bound on what QEMU may send is here.
//! - [`state`]: [`state::Session`] numbers commands, matches answers to them, and keeps events. No sockets, no clock.
//! - [`io`]: the two fronts, [`blocking::Client`] and (feature `tokio`) `tokio::Client`, and the fake QEMU for
//!   tests (feature `fake`). The only files that may block.
//!
//! Beside them, [`commands`] has a type for each command that Hotbed sends, and [`schema`] reads what QEMU says
//! about itself.
//!
//! Invariants: an event that QEMU sent is in the history before the answer that followed it is given; nothing
//! waits past its deadline; nothing that QEMU sends makes the client panic.

#![forbid(unsafe_code)]
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod commands;
mod error;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
pub mod io;
pub mod schema;
pub mod state;
pub mod wire;

pub use commands::Command;
pub use error::{Error, ErrorClass};
pub use io::blocking;
#[cfg(feature = "fake")]
pub use io::fake;
#[cfg(feature = "tokio")]
pub use io::tokio;
pub use wire::{Event, Greeting, Timestamp, Version};
