//! The driver against fake machines (`examples/fake_qemu.rs`) and, in `guest`, against QEMU with the micro image.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests look at the host"
)]

mod commands;
mod ends;
mod leftovers;
mod support;
