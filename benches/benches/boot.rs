//! How long it takes until a machine answers: cold, hot, and many at once.
//!
//! - `boot/cold/<image>`: `start()` to the shell's first word, from power-on. Behind it stand the medians of the phases, all on the
//!   host's clock: spawn: QEMU's process until it has connected its monitor and shell sockets; firmware: from there to the kernel's first
//!   instruction (by the guest's uptime); kernel: to the first instruction of its init; userspace: to the shell's first word; shell: the
//!   first command's round trip.
//! - `boot/hot/<image>`: `start()` to the first command's answer, from a snapshot.
//! - `boot/prestarted/<image>`: the same, when QEMU was there before.
//! - `boot/clone/<count>`: `start_all()` to the last of so many answers, all from one snapshot.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hotbed_benches::machines::{call, testbed};
use hotbed_driver::Machine;

criterion_group!(benches, cold, hot, clones);
criterion_main!(benches);

const IMAGES: [&str; 2] = ["micro", "debian"];
const CLONES: [usize; 3] = [1, 8, 64];
/// More clones than that are no matter of `--test`, which is to be quick.
const CLONES_OF_A_TEST: usize = 8;

fn head(image: &str, hot: bool, count: usize) -> String {
    let count = match count {
        0 => String::new(),
        count => format!("# count = {count}\n"),
    };
    format!("# /// hotbed\n# hot = {hot}\n# [machines.m]\n# image = \"{image}\"\n{count}# ///\n")
}

fn cold(c: &mut Criterion) {
    let mut group = c.benchmark_group("boot");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(20));
    for image in IMAGES {
        let testbed = testbed(&head(image, false, 0));
        let mut phases = Vec::new();
        group.bench_function(format!("cold/{image}"), |b| {
            b.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let boot = Phases::measure(&testbed.machines()[0]);
                        let to_shell = boot.to_shell();
                        phases.push(boot);
                        to_shell
                    })
                    .sum()
            });
        });
        testbed.stop();
        report(image, &phases);
    }
    group.finish();
}

fn hot(c: &mut Criterion) {
    let mut group = c.benchmark_group("boot");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(8));
    for image in IMAGES {
        let testbed = testbed(&head(image, true, 0));
        let machine = &testbed.machines()[0];
        // What is not there yet is made here.
        answer(machine);
        machine.crash(&call()).expect("QEMU ends");
        for (name, is_prestarted) in [("hot", false), ("prestarted", true)] {
            group.bench_function(format!("{name}/{image}"), |b| {
                b.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        if is_prestarted {
                            assert!(machine.prestart(&call()).expect("QEMU starts"));
                        }
                        let begin = Instant::now();
                        answer(machine);
                        total += begin.elapsed();
                        assert!(is_hot(machine), "it booted cold");
                        machine.crash(&call()).expect("QEMU ends");
                    }
                    total
                });
            });
        }
        testbed.stop();
    }
    group.finish();
}

fn clones(c: &mut Criterion) {
    // As Criterion has it.
    let has = |name| std::env::args().any(|argument| argument == name);
    let is_test = has("--test") || !has("--bench");
    let mut group = c.benchmark_group("boot");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(20));
    for count in CLONES {
        if is_test && count > CLONES_OF_A_TEST {
            println!("boot/clone/{count} takes too long for --test");
            continue;
        }
        let testbed = testbed(&head("micro", true, count));
        let machines = testbed.machines();
        answer(&machines[0]);
        machines[0].crash(&call()).expect("QEMU ends");
        group.bench_function(format!("clone/{count}"), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let begin = Instant::now();
                    testbed.start_all(&call()).expect("all start");
                    machines.iter().for_each(|machine| answer(machine));
                    total += begin.elapsed();
                    assert!(
                        machines.iter().all(|machine| is_hot(machine)),
                        "one booted cold"
                    );
                    for machine in machines {
                        machine.crash(&call()).expect("QEMU ends");
                    }
                }
                total
            });
        });
        testbed.stop();
    }
    group.finish();
}

/// Has a machine answer; it starts if it is off.
fn answer(machine: &Machine) {
    let said = machine
        .succeed(&["echo hello"], None, &call())
        .expect("the shell answers");
    assert_eq!(said, "hello\n");
}

/// Whether its present run began from a snapshot.
fn is_hot(machine: &Machine) -> bool {
    machine.start_command().contains("-incoming")
}

/// How long each phase of one boot took.
struct Phases([Duration; 5]);

const NAMES: [&str; 5] = ["spawn", "firmware", "kernel", "userspace", "shell"];

impl Phases {
    fn measure(machine: &Machine) -> Self {
        let power_on = Instant::now();
        machine.start(false, &call()).expect("QEMU starts");
        let spawned = Instant::now();
        machine.connect(&call()).expect("the guest boots");
        let shell = Instant::now();
        machine
            .succeed(&["true"], None, &call())
            .expect("the shell answers");
        let answered = Instant::now();

        let uptime = machine
            .succeed(&["read -r up rest </proc/uptime; echo $up"], None, &call())
            .expect("the uptime");
        let sampled = Instant::now();
        let uptime = Duration::from_secs_f64(uptime.trim().parse().expect("seconds"));
        let dmesg = machine
            .succeed(&["dmesg"], None, &call())
            .expect("the kernel's log");
        let kernel = stamp(&dmesg, "Run /init as init process").expect("the kernel's last line");
        machine.crash(&call()).expect("QEMU ends");

        // The guest was at `uptime` just before the answer came: the error is a part of one round trip.
        let kernel_began = sampled - uptime;
        let to_init = kernel_began + kernel;
        Self([
            spawned - power_on,
            kernel_began.saturating_duration_since(spawned),
            kernel,
            shell.saturating_duration_since(to_init),
            answered - shell,
        ])
    }

    fn to_shell(&self) -> Duration {
        let [spawn, firmware, kernel, userspace, _] = self.0;
        spawn + firmware + kernel + userspace
    }
}

/// The time stamp of the first line of the kernel's log that holds `text`.
fn stamp(dmesg: &str, text: &str) -> Option<Duration> {
    let line = dmesg.lines().find(|line| line.contains(text))?;
    let seconds = line
        .trim_start_matches(['[', ' '])
        .split(']')
        .next()?
        .trim();
    Some(Duration::from_secs_f64(seconds.parse().ok()?))
}

fn report(image: &str, boots: &[Phases]) {
    print!("boot/cold/{image}, medians of {} boots:", boots.len());
    for (phase, name) in NAMES.iter().enumerate() {
        let mut times: Vec<_> = boots.iter().map(|boot| boot.0[phase]).collect();
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2) {
            print!("  {name} {median:.0?}");
        }
    }
    println!();
}
