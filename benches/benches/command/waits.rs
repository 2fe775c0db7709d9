//! How long a wait goes on after what it waits for has come.
//!
//! - `wait/open_port/<way>`: from the call to its end; the port opens after 0.3 s.
//! - `wait/console_text/<way>_later`: the same with a text; `…_there`: a text that is there already, with 24 KiB behind it.
//! - `wait/unit/<way>`: from the moment at which systemd (in a debian guest, by its clock) says that a unit became active.

use std::time::{Duration, Instant};

use criterion::Criterion;
use hotbed_benches::guest::{Guest, WAYS};
use hotbed_benches::machines::call;

use super::group;

const TIMEOUT: Duration = Duration::from_secs(60);

/// What the guest does when it is told to, 0.3 s later; it has started all that it needs before.
fn prepare(guest: &Guest, name: &str, what: &str) {
    guest.succeed(&format!(
        "(until [ -e /tmp/{name} ]; do usleep 1000; done; usleep 300000; {what}) >/dev/null 2>&1 </dev/null &"
    ));
}

fn go(guest: &Guest, name: &str) {
    guest.succeed(&format!(": >/tmp/{name}"));
}

pub(super) fn ports(c: &mut Criterion, way: &str, guest: &Guest) {
    let mut group = group(c, "wait/open_port", 15);
    let mut port = 20_000;
    group.bench_function(way, |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                port += 1;
                let name = format!("port{port}");
                prepare(guest, &name, &format!("exec nc -l -p {port} -e true"));
                go(guest, &name);
                let start = Instant::now();
                let waited = guest
                    .m()
                    .wait_for_open_port(port, "localhost", TIMEOUT, &call());
                waited.expect("it opens");
                total += start.elapsed();
            }
            total
        });
    });
    group.finish();
}

pub(super) fn console(c: &mut Criterion, way: &str, guest: &Guest) {
    let wait = |text: &str| {
        let start = Instant::now();
        let mut search = |said: &str| Ok(said.contains(text));
        let waited = guest
            .m()
            .wait_for_console_text(text, &mut search, Some(TIMEOUT), &call());
        waited.expect("it is said");
        start.elapsed()
    };
    let mut number = 0;
    let mut group = group(c, "wait/console_text", 15);
    group.bench_function(format!("{way}_later"), |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                number += 1;
                let name = format!("later{number}");
                prepare(guest, &name, &format!("echo {name}. >/dev/console"));
                go(guest, &name);
                total += wait(&format!("{name}."));
            }
            total
        });
    });
    group.bench_function(format!("{way}_there"), |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                number += 1;
                let text = format!("there{number}.");
                // What follows it is 24 KiB of numbers.
                guest.succeed(&format!("{{ echo {text}; seq 1000 5915; }} >/dev/console"));
                total += wait(&text);
            }
            total
        });
    });
    group.finish();
}

pub(super) fn units(c: &mut Criterion) {
    for (way, head) in WAYS {
        let Some(guest) = Guest::boot(way, &["image = \"debian\"", head]) else {
            continue;
        };
        // What still starts would be in the way of the first.
        guest.succeed("until [ -z \"$(systemctl list-jobs --no-legend)\" ]; do sleep 0.1; done");
        let mut group = group(c, "wait/unit", 10);
        let mut number = 0;
        group.bench_function(way, |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    number += 1;
                    total += after_unit(&guest, &format!("bench{number}.service"));
                }
                total.max(Duration::from_nanos(1))
            });
        });
        group.finish();
    }
}

/// How long after a unit became active the wait for it ends.
fn after_unit(guest: &Guest, unit: &str) -> Duration {
    guest.succeed(&format!(
        "systemd-run --no-block --quiet --unit={unit} --service-type=oneshot -p RemainAfterExit=yes sleep 0.5"
    ));
    let waited = guest.m().wait_for_unit(unit, None, TIMEOUT, &call());
    waited.expect("it becomes active");
    let noticed = Instant::now();
    let now = guest.output("read -r up _ </proc/uptime; echo $up");
    // The answer's own way is no part of it.
    let round_trip = noticed.elapsed();
    let show = format!("systemctl show --value -p ActiveEnterTimestampMonotonic {unit}");
    let active: u64 = guest.output(&show).trim().parse().expect("microseconds");
    let now = Duration::from_secs_f64(now.trim().parse().expect("seconds"));
    now.saturating_sub(Duration::from_micros(active))
        .saturating_sub(round_trip)
}
