//! When a guest was how far, by its own marks.

use std::time::{Duration, Instant};

use crate::call::now;
use crate::{Call, Error, Machine};

/// What the guest writes into its kernel's log, with its uptime behind.
const MARK: &str = "hotbed: the time is";
/// What the kernel says last before user space begins.
const INIT: &str = "Run /init as init process";

/// Moments of a boot on the host's clock.
pub(super) struct Moments {
    /// The kernel's clock begins.
    pub(super) kernel: Instant,
    /// The kernel starts the first program.
    pub(super) init: Instant,
    /// systemd begins, where there is one.
    pub(super) systemd: Option<Instant>,
}

/// Asks a guest that is up.
pub(super) fn ask(machine: &Machine, call: &Call<'_>) -> Result<Moments, Error> {
    let mark = format!("read -r up rest </proc/uptime; echo \"{MARK} $up\" >/dev/kmsg");
    let before = now();
    machine.succeed(&[&mark], None, call)?;
    // It was in between, and a command takes little time in a guest that is up.
    let marked = before + now().saturating_duration_since(before) / 2;
    let log = machine.succeed(&["dmesg"], None, call)?;
    let systemd = machine.succeed(
        &["[ ! -d /run/systemd/system ] || systemctl show --property=UserspaceTimestampMonotonic"],
        None,
        call,
    )?;
    let stamps = Stamps::parse(&log, &systemd).ok_or_else(|| {
        Error::Machine(format!(
            "the log of {}'s kernel does not say when it was how far",
            machine.name()
        ))
    })?;
    stamps
        .on_the_clock_of(marked)
        .ok_or_else(|| Error::Machine(format!("{} is older than this host", machine.name())))
}

/// Moments on the clock of the kernel's log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps {
    pub(super) mark: Duration,
    pub(super) init: Duration,
    pub(super) systemd: Option<Duration>,
}

impl Stamps {
    /// Finds them in what `dmesg` and `systemctl show` print.
    pub(super) fn parse(dmesg: &str, systemd: &str) -> Option<Self> {
        let (mark, uptime) = dmesg.lines().rev().find_map(|line| {
            let (_, uptime) = line.split_once(MARK)?;
            Some((stamp(line)?, seconds(uptime)?))
        })?;
        let init = dmesg.lines().find(|line| line.contains(INIT))?;
        let systemd = systemd
            .lines()
            .find_map(|line| line.strip_prefix("UserspaceTimestampMonotonic="))
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_micros)
            // The clock of the log and the one of uptimes do not begin together.
            .map(|moment| (mark + moment).saturating_sub(uptime));
        Some(Self {
            mark,
            init: stamp(init)?,
            systemd,
        })
    }

    /// The moments on the host's clock, when the mark was made at `marked`.
    fn on_the_clock_of(&self, marked: Instant) -> Option<Moments> {
        let kernel = marked.checked_sub(self.mark)?;
        Some(Moments {
            kernel,
            init: kernel.checked_add(self.init)?,
            systemd: match self.systemd {
                Some(systemd) => Some(kernel.checked_add(systemd)?),
                None => None,
            },
        })
    }
}

/// The time stamp of a line of the kernel's log.
fn stamp(line: &str) -> Option<Duration> {
    let (stamp, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    seconds(stamp)
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}
