//! The binary from outside: what it says, how it ends, what it leaves.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start processes and read clocks"
)]

mod bench;
mod cache;
mod checkpoint;
mod conditions;
mod full;
mod guests;
mod hot;
mod interpreter;
mod nixos;
mod program;
mod screens;
mod shell;
mod signals;
mod snapshot;
mod support;
mod symbols;
mod systemd;
mod terminals;
mod timeout;
mod usage;
mod verdict;
