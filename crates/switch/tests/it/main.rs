//! The switch with real sockets, real VDE tools and a real QEMU.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests talk to sockets and processes"
)]

mod capture;
mod dgram;
mod impair;
mod local;
mod namespace;
mod qemu;
mod stopped;
mod stream;
mod support;
mod tags;
mod vde;
mod vde_tools;
mod vxlan;
