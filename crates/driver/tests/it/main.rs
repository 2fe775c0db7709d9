//! The driver against fake machines (`examples/fake_qemu.rs`) and, in `guest`, against QEMU with the micro image.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the host, and say what must be there"
)]

mod agent;
mod checkpoint;
mod clones;
mod commands;
#[expect(clippy::duplicate_mod, reason = "the same tests, with an agent")]
#[path = "commands.rs"]
mod commands_by_agent;
mod ends;
mod guest;
mod hot;
mod leftovers;
mod power;
mod prestart;
mod session;
mod start_script;
mod support;
mod units;
mod vde;
mod vhost_user;
