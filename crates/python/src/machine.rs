//! Machines as scripts see them: [`BaseMachine`] has what any machine has, [`QemuMachine`] what QEMU adds.
//!
//! [`Completed`] and [`Process`] are programs in a guest, [`Parallel`] is several calls at once.
//!
//! Each method hands its arguments to the driver's method of the same name, without the GIL.

mod base;
mod parallel;
mod process;
mod program;
mod qemu;
mod search;

use std::time::Duration;

pub(crate) use base::{BaseMachine, NspawnMachine};
pub(crate) use parallel::Parallel;
pub(crate) use process::{Input, Output, Process};
pub(crate) use program::Completed;
pub(crate) use qemu::QemuMachine;

use crate::duration::{LONGEST, Timeout};

/// The driver's waits all end some day; so does one without end.
pub(crate) fn bounded(timeout: Timeout) -> Duration {
    timeout.0.unwrap_or(LONGEST)
}
