//! The switch with real sockets, real VDE tools and a real QEMU.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests talk to sockets and processes"
)]

mod capture;
mod dgram;
mod freeze;
#[cfg(feature = "vhost-user")]
mod guest;
#[cfg(feature = "hosts")]
mod hosts;
mod impair;
mod local;
mod namespace;
mod qemu;
mod stopped;
#[cfg(feature = "vhost-user")]
mod strangers;
mod stream;
mod support;
#[cfg(feature = "vhost-user")]
#[expect(unsafe_code, reason = "see there")]
mod sys;
mod tags;
mod vde;
mod vde_tools;
#[cfg(feature = "vhost-user")]
mod vhost_user;
mod vxlan;
mod watch;
