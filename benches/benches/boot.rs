//! From power-on to the first answer, by phase.
//!
//! `boot/<image>/to_shell` is what Criterion times: `start()` to the shell's first word. Behind it stand the medians of
//! the phases, all on the host's clock:
//!
//! - spawn: QEMU's process until it has connected its monitor and shell sockets;
//! - firmware: from there to the kernel's first instruction (by the guest's uptime);
//! - kernel: to the first instruction of its init;
//! - userspace: to the shell's first word;
//! - shell: the first command's round trip.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hotbed_benches::machines::{call, testbed};
use hotbed_driver::Machine;

criterion_group!(benches, boot);
criterion_main!(benches);

const HEADS: [(&str, &str); 2] = [
    (
        "micro",
        "# /// hotbed\n# hot = false\n# [machines.m]\n# ///\n",
    ),
    (
        "debian",
        "# /// hotbed\n# hot = false\n# [machines.m]\n# image = \"debian\"\n# ///\n",
    ),
];

fn boot(c: &mut Criterion) {
    let mut group = c.benchmark_group("boot");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(20));
    for (image, head) in HEADS {
        let testbed = testbed(head);
        let mut phases = Vec::new();
        group.bench_function(format!("{image}/to_shell"), |b| {
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
    print!("boot/{image}, medians of {} boots:", boots.len());
    for (phase, name) in NAMES.iter().enumerate() {
        let mut times: Vec<_> = boots.iter().map(|boot| boot.0[phase]).collect();
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2) {
            print!("  {name} {median:.0?}");
        }
    }
    println!();
}
