//! The agent's protocol: many commands at once, files, waits that are events, over a virtio port of its own.
//!
//! - [`wire`]: the messages, and bytes to frames and back. Every length check is here.
//! - [`state`]: decides what arrives where, and who may send how much. No sockets, no clock.
//! - [`io`]: reads and writes the stream. The only file that may block.
//!
//! Invariant: what a guest sends is an error of that guest at worst, never a panic, and never more memory than has a name here.

mod error;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
pub mod io;
pub mod state;
pub mod wire;

pub use error::Error;
pub use io::{Agent, Getting, Putting, Running, Waiting};
pub use state::{Ended, GetProgress, Hello, Progress};
