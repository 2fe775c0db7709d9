//! Machines as scripts see them: [`BaseMachine`] has what any machine has, [`QemuMachine`] what QEMU adds.
//!
//! Each method hands its arguments to the driver's method of the same name, without the GIL.

mod base;
mod qemu;

use std::time::Duration;

pub(crate) use base::BaseMachine;
pub(crate) use qemu::QemuMachine;

use crate::duration::{LONGEST, Timeout};

/// The driver's waits all end some day; so does one without end.
pub(crate) fn bounded(timeout: Timeout) -> Duration {
    timeout.0.unwrap_or(LONGEST)
}
