//! The client against a fake QEMU, against a real one, and the parser against the fuzzer's corpus.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start processes, open files and set deadlines"
)]

mod asynchronous;
mod blocking;
mod corpus;
mod deadlines;
mod files;
mod real;
mod real_commands;
mod schema;
mod support;
