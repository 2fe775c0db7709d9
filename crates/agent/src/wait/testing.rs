//! What the tests of the waits share: a loop for one watch.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Failure, Watch};

/// Long enough for anything; never waited out by a test that passes.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// What the watch found within the time, and after how many looks.
pub(super) fn run(
    watch: &mut dyn Watch,
    within: Duration,
) -> (Result<Option<String>, Failure>, u32) {
    let deadline = Instant::now() + within;
    let mut looks = 0;
    loop {
        looks += 1;
        let result = watch.poll(Instant::now());
        if !matches!(result, Ok(None)) || Instant::now() >= deadline {
            return (result, looks);
        }
        sleep(watch, deadline);
    }
}

/// What the watch found within the time.
pub(super) fn found(watch: &mut dyn Watch, within: Duration) -> Option<String> {
    run(watch, within).0.expect("it does not fail")
}

/// Whether the watch is still waiting after the time.
pub(super) fn is_quiet(watch: &mut dyn Watch, within: Duration) -> bool {
    found(watch, within).is_none()
}

fn sleep(watch: &dyn Watch, deadline: Instant) {
    let mut wanted: Vec<(OwnedFd, PollFlags)> = Vec::new();
    let next = watch.interest(&mut |fd, flags| {
        // Their bits are the same.
        let flags = PollFlags::from_bits_truncate(flags.bits().try_into().expect("low bits"));
        wanted.push((fd.try_clone_to_owned().expect("dup"), flags));
    });
    let mut fds: Vec<PollFd<'_>> = wanted
        .iter()
        .map(|(fd, flags)| PollFd::new(fd, *flags))
        .collect();
    let until = next.map_or(deadline, |next| next.min(deadline));
    let timeout = until.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
    let timeout = Timespec::try_from(timeout).expect("a short time");
    rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
}

/// The time.
pub(super) fn now() -> Instant {
    Instant::now()
}
