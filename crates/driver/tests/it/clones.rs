//! Clones: one snapshot, many machines, each with a name and addresses of its own. Real guests.

use hotbed_driver::Machine;

use crate::guest::{SOON, one_at_a_time};
use crate::hot::{Cache, ask, seconds_since_1970};
use crate::support::{call, has_agent, run};

const THREE: &str = "hot = true\n[machines.worker]\ncount = 3\n[machines.z]\nhot = false";

/// Checks that a machine is who it should be.
fn check(machine: &Machine) {
    let (name, number) = (machine.name(), machine.config().number);
    let identity = ask(machine, "hostname; cat /etc/hostname");
    assert_eq!(identity, format!("{name}\n{name}"));
    let mac = format!("52:54:00:12:01:{number:02x}");
    assert_eq!(ask(machine, "cat /sys/class/net/eth1/address"), mac);
    let addresses = ask(machine, "ip -o addr show eth1 | grep -v 'inet6 fe80'");
    let lines: Vec<_> = addresses.lines().collect();
    assert_eq!(lines.len(), 2, "{addresses}");
    assert!(
        lines[0].contains(&format!("192.168.1.{number}/24")),
        "{addresses}"
    );
    assert!(
        lines[1].contains(&format!("2001:db8:1::{number}/64")),
        "{addresses}"
    );
    // The kernel makes that one when the card has its carrier again.
    let link = format!("fe80::5054:ff:fe12:10{number}/64");
    let comes = format!("until ip addr show eth1 | grep -q {link}; do :; done");
    machine.succeed(&[&comes], Some(SOON), &call()).unwrap();
    assert!(ask(machine, "cat /etc/hosts").contains(&format!("192.168.1.{number} {name}\n")));
}

#[test]
fn clones_come_from_one_snapshot_and_each_is_somebody() {
    let _turn = one_at_a_time();
    if !has_agent() {
        return;
    }
    let cache = Cache::new();
    let mut seen = Vec::new();
    for is_first in [true, false] {
        let bed = cache.bed(THREE);
        bed.testbed.start_all(&call()).unwrap();
        let [one, two, three, z] = bed.testbed.machines() else {
            panic!("four machines")
        };
        for clone in [one, two, three] {
            check(clone);
            seen.push(ask(clone, "cat /proc/sys/kernel/random/uuid"));
        }
        z.succeed(&["ping -4 -c 1 worker2"], Some(SOON), &call())
            .unwrap();
        one.succeed(
            &[
                "ping -4 -c 1 worker3",
                "ping -6 -c 1 worker2",
                "ping -4 -c 1 z",
            ],
            Some(SOON),
            &call(),
        )
        .unwrap();
        let log = bed.log();
        assert_eq!(cache.snapshots().len(), 1);
        let count = |text: &str| log.matches(text).count();
        assert_eq!(
            count("saved as a snapshot and restored"),
            usize::from(is_first),
            "{log}"
        );
        let restored = if is_first { 2 } else { 3 };
        assert_eq!(count("restored from a snapshot in"), restored, "{log}");
        // It comes back as who it was.
        two.crash(&call()).unwrap();
        check(two);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "two clones drew the same random numbers");
}

#[test]
fn clones_of_debian_are_somebody_and_have_the_hosts_time() {
    let _turn = one_at_a_time();
    if !has_agent() {
        return;
    }
    let cache = Cache::new();
    let bed = cache.bed("[machines.worker]\nimage = \"debian\"\ncount = 2");
    bed.testbed.start_all(&call()).unwrap();
    let [one, two] = bed.testbed.machines() else {
        panic!("two machines")
    };
    let mut seen = Vec::new();
    for clone in [one, two] {
        check(clone);
        seen.push(ask(clone, "cat /etc/machine-id"));
        seen.push(ask(clone, "cat /proc/sys/kernel/random/uuid"));
        let before = seconds_since_1970();
        let guest: f64 = ask(clone, "date +%s.%N").parse().unwrap();
        let after = seconds_since_1970();
        assert!(
            before - 1.0 < guest && guest < after + 1.0,
            "{before} {guest} {after}"
        );
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
    let ping = |name| {
        [
            format!("ping -4 -c 1 {name}"),
            format!("ping -6 -c 1 {name}"),
        ]
    };
    for (clone, other) in [(one, "worker2"), (two, "worker1")] {
        let commands = ping(other);
        let commands = commands.each_ref().map(String::as_str);
        clone.succeed(&commands, Some(SOON), &call()).unwrap();
    }
    assert_eq!(cache.snapshots().len(), 1);
}

#[test]
fn a_clone_that_boots_for_all_in_vain_is_somebody_all_the_same() {
    let _turn = one_at_a_time();
    if !has_agent() {
        return;
    }
    let cache = Cache::new();
    let bed = cache.bed("hot = true\n[machines.worker]\ncount = 2");
    let [one, two] = bed.testbed.machines() else {
        panic!("two machines")
    };
    one.start(false, &call()).unwrap();
    one.send_monitor_command("info status", &call()).unwrap();
    check(one);
    check(two);
    let log = bed.log();
    assert!(
        log.contains("worker1: no snapshot: the test did something to it"),
        "{log}"
    );
    assert!(
        log.contains("worker2: no snapshot: the clone that booted for all"),
        "{log}"
    );
    assert!(cache.snapshots().is_empty());
}

#[test]
fn a_clone_that_reboots_is_still_the_same() {
    let _turn = one_at_a_time();
    if !has_agent() {
        return;
    }
    let cache = Cache::new();
    let bed = cache.bed("hot = true\n[machines.worker]\ncount = 2");
    let clone = &bed.testbed.machines()[1];
    for _ in 0..2 {
        clone.start(true, &call()).unwrap();
        check(clone);
        clone.reboot(&call()).unwrap();
        check(clone);
        assert_eq!(run(clone, "true").0, 0);
        clone.crash(&call()).unwrap();
    }
    let log = bed.log();
    assert!(log.contains("worker2: restored from a snapshot"), "{log}");
}
