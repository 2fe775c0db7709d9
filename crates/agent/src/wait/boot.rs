//! Waits for the phases of a boot.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use hotbed_console::agent::wire::BootPhase;
use rustix::event::epoll::EventFlags;

use super::unit::{BOOTED, Goal, UnitWatch};
use super::{Failure, Watch};

/// Begins to wait for a phase. A system without systemd has gone through all of them when the agent runs.
pub(super) fn begin(phase: BootPhase) -> Result<Box<dyn Watch>, Failure> {
    if !Path::new(BOOTED).is_dir() {
        return Ok(Box::new(Done));
    }
    let goal = match phase {
        BootPhase::Basic => Goal::Unit {
            name: "basic.target".to_owned(),
            states: vec!["active".to_owned()],
            or_fail: false,
            finished: false,
        },
        BootPhase::Finished => Goal::Boot,
    };
    Ok(Box::new(UnitWatch::new(goal, None)?))
}

/// What has happened already.
struct Done;

impl Watch for Done {
    fn interest(&self, _: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        None
    }

    fn poll(&mut self, _: Instant) -> Result<Option<String>, Failure> {
        Ok(Some(String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_without_systemd_has_booted() {
        if Path::new(BOOTED).is_dir() {
            eprintln!("skipped: this system runs systemd");
            return;
        }
        for phase in [BootPhase::Basic, BootPhase::Finished] {
            let found = begin(phase)
                .ok()
                .unwrap()
                .poll(super::super::testing::now());
            assert_eq!(found, Ok(Some(String::new())));
        }
    }
}
