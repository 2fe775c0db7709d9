//! What the host can carry: how many machines it holds before it swaps, and how many may start at once.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::call::now;
use crate::{Call, Error, Log};

/// How many machines start at once for each processor: while one waits for QEMU, another one has something to do.
const STARTS_PER_PROCESSOR: usize = 2;
/// What is left to the rest of the host.
const RESERVE: u64 = 256 << 20;

/// What a host has for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of memory that can be had without swapping anything out; `None` when the system does not say.
    pub memory: Option<u64>,
    /// Processors.
    pub processors: usize,
}

impl Capacity {
    /// Asks the system.
    #[must_use]
    pub fn of_host() -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            memory: available(&text),
            processors: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// How many machines that take so many bytes each fit before the host swaps.
    #[must_use]
    pub fn holds(&self, bytes: u64) -> Option<u64> {
        Some(self.memory?.saturating_sub(RESERVE) / bytes.max(1))
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Lets machines start at the rate that the host carries.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    starting: Mutex<Starting>,
    changed: Condvar,
}

/// The machines that start now.
#[derive(Debug, Default)]
struct Starting {
    count: usize,
    /// What they will take.
    bytes: u64,
    has_warned: bool,
}

/// What is to be done with a machine that wants to start.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Enter,
    /// There is no room for it, and no start is under way after which there might be.
    EnterAndWarn,
    Wait,
}

impl Starting {
    fn ask(&self, need: u64, capacity: &Capacity) -> Answer {
        if self.count >= capacity.processors.saturating_mul(STARTS_PER_PROCESSOR) {
            return Answer::Wait;
        }
        // What those that start will take is still counted as available.
        let wanted = self.bytes.saturating_add(need).saturating_add(RESERVE);
        match capacity.memory {
            Some(memory) if wanted > memory && self.count > 0 => Answer::Wait,
            Some(memory) if wanted > memory => Answer::EnterAndWarn,
            _ => Answer::Enter,
        }
    }
}

/// A machine that starts. Dropping it says that it has.
pub(crate) struct Admitted<'a> {
    admission: &'a Admission,
    bytes: u64,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut starting = self.admission.starting();
        starting.count = starting.count.saturating_sub(1);
        starting.bytes = starting.bytes.saturating_sub(self.bytes);
        self.admission.changed.notify_all();
    }
}

impl Admission {
    fn starting(&self) -> MutexGuard<'_, Starting> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a machine that will take `need` bytes may start.
    pub(crate) fn enter(
        &self,
        need: u64,
        log: &Log,
        call: &Call<'_>,
    ) -> Result<Admitted<'_>, Error> {
        let mut starting = self.starting();
        loop {
            let answer = starting.ask(need, &Capacity::of_host());
            if answer != Answer::Wait {
                starting.count += 1;
                starting.bytes = starting.bytes.saturating_add(need);
                let warns = answer == Answer::EnterAndWarn && !starting.has_warned;
                starting.has_warned |= warns;
                drop(starting);
                if warns {
                    log.warning(
                        "the host's memory is used up: with more machines it swaps, and all are slow (`hotbed doctor` says how many it holds)",
                    );
                }
                return Ok(Admitted {
                    admission: self,
                    bytes: need,
                });
            }
            let until = call.slice(&|| "machines start one after the other".to_owned())?;
            let left = until.saturating_duration_since(now());
            let waited = self.changed.wait_timeout(starting, left);
            starting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn host(memory: u64) -> Capacity {
        Capacity {
            memory: Some(memory),
            processors: 2,
        }
    }

    #[test]
    fn what_is_available_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24689764 kB\nMemAvailable:   23068672 kB\n";
        assert_eq!(available(text), Some(22 * GIB));
        for odd in [
            "",
            "MemAvailable: x kB",
            "MemAvailable: 99999999999999999999 kB",
            "MemAvailable: 1",
        ] {
            assert_eq!(available(odd), None, "{odd}");
        }
        assert!(Capacity::of_host().processors > 0);
    }

    #[test]
    fn a_host_holds_what_fits_beside_everything_else() {
        assert_eq!(host(GIB + RESERVE).holds(64 << 20), Some(16));
        assert_eq!(host(RESERVE / 2).holds(64 << 20), Some(0));
        assert_eq!(host(GIB).holds(0), Some(GIB - RESERVE));
    }

    #[test]
    fn machines_start_a_few_at_a_time_and_no_more_than_memory_is_for() {
        let starting = |count, bytes| Starting {
            count,
            bytes,
            has_warned: false,
        };
        assert_eq!(starting(3, 0).ask(1, &host(GIB)), Answer::Enter);
        assert_eq!(starting(4, 0).ask(1, &host(GIB)), Answer::Wait);
        // Those that start have not taken yet what they will.
        assert_eq!(starting(1, GIB / 2).ask(GIB / 2, &host(GIB)), Answer::Wait);
        assert_eq!(starting(0, 0).ask(GIB, &host(GIB)), Answer::EnterAndWarn);
        let unknown = Capacity {
            memory: None,
            processors: 2,
        };
        assert_eq!(starting(1, GIB).ask(GIB, &unknown), Answer::Enter);
        assert_eq!(unknown.holds(1), None);
    }

    #[test]
    fn who_waits_enters_when_another_one_is_done() {
        let admission = Admission::default();
        let log = Log::to(Box::new(std::io::sink()), false);
        let call = Call::unlimited();
        let first = admission.enter(u64::MAX / 2, &log, &call).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| admission.enter(1 << 40, &log, &call).map(drop));
            drop(first);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(admission.starting().count, 0);
        assert_eq!(admission.starting().bytes, 0);
    }
}
