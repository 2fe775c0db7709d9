//! The way into a running test from another process: a socket in the testbed's directory, which is its owner's alone.
//!
//! - [`Server`]: what the process that runs the test has; [`running_tests`] finds such processes, and [`enter`] opens a shell in a
//!   machine of one.
//! - `wire`: the messages between the two; every length check is there.
//! - `server`, `client`: the two ends.
//!
//! Invariant: nobody but the test's own user gets in, and no client can hold up the test or its end.

mod client;
mod server;
mod wire;

use std::path::Path;

pub use client::{RunningTest, enter, running_tests};
pub use server::Server;

/// The socket, in the testbed's directory.
const SOCKET: &str = "control";
/// The file beside it that names the test's files, with a NUL after each.
const FILES: &str = "control.files";

/// The path that both sides know a file by.
fn canonical(file: &Path) -> std::io::Result<std::path::PathBuf> {
    std::fs::canonicalize(file)
}

/// What the fuzzer does with its bytes: they come in at the socket, the first of them is the size of the pieces.
pub fn fuzz(data: &[u8]) {
    wire::fuzz(data);
}
