//! The agent: it runs in a guest, does what the host asks for over a virtio port, and turns waits into events.

#![expect(dead_code, reason = "the core that uses it follows")]

mod failure;
mod wait;

fn main() {}
