//! Commands, waits and copies in a micro guest, three ways beside one another: through the agent, through the backdoor shell as
//! Hotbed talks to it, and by the NixOS test driver's protocol. The guests are of the same image, so the guest's share is the same.
//!
//! - `command/succeed_true/<way>`: `true` from the call to its answer. `nixos_protocol` is `bash -c … | (base64 -w 0; echo)`, then
//!   `echo ${PIPESTATUS[0]}`.
//! - `command/answer/<way>`: nothing is started: the agent's ping, and a builtin of the shell.
//! - `command/at_once/<way>_<count>`: so many commands of a second each, from as many threads.
//! - `wait/open_port/<way>`: from the call to its end; the port opens after 0.3 s.
//! - `wait/unit/<way>`: from the moment at which systemd (in a debian guest, by its clock) says that a unit became active.
//! - `copy/{in,out}/<way>`: 100 MiB; by base64 less, and `raw` is what the console carries when the shell writes bytes of nothing.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_benches::machines::{call, testbed};
use hotbed_benches::plain::PlainGuest;
use hotbed_driver::{Machine, Testbed};

criterion_group!(benches, commands, port, unit, copies);
criterion_main!(benches);

/// The two ways of Hotbed, and what a machine's head says to take it.
const WAYS: [(&str, &str); 2] = [("agent", ""), ("shell", "# agent = false\n")];
const MIB: usize = 1 << 20;
/// How much is copied, and how much by base64: for that a command line must hold it.
const COPY: usize = 100 * MIB;
const BASE64_PIECE: usize = 60 << 10;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A machine that has booted, with its testbed.
struct Guest {
    testbed: Arc<Testbed>,
}

impl Guest {
    /// `None`, with a word about it, when there is no agent to be measured.
    fn boot(way: &str, head: &str) -> Option<Self> {
        let testbed = testbed(&format!("# /// hotbed\n# [machines.m]\n{head}# ///\n"));
        let guest = Self { testbed };
        guest.m().connect(&call()).expect("the guest boots");
        if way == "agent" && guest.m().ping(&call()).is_err() {
            println!("SKIPPED: no agent answers: `cargo xtask demo` builds one");
            guest.testbed.stop();
            return None;
        }
        Some(guest)
    }

    fn m(&self) -> &Machine {
        &self.testbed.machines()[0]
    }

    fn succeed(&self, command: &str) -> String {
        self.m()
            .succeed(&[command], None, &call())
            .expect("it succeeds")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.testbed.stop();
    }
}

fn commands(c: &mut Criterion) {
    for (way, head) in WAYS {
        let Some(guest) = Guest::boot(way, head) else {
            continue;
        };
        let mut group = group(c, "command/succeed_true", 100, 5);
        group.bench_function(way, |b| b.iter(|| guest.succeed("true")));
        group.finish();
        let mut group = self::group(c, "command/answer", 100, 5);
        group.bench_function(way, |b| {
            b.iter(|| match way {
                "agent" => guest.m().ping(&call()).expect("an answer"),
                _ => drop(guest.succeed(":")),
            });
        });
        group.finish();
        // The shell takes them one after the other.
        let count = if way == "agent" { 64 } else { 4 };
        let mut group = self::group(c, "command/at_once", 10, 10);
        group.bench_function(format!("{way}_{count}"), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    for _ in 0..count {
                        scope.spawn(|| guest.succeed("sleep 1"));
                    }
                });
            });
        });
        group.finish();
    }
    let mut guest = PlainGuest::boot(256);
    let mut group = group(c, "command/succeed_true", 50, 5);
    group.bench_function("nixos_protocol", |b| {
        b.iter(|| assert_eq!(guest.execute("set -euo pipefail; true"), (0, String::new())));
    });
    group.finish();
}

fn port(c: &mut Criterion) {
    for (way, head) in WAYS {
        let Some(guest) = Guest::boot(way, head) else {
            continue;
        };
        let mut group = group(c, "wait/open_port", 10, 5);
        let mut port = 20_000;
        group.bench_function(way, |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    port += 1;
                    // The clock of the guest tells when it opens, so starting what opens it costs nothing here.
                    let open = format!(
                        "(until [ -e /tmp/go{port} ]; do usleep 1000; done; usleep 300000; \
                         exec nc -l -p {port} -e true) >/dev/null 2>&1 </dev/null &"
                    );
                    guest.succeed(&open);
                    guest.succeed(&format!(": >/tmp/go{port}"));
                    let start = Instant::now();
                    guest
                        .m()
                        .wait_for_open_port(port, "localhost", TIMEOUT, &call())
                        .expect("it opens");
                    total += start.elapsed();
                }
                total
            });
        });
        group.finish();
    }
}

fn unit(c: &mut Criterion) {
    for (way, head) in WAYS {
        let head = format!("# image = \"debian\"\n{head}");
        let Some(guest) = Guest::boot(way, &head) else {
            continue;
        };
        // What still starts would be in the way of the first.
        guest.succeed("until [ -z \"$(systemctl list-jobs --no-legend)\" ]; do sleep 0.1; done");
        let mut group = group(c, "wait/unit", 10, 5);
        let mut number = 0;
        group.bench_function(way, |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    number += 1;
                    let unit = format!("bench{number}.service");
                    guest.succeed(&format!(
                        "systemd-run --no-block --quiet --unit={unit} --service-type=oneshot -p RemainAfterExit=yes sleep 0.5"
                    ));
                    guest
                        .m()
                        .wait_for_unit(&unit, None, TIMEOUT, &call())
                        .expect("it becomes active");
                    let noticed = Instant::now();
                    // The answer's own way is no part of it: half of the round trip is added again below.
                    let now = guest.succeed("read -r up _ </proc/uptime; echo $up");
                    let round_trip = noticed.elapsed();
                    let show = format!("systemctl show --value -p ActiveEnterTimestampMonotonic {unit}");
                    let active: u64 = guest.succeed(&show).trim().parse().expect("microseconds");
                    let now = Duration::from_secs_f64(now.trim().parse().expect("seconds"));
                    total += now
                        .saturating_sub(Duration::from_micros(active))
                        .saturating_sub(round_trip);
                }
                total.max(Duration::from_nanos(1))
            });
        });
        group.finish();
    }
}

fn copies(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, target) = (directory.path().join("in"), directory.path().join("out"));
    let data: Vec<u8> = (0..COPY).map(|i| (i.wrapping_mul(i) >> 9) as u8).collect();
    std::fs::write(&source, &data).expect("room for the file");
    for (way, head) in WAYS {
        let Some(guest) = Guest::boot(way, &format!("# memory = 768\n{head}")) else {
            continue;
        };
        let mut group = copy_group(c, "copy/in", COPY);
        group.bench_function(way, |b| {
            b.iter(|| guest.m().put(&source, "/tmp/file", &call()).expect("a put"));
        });
        group.finish();
        let mut group = copy_group(c, "copy/out", COPY);
        group.bench_function(way, |b| {
            b.iter(|| guest.m().get("/tmp/file", &target, &call()).expect("a get"));
        });
        group.finish();
        // The filter of the command line may have left the copies out.
        if let Ok(copy) = std::fs::read(&target) {
            assert!(copy == data, "other bytes");
            std::fs::remove_file(&target).expect("it goes");
        }
    }
    let mut guest = PlainGuest::boot(768);
    let text = "QUJD".repeat(BASE64_PIECE / 3);
    let mut group = copy_group(c, "copy/in", BASE64_PIECE);
    group.bench_function("base64", |b| {
        let command = format!("echo -n {text} | base64 -d >/tmp/piece");
        b.iter(|| assert_eq!(guest.execute(&command).0, 0));
    });
    group.finish();
    let len = 8 * MIB;
    assert_eq!(
        guest
            .execute(&format!("head -c {len} /dev/zero >/tmp/file"))
            .0,
        0
    );
    let mut group = copy_group(c, "copy/out", len);
    group.bench_function("base64", |b| {
        b.iter(|| {
            let (status, text) = guest.execute("cat /tmp/file");
            assert_eq!((status, text.len()), (0, len.div_ceil(3) * 4));
        });
    });
    group.finish();
    let mut group = copy_group(c, "copy/out", COPY);
    group.bench_function("raw", |b| {
        b.iter(|| guest.read_raw(&format!("head -c {COPY} /dev/zero"), COPY));
    });
    group.finish();
}

fn group<'c>(
    c: &'c mut Criterion,
    name: &str,
    samples: usize,
    seconds: u64,
) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(seconds));
    group
}

fn copy_group<'c>(c: &'c mut Criterion, name: &str, len: usize) -> BenchmarkGroup<'c, WallTime> {
    let mut group = group(c, name, 10, 10);
    group.throughput(Throughput::Bytes(len as u64));
    group
}
