//! A D-Bus client, as small as waiting needs it.
//!
//! - [`wire`]: messages to and from bytes.
//! - [`connection`]: a socket that messages come out of.
//!
//! systemd listens on a socket of its own, on which it speaks D-Bus without a bus in between: it is there before any bus is, and
//! tells every change without being asked to. So that is what is used, and the bus where it is not there.

pub(super) mod connection;
pub(super) mod wire;
