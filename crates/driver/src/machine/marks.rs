//! How far a machine came, and when: the moments of its last start, on the host's clock.

use std::sync::Mutex;
use std::time::Instant;

use super::lock;
use crate::call::now;

/// A moment of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Somebody asked for it.
    Asked,
    /// All is ready for QEMU, which is started now.
    Spawning,
    /// QEMU has connected everywhere.
    Connected,
    /// The guest is as its snapshot has it, and runs.
    Restored,
    /// It knows the time and who it is.
    Settled,
    /// Its shell is there, or its agent.
    Up,
}

/// How many there are.
const COUNT: usize = 6;

/// The moments of the last start, those that it has reached.
#[derive(Debug, Default)]
pub(crate) struct Marks(Mutex<[Option<Instant>; COUNT]>);

impl Marks {
    /// Forgets the last start: another one begins now.
    pub(crate) fn begin(&self) {
        *lock(&self.0) = [None; COUNT];
        self.set(Mark::Asked);
    }

    /// Takes note that it has come so far.
    pub(crate) fn set(&self, mark: Mark) {
        if let Some(moment) = lock(&self.0).get_mut(mark as usize) {
            *moment = Some(now());
        }
    }

    /// When it came so far.
    pub(crate) fn at(&self, mark: Mark) -> Option<Instant> {
        lock(&self.0).get(mark as usize).copied().flatten()
    }
}
