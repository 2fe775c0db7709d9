//! Machines that boot, talk and are tested: the test driver as a library.
//!
//! A [`TestConfig`] says which machines and VLANs a test has; a [`Testbed`] makes them; a [`Machine`] boots, takes commands and is
//! waited for. Everything blocks, and every call that may wait takes a [`Call`]: a deadline and an [`Interrupt`] that is asked at
//! least every 50 ms, so that no guest and no QEMU can hold a caller for longer than that.
//!
//! - [`config`]: what a test file's head or a JSON file asks for; pure.
//! - [`log`]: what is said on the terminal, line by line.
//! - [`testbed`]: directories, VLANs, machines, the global timeout and the end.
//! - [`machine`]: one machine: its QEMU, its shell, its files, its power.
//! - [`boot_times`]: how long machines take to come up, phase by phase.
//! - [`capacity`]: how many machines the host holds, and how many start at once.
//! - [`terminal`], [`control`]: somebody at a terminal in a machine, from this process or another one.
//!
//! Invariant: nothing that a testbed starts outlives it, not even when this process is killed.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod accelerator;
mod agent_program;
pub mod boot_times;
mod call;
pub mod capacity;
pub mod config;
pub mod control;
mod error;
mod images;
pub mod log;
pub mod machine;
mod picture;
mod process;
mod site;
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec cannot be written without"
)]
mod sys;
pub mod terminal;
pub mod testbed;
mod turn;
pub mod vlan;

pub use agent_program::AgentProgram;
pub use call::{Call, Interrupt, Never};
pub use config::{MachineConfig, TestConfig};
pub use error::{CallbackError, Error};
pub use log::Log;
pub use machine::Machine;
pub use machine::hot::KINDS as CACHE_KINDS;
pub use testbed::{AtTimeout, Options, Testbed};
pub use vlan::Vlan;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
