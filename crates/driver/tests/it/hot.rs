//! Machines that begin from a snapshot: real guests, with a cache of snapshots of their own.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hotbed_driver::machine::Execute;
use hotbed_driver::{Machine, Options, TestConfig};

use crate::guest::{SOON, one_at_a_time};
use crate::support::{Bed, call, eventually, run, timed};

/// The user's cache, but for its snapshots.
pub(crate) struct Cache(pub(crate) tempfile::TempDir);

impl Cache {
    pub(crate) fn new() -> Self {
        let user = hotbed_image::Cache::open().unwrap();
        hotbed_image::build(&user, &hotbed_image::Spec::Micro, &hotbed_image::Silent).unwrap();
        let cache = tempfile::tempdir().unwrap();
        for folder in ["pins", "apt", "accelerator"] {
            let _ = std::os::unix::fs::symlink(user.root().join(folder), cache.path().join(folder));
        }
        fs::create_dir(cache.path().join("entries")).unwrap();
        for entry in fs::read_dir(user.root().join("entries")).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with("snapshot-") {
                let place = cache.path().join("entries").join(entry.file_name());
                std::os::unix::fs::symlink(entry.path(), place).unwrap();
            }
        }
        Self(cache)
    }

    pub(crate) fn bed(&self, head: &str) -> Bed {
        self.bed_of(head, Options::default())
    }

    pub(crate) fn cold_bed(&self, head: &str) -> Bed {
        let cold = Options {
            cold: true,
            ..Options::default()
        };
        self.bed_of(head, cold)
    }

    fn bed_of(&self, head: &str, options: Options) -> Bed {
        let head: String = head.lines().map(|line| format!("# {line}\n")).collect();
        let text = format!("# /// hotbed\n{head}# ///\n");
        let config = TestConfig::from_python_file(Path::new("it.py"), &text).unwrap();
        let cache = Some(self.0.path().to_owned());
        Bed::with(config, Options { cache, ..options })
    }

    pub(crate) fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("entries")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_snapshot = |path: &PathBuf| path.to_string_lossy().contains("/snapshot-");
        paths.filter(is_snapshot).collect()
    }
}

const RESTORED: &str = "m: restored from a snapshot";
const SAVED: &str = "m: saved as a snapshot and restored from it";

pub(crate) fn ask(machine: &Machine, command: &str) -> String {
    let (status, output) = run(machine, command);
    assert_eq!(status, 0, "{command}: {output}");
    output.trim().to_owned()
}

pub(crate) fn seconds_since_1970() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

/// What a guest that is just there says of the time and of chance.
fn time_and_chance(machine: &Machine) -> String {
    let before = seconds_since_1970();
    let guest: f64 = ask(machine, "date +%s").parse().unwrap();
    let after = seconds_since_1970();
    // It says whole seconds, and is at most one second wrong.
    assert!(
        before - 2.0 < guest && guest < after + 1.0,
        "{before} {guest} {after}"
    );
    ask(
        machine,
        "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid",
    )
}

#[test]
fn a_machine_that_was_saved_begins_where_its_boot_ended() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let (console, first_chance) = {
        let bed = cache.bed("[machines.m]");
        bed.m().connect(&call()).unwrap();
        assert!(bed.log().contains(SAVED), "{}", bed.log());
        let chance = time_and_chance(bed.m());
        ask(bed.m(), "touch /tmp/trace");
        (bed.m().get_console_log().unwrap(), chance)
    };
    assert!(console.contains("Run /init as init process"), "{console}");
    assert_eq!(cache.snapshots().len(), 1);
    let mut chances = vec![first_chance];
    for _ in 0..2 {
        let bed = cache.bed("[machines.m]");
        let ((), took) = timed(|| bed.m().connect(&call()).unwrap());
        eprintln!("hot: shell after {took:?}");
        assert!(bed.log().contains(RESTORED), "{}", bed.log());
        chances.push(time_and_chance(bed.m()));
        let execute = Execute::default();
        let trace = bed.m().execute("test -e /tmp/trace", &execute, &call());
        assert_eq!(
            trace.unwrap().status,
            1,
            "what a test did is in the snapshot"
        );
        let again = bed.m().get_console_log().unwrap();
        assert!(again.starts_with(&console[..1000]), "{again}");
        assert!(bed.log().contains("m # [    0.000000] Linux version"));
        let mut search = |text: &str| Ok(text.contains("Run /init as init process"));
        bed.m()
            .wait_for_console_text("init", &mut search, Some(SOON), &call())
            .unwrap();
        assert_eq!(ask(bed.m(), "hostname"), "m");
    }
    for (index, chance) in chances.iter().enumerate() {
        assert!(!chances[..index].contains(chance), "{chances:?}");
    }
}

#[test]
fn a_snapshot_that_is_damaged_is_made_again() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let head = "[machines.m]";
    cache.bed(head).m().connect(&call()).unwrap();
    let [snapshot] = &cache.snapshots()[..] else {
        panic!("one snapshot")
    };
    let ram = fs::File::options()
        .write(true)
        .open(snapshot.join("ram.sparse"))
        .unwrap();
    ram.set_len(1 << 20).unwrap();
    let bed = cache.bed(head);
    bed.m().connect(&call()).unwrap();
    assert!(bed.log().contains(SAVED), "{}", bed.log());
    drop(bed);
    // Of the same length and age, so that only QEMU can tell.
    let path = snapshot.join("devices");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let devices = fs::File::options().write(true).open(&path).unwrap();
    devices.write_all_at(&[0xee; 5000], 100).unwrap();
    devices.set_modified(time).unwrap();
    let bed = cache.bed(head);
    bed.m().connect(&call()).unwrap();
    let log = bed.log();
    assert!(log.contains("its snapshot is of no use"), "{log}");
    assert!(log.contains(SAVED), "{log}");
    assert_eq!(ask(bed.m(), "hostname"), "m");
    assert_eq!(cache.snapshots().len(), 1);
}

#[test]
fn what_a_test_touched_or_asked_otherwise_is_no_snapshot_for_others() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.m]");
    bed.m().start(false, &call()).unwrap();
    bed.m()
        .send_monitor_command("info status", &call())
        .unwrap();
    bed.m().connect(&call()).unwrap();
    let log = bed.log();
    assert!(
        log.contains("no snapshot: the test did something to it"),
        "{log}"
    );
    drop(bed);
    assert!(cache.snapshots().is_empty());
    for head in [
        "[machines.m]\nhot = false",
        "hot = false\n[machines.m]",
        "[machines.m]\nqemu_args = [\"-device\", \"usb-ehci\"]",
    ] {
        let bed = cache.bed(head);
        bed.m().start(false, &call()).unwrap();
        bed.m().connect(&call()).unwrap();
        assert!(cache.snapshots().is_empty(), "{head}: {}", bed.log());
    }
}

#[test]
fn a_test_may_have_all_machines_boot_from_power_on() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    for _ in 0..2 {
        let bed = cache.cold_bed("[machines.m]");
        assert_eq!(ask(bed.m(), "hostname"), "m");
        let log = bed.log();
        assert!(!log.contains("snapshot"), "{log}");
    }
    assert!(cache.snapshots().is_empty());
}

#[test]
fn a_restored_machine_may_boot_again() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    for hot in [false, true] {
        let bed = cache.bed("[machines.m]");
        let m = bed.m();
        m.start(true, &call()).unwrap();
        m.succeed(&["touch /run/before"], None, &call()).unwrap();
        assert!(bed.log().contains(if hot { RESTORED } else { SAVED }));
        m.reboot(&call()).unwrap();
        assert_ne!(run(m, "test -e /run/before").0, 0);
    }
}

#[test]
fn a_restored_machine_says_on_its_network_where_it_is() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    cache.bed("[machines.m]").m().connect(&call()).unwrap();
    let bed = cache.bed("[machines.m]");
    let capture = bed.directory.path().join("vlan1.pcapng");
    let vlan = &bed.testbed.vlans()[0];
    vlan.start_capture(&capture).unwrap();
    bed.m().connect(&call()).unwrap();
    assert!(bed.log().contains(RESTORED), "{}", bed.log());
    let has_announced = || {
        let frames = fs::read(&capture).unwrap_or_default();
        let announcement = [[0xff; 6], [0x52, 0x54, 0x00, 0x12, 0x01, 0x01]].concat();
        frames.windows(14).any(|bytes| {
            let kind = &bytes[12..];
            bytes.starts_with(&announcement) && (kind == [0x08, 0x06] || kind == [0x80, 0x35])
        })
    };
    assert!(eventually(SOON, has_announced), "no ARP, and no RARP");
    vlan.stop_capture().unwrap();
}

#[test]
fn a_machine_is_saved_when_the_unit_that_its_head_names_is_active() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let head = "[machines.m]\nimage = \"debian\"\nhot = \"unit:multi-user.target\"";
    cache.bed(head).m().connect(&call()).unwrap();
    let bed = cache.bed(head);
    let state = ask(bed.m(), "systemctl is-active multi-user.target");
    assert_eq!(state, "active");
    let log = bed.log();
    assert!(log.contains(RESTORED), "{log}");
    drop(bed);
    // Another moment is another snapshot; one that does not come is none.
    let bed = cache.bed("[machines.m]\nimage = \"debian\"\nhot = \"unit:no-such.service\"");
    assert_eq!(ask(bed.m(), "hostname"), "m");
    let log = bed.log();
    assert!(
        log.contains("no snapshot: no-such.service does not become active"),
        "{log}"
    );
    assert_eq!(cache.snapshots().len(), 1);
}

#[test]
fn a_machine_is_saved_when_its_boot_is_over() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let head = "[machines.m]\nimage = \"debian\"";
    for begun in [SAVED, RESTORED] {
        let bed = cache.bed(head);
        assert_eq!(ask(bed.m(), "systemctl list-jobs"), "No jobs running.");
        let (_, state) = run(bed.m(), "systemctl is-system-running");
        assert_eq!(state, "running\n");
        let log = bed.log();
        assert!(log.contains(begun), "{log}");
    }
}

#[test]
fn restored_machines_reach_each_other_and_another_machine_is_another_snapshot() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let head = "[machines.alice]\n[machines.m]";
    for hot in [false, true] {
        let bed = cache.bed(head);
        bed.testbed.start_all(&call()).unwrap();
        let [alice, m] = bed.testbed.machines() else {
            panic!("two machines")
        };
        alice
            .succeed(&["ping -4 -c 1 m"], Some(SOON), &call())
            .unwrap();
        let neighbours = ask(alice, "ip neigh show 192.168.1.2");
        assert!(neighbours.contains("52:54:00:12:01:02"), "{neighbours}");
        m.succeed(&["ping -6 -c 1 alice"], Some(SOON), &call())
            .unwrap();
        // It comes back as it was, and its neighbour finds it at once.
        m.crash(&call()).unwrap();
        m.start(false, &call()).unwrap();
        alice
            .succeed(&["ping -4 -c 1 -W 5 m"], Some(SOON), &call())
            .unwrap();
        assert_eq!(ask(m, "hostname"), "m");
        let log = bed.log();
        assert!(log.contains(RESTORED), "{log}");
        assert_eq!(log.contains(SAVED), !hot, "{log}");
        assert_eq!(cache.snapshots().len(), 2);
    }
    let other = cache.bed("[machines.alice]\n[machines.m]\nmemory = 300");
    other.testbed.machines()[1].start(false, &call()).unwrap();
    assert!(!other.log().contains(RESTORED));
}

#[test]
fn a_machine_that_is_stopped_while_it_is_saved_leaves_nothing() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.m]");
    bed.m().start(false, &call()).unwrap();
    let ((), took) = timed(|| bed.testbed.stop());
    took.at_most(Duration::from_secs(2));
    assert!(cache.snapshots().is_empty());
    let left = fs::read_dir(cache.0.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0);
}

/// Debian 13's newest QEMU, which the tests of the console's device fetch: a program that starts it.
fn newer_qemu(folder: &Path) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("qemu-trixie-backports-1");
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let qemu = root.join("usr/bin/qemu-system-x86_64");
    if !qemu.exists() {
        eprintln!(
            "SKIPPED: no QEMU in {}: `cargo test -p hotbed-console` fetches it",
            root.display()
        );
        return None;
    }
    let program = folder.join("qemu");
    let share = root.join("usr/share");
    let script = format!(
        "#!/bin/sh\nexec {0}/ld-linux-x86-64.so.2 --library-path {0} {1} -L {2}/qemu -L {2}/seabios \"$@\"\n",
        libraries.display(),
        qemu.display(),
        share.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Some(program)
}

#[test]
fn a_newer_qemu_saves_and_restores_as_well() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let folder = tempfile::tempdir().unwrap();
    let Some(qemu) = newer_qemu(folder.path()) else {
        return;
    };
    for hot in [false, true] {
        let options = Options {
            qemu: Some(qemu.clone()),
            ..Options::default()
        };
        let bed = cache.bed_of("[machines.m]", options);
        let m = bed.m();
        m.connect(&call()).unwrap();
        assert!(
            bed.log().contains(if hot { RESTORED } else { SAVED }),
            "{}",
            bed.log()
        );
        m.snapshot("one", &call()).unwrap();
        ask(m, "touch /tmp/trace");
        m.restore_snapshot("one", &call()).unwrap();
        assert_eq!(run(m, "test -e /tmp/trace").0, 1);
    }
}
