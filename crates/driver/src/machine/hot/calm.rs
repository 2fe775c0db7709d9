//! When a guest has done all that belongs to its boot: what is left to do when it is saved, every restore does again.

use std::time::Duration;

use hotbed_console::agent::Agent;
use hotbed_console::agent::wire::{BootPhase, Wait};

use super::deadline;
use crate::call::{after, now};
use crate::machine::Machine;
use crate::machine::run::Run;
use crate::process::wait_readable;
use crate::{Call, Error};

/// How long a boot may go on behind the shell.
const BOOT: Duration = Duration::from_secs(20);
/// The pause between two looks at QEMU.
const PAUSE: Duration = Duration::from_millis(20);
/// As much of [`Idleness`] is calm when the boot is over.
const CALM: u32 = 5;
/// As much is when it is not: the guest waits for something, such as another machine.
const CALM_OF_WAITING: u32 = 50;
/// What a look that finds QEMU at work takes off the idleness.
const WORK: u32 = 4;

/// For how many looks QEMU has been idle, but for a little work now and then.
#[derive(Debug, Default)]
struct Idleness(u32);

impl Idleness {
    fn look(&mut self, is_idle: bool) {
        self.0 = match is_idle {
            true => self.0.saturating_add(1),
            false => self.0.saturating_sub(WORK),
        };
    }

    fn is_calm(&self, is_over: bool) -> bool {
        self.0 >= if is_over { CALM } else { CALM_OF_WAITING }
    }
}

impl Machine {
    /// Waits until the guest's boot is over, as far as its agent can tell, and the guest is calm. A boot that waits for something is waited
    /// for until it is seen to.
    pub(super) fn wait_for_calm(
        &self,
        run: &Run,
        agent: Option<&Agent>,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let failed = || Error::host("cannot look at QEMU");
        let patience = deadline(BOOT);
        let finished = Wait::Boot(BootPhase::Finished);
        let booting = agent.and_then(|agent| agent.wait(finished, Some(BOOT)).ok());
        let mut idleness = Idleness::default();
        let mut is_over = false;
        while !idleness.is_calm(is_over) && now() < patience && run.is_running() {
            let slice = call.slice(&|| format!("{} finishes its boot", self.name()))?;
            wait_readable(&[run.process.exit_event()], slice.min(after(now(), PAUSE)))
                .map_err(failed())?;
            is_over |= matches!(
                booting.as_ref().map(|booting| booting.poll(now())),
                Some(Ok(Some(_)))
            );
            idleness.look(run.process.is_idle().map_err(failed())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many looks it is calm, of which each `busy`th finds work; `None`: not within a minute.
    fn calm_after(busy: u32, is_over: bool) -> Option<u32> {
        let mut idleness = Idleness::default();
        (1..3000).find(|look| {
            idleness.look(look % busy != 0);
            idleness.is_calm(is_over)
        })
    }

    #[test]
    fn guest_that_looks_for_another_machine_now_and_then_is_calm_and_one_that_works_is_not() {
        assert_eq!(calm_after(u32::MAX, true), Some(CALM));
        assert_eq!(calm_after(u32::MAX, false), Some(CALM_OF_WAITING));
        assert!(calm_after(10, false).is_some());
        for busy in 1..4 {
            assert_eq!(calm_after(busy, true), None, "{busy}");
        }
    }
}
