//! A QEMU that is there before it is needed: it has started, and waits to be told from which snapshot's devices it goes on. That hides the
//! greater part of a hot boot.
//!
//! Invariant: it is the machine's, and the reaper knows it, from its first moment; it goes with the machine, used or not.

use std::ffi::OsString;
use std::sync::PoisonError;

use super::KIND;
use crate::config::MachineKind;
use crate::machine::Machine;
use crate::machine::console_log::Opening;
use crate::machine::run::Run;
use crate::{Call, Error};

/// A QEMU that waits for the state of its devices.
#[derive(Debug)]
pub(crate) struct Spare {
    /// What it was started with.
    arguments: Vec<OsString>,
    run: Run,
}

impl Machine {
    /// Starts the QEMU of a machine that is off and has a snapshot, so that [`start`](Self::start) has less to do; says whether there is
    /// one now. Nothing that a test can see of the machine changes.
    ///
    /// # Errors
    ///
    /// When the call ends before, or QEMU does not start.
    pub fn prestart(&self, call: &Call<'_>) -> Result<bool, Error> {
        let _starting = self
            .starting
            .take(call, &|| format!("starting {}", self.name()))?;
        let MachineKind::Image(image) = &self.config.kind else {
            return Ok(false);
        };
        if self.present_run().is_some() || call.interrupt.is_interrupted() {
            return Ok(false);
        }
        let start = self.image_start(image, false, call)?;
        let Some(plan) = self.plan(image, &start) else {
            return Ok(false);
        };
        let Some(snapshot) = plan.cache.stored(KIND, &plan.key.key) else {
            return Ok(false);
        };
        let Some(arguments) = self.arguments(&plan, &snapshot) else {
            return Ok(false);
        };
        drop(self.take_spare(&[]));
        let mut run = self.start_qemu(arguments.clone(), Some(&Opening::Later), call)?;
        run.lease = Some(snapshot.lease());
        *self.hot.spare() = Some(Spare { arguments, run });
        Ok(true)
    }

    /// The QEMU that was started with these arguments, if there is one that waits; one that was started with others ends.
    pub(super) fn take_spare(&self, arguments: &[OsString]) -> Option<Run> {
        let spare = self.hot.spare().take()?;
        (spare.arguments == arguments && spare.run.is_running()).then_some(spare.run)
    }
}

impl super::Hot {
    pub(super) fn spare(&self) -> std::sync::MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
