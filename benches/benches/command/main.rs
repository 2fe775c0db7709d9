//! Commands, waits and copies in a micro guest, three ways beside one another: through the agent, through the backdoor shell as
//! Hotbed talks to it, and by the NixOS test driver's protocol. The guests are of the same image, so the guest's share is the same.
//!
//! - `command/succeed_true/<way>`: `true` from the call to its answer, the median of 300 in a row. `nixos_protocol` is
//!   `bash -c … | (base64 -w 0; echo)`, then `echo ${PIPESTATUS[0]}`.
//! - `command/answer/<way>`: nothing is started: the agent's ping, and a builtin of the shell; the median of 300 in a row, too.
//! - `command/at_once/<way>_<count>`: so many commands of a second each, from as many threads.
//! - [`waits`]: `wait/…`, from what is waited for to the end of the call. [`copies`]: `copy/…`, beside what a port carries raw.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod copies;
mod waits;

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main};
use hotbed_benches::guest::{Guest, WAYS};
use hotbed_benches::machines::call;
use hotbed_benches::plain::PlainGuest;

criterion_group!(benches, micro, waits::units, plain);
criterion_main!(benches);

/// How many commands in a row a median is taken of.
const IN_A_ROW: usize = 300;

/// All that is measured in a micro guest of the driver's.
fn micro(c: &mut Criterion) {
    for (way, head) in WAYS {
        let port = copies::RawPort::new();
        let Some(guest) = Guest::boot(way, &["memory = 768", &port.head(), head]) else {
            continue;
        };
        commands(c, way, &guest);
        at_once(c, way, &guest);
        waits::ports(c, way, &guest);
        waits::console(c, way, &guest);
        copies::files(c, way, &guest);
        if way == "agent" {
            copies::raw(c, &guest, &port);
        }
    }
}

fn commands(c: &mut Criterion, way: &str, guest: &Guest) {
    let mut group = group(c, "command/succeed_true", 10);
    group.bench_function(way, |b| {
        b.iter_custom(|rounds| in_a_row(rounds, || guest.succeed("true")));
    });
    group.finish();
    let mut group = self::group(c, "command/answer", 10);
    group.bench_function(way, |b| {
        b.iter_custom(|rounds| {
            in_a_row(rounds, || match way {
                "agent" => guest.m().ping(&call()).expect("an answer"),
                _ => guest.succeed(":"),
            })
        });
    });
    group.finish();
}

fn at_once(c: &mut Criterion, way: &str, guest: &Guest) {
    let mut group = group(c, "command/at_once", 10);
    // The shell takes them one after the other.
    for count in if way == "agent" { [1, 64] } else { [1, 4] } {
        group.bench_function(format!("{way}_{count}"), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    for _ in 0..count {
                        scope.spawn(|| guest.succeed("sleep 1"));
                    }
                });
            });
        });
    }
    group.finish();
}

/// What the NixOS driver does, in a guest of its own.
fn plain(c: &mut Criterion) {
    let mut guest = PlainGuest::boot(768);
    let mut group = group(c, "command/succeed_true", 10);
    group.bench_function("nixos_protocol", |b| {
        b.iter_custom(|rounds| {
            in_a_row(rounds, || {
                let answer = guest.execute("set -euo pipefail; true");
                assert_eq!(answer, (0, String::new()));
            })
        });
    });
    group.finish();
    copies::base64(c, &mut guest);
}

/// The median of so many calls in a row, as often as it was to be measured.
fn in_a_row(rounds: u64, mut call: impl FnMut()) -> Duration {
    let count = if is_test() { 3 } else { IN_A_ROW };
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[count / 2] * u32::try_from(rounds).unwrap_or(u32::MAX)
}

/// Whether each bench only has to run once.
fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// A group that is measured so often, once each time: its benches take long.
fn group<'c>(c: &'c mut Criterion, name: &str, samples: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(samples)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(1));
    group
}
