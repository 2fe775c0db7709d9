//! The agent itself, over a socket, with the host's side that is used with it: no guest is needed.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test of a program does I/O"
)]

mod bulk;
mod commands;
mod deadlines;
mod files;
mod sessions;
mod support;
