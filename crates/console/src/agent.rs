//! The agent's protocol: many commands at once, files, waits that are events, over a virtio port of its own.
//!
//! - [`wire`]: the messages, and bytes to frames and back. Every length check is here.
//!
//! Invariant: what a guest sends is an error of that guest at worst, never a panic, and never more memory than has a name here.

pub mod wire;
