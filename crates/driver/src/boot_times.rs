//! How long machines take to come up, phase by phase, on one clock: the host's.
//!
//! - [`measure`]: starts a machine again and again, and gives a [`Series`] of [`Boot`]s.
//! - `guest`: when the guest was how far, by its own marks.
//! - [`Report`]: several series, as JSON and as a chart ([`Report::to_svg`]).
//!
//! Nothing is guessed: what QEMU and the driver do is timed where they do it; what the guest does is taken from the time stamps of
//! its kernel's log, whose clock is tied to the host's by a mark that the guest is told to make; what systemd does by its own words.

mod chart;
mod guest;
mod report;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use hotbed_image::Progress;

use crate::call::now;
use crate::config::{Hot, MachineKind};
use crate::machine::marks::Mark;
use crate::{Call, Error, Machine, TestConfig};
pub use report::{Report, Span};

/// What a machine starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Power-on.
    Cold,
    /// A snapshot of an earlier boot.
    Hot,
}

impl Start {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Hot => "hot",
        }
    }
}

/// What a test asks for, but all of its machines start so.
#[must_use]
pub fn starting(mut config: TestConfig, start: Start) -> TestConfig {
    for machine in &mut config.machines {
        if let MachineKind::Image(image) = &mut machine.kind {
            image.hot = match (start, image.hot.take()) {
                (Start::Cold, _) => Some(Hot::Never),
                (Start::Hot, Some(unit @ Hot::Unit(_))) => Some(unit),
                (Start::Hot, _) => Some(Hot::Booted),
            };
        }
    }
    config
}

/// A part of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// What it is called: `prepare`, `spawn`, `firmware`, `kernel`, `initrd`, `userspace`, `answer`; of a hot start `prepare`, `spawn`,
    /// `restore`, `settle`, `answer`.
    pub name: &'static str,
    /// How long it took.
    pub length: Duration,
}

/// One start of a machine, from the call to the answer to its first command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Its phases; one begins where the one before it ends.
    pub phases: Vec<Phase>,
    /// The processor time that QEMU took, up to the answer.
    pub processor: Duration,
}

impl Boot {
    /// How long it took.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }

    /// The phases between moments, each with its name and its end. A moment before the last one counts as that: the guest's marks are
    /// known to some milliseconds only.
    fn between(
        begin: Instant,
        ends: impl IntoIterator<Item = (&'static str, Instant)>,
        processor: Duration,
    ) -> Self {
        let mut last = begin;
        let mut phases = Vec::new();
        for (name, end) in ends {
            let length = end.saturating_duration_since(last);
            phases.push(Phase { name, length });
            last += length;
        }
        Self { phases, processor }
    }
}

/// Several starts of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The machine.
    pub machine: String,
    /// What it started from.
    pub start: Start,
    /// The starts, in their order.
    pub boots: Vec<Boot>,
}

/// Starts a machine so many times and times each. It has to be off, and is so at the end; a machine that is to start from a snapshot is
/// started once more before, so that there is one.
///
/// # Errors
///
/// When it does not come up, or does not start as it should.
pub fn measure(
    machine: &Machine,
    start: Start,
    runs: usize,
    progress: &dyn Progress,
    call: &Call<'_>,
) -> Result<Series, Error> {
    let what = format!("{}, {}", machine.name(), start.name());
    if start == Start::Hot {
        progress.step(&format!("{what}: making a snapshot if there is none"));
        machine.connect(call)?;
        machine.crash(call)?;
    }
    let mut boots = Vec::new();
    for run in 1..=runs {
        progress.step(&format!("{what}: start {run} of {runs}"));
        boots.push(measure_one(machine, start, call)?);
        machine.crash(call)?;
    }
    Ok(Series {
        machine: machine.name().to_owned(),
        start,
        boots,
    })
}

fn measure_one(machine: &Machine, start: Start, call: &Call<'_>) -> Result<Boot, Error> {
    machine.start(false, call)?;
    machine.connect(call)?;
    machine.succeed(&["true"], None, call)?;
    let answered = now();
    let processor = machine.processor_time()?;
    let reached = |mark| {
        machine.marks.at(mark).ok_or_else(|| {
            Error::Machine(format!(
                "{} did not start {}: the log of `hotbed run` says why",
                machine.name(),
                start.name()
            ))
        })
    };
    let (asked, spawning) = (reached(Mark::Asked)?, reached(Mark::Spawning)?);
    let mut ends = vec![("prepare", spawning), ("spawn", reached(Mark::Connected)?)];
    match (start, machine.marks.at(Mark::Restored)) {
        (Start::Hot, _) => ends.extend([
            ("restore", reached(Mark::Restored)?),
            ("settle", reached(Mark::Settled)?),
        ]),
        (Start::Cold, None) => {
            let marks = guest::ask(machine, call)?;
            ends.extend([("firmware", marks.kernel), ("kernel", marks.init)]);
            ends.extend(marks.systemd.map(|moment| ("initrd", moment)));
            ends.push(("userspace", reached(Mark::Up)?));
        }
        (Start::Cold, Some(_)) => {
            return Err(Error::Machine(format!(
                "{} did not start cold",
                machine.name()
            )));
        }
    }
    ends.push(("answer", answered));
    Ok(Boot::between(asked, ends, processor))
}
