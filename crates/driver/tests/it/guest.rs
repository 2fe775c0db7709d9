//! Real guests: QEMU and the micro image, as a test file asks for them.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use hotbed_driver::machine::Activity;
use hotbed_driver::machine::program::{Program, Task};
use hotbed_driver::{Error, TestConfig};

use crate::support::{Bed, Took, call, has_agent, run, timed};

pub(crate) const SOON: Duration = Duration::from_secs(120);

/// A testbed as the head of a test file asks for it.
pub(crate) fn bed(head: &str) -> Bed {
    let head: String = head.lines().map(|line| format!("# {line}\n")).collect();
    let text = format!("# /// hotbed\n{head}# ///\n");
    Bed::new(TestConfig::from_python_file(Path::new("it.py"), &text).unwrap())
}

/// Two guests at a time are enough for two cores.
pub(crate) fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    static TURN: OnceLock<std::sync::Mutex<()>> = OnceLock::new();
    TURN.get_or_init(Default::default)
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn two_micro_machines_reach_each_other_by_name() {
    let _turn = one_at_a_time();
    let bed = bed("hot = false\n[machines.alice]\n[machines.bob]\nvlans = [2, 1]");
    bed.testbed
        .prepare_images(&hotbed_image::Silent, &call())
        .unwrap();
    bed.testbed.start_all(&call()).unwrap();
    let [alice, bob] = bed.testbed.machines() else {
        panic!("two machines")
    };
    for machine in [alice, bob] {
        let ((), time) = timed(|| machine.connect(&call()).unwrap());
        eprintln!("{}: shell after {time:?}", machine.name());
        assert_eq!(
            run(machine, "hostname"),
            (0, format!("{}\n", machine.name()))
        );
    }
    assert!(matches!(alice.activity(), Activity::Idle(_)));
    let compaction = "cat /proc/sys/vm/compaction_proactiveness";
    assert_eq!(run(alice, compaction), (0, "0\n".to_owned()));
    for command in ["ping -4 -c 1 bob", "ping -6 -c 1 bob"] {
        alice.succeed(&[command], Some(SOON), &call()).unwrap();
    }
    let (_, addresses) = run(bob, "ip -o addr");
    for address in [
        "eth1    inet 192.168.2.2/24",
        "eth2    inet 192.168.1.2/24",
        "eth2    inet6 2001:db8:1::2/64",
    ] {
        assert!(
            addresses.contains(address),
            "{address} is not in:\n{addresses}"
        );
    }
    alice.block(&call()).unwrap();
    alice
        .fail(&["ping -4 -c 1 -W 1 bob"], Some(SOON), &call())
        .unwrap();
    alice.unblock(&call()).unwrap();
    alice
        .wait_until_succeeds("ping -4 -c 1 -W 1 bob", SOON, &call())
        .unwrap();
    let ports = bed
        .testbed
        .vlans()
        .iter()
        .map(|vlan| (vlan.number(), vlan.ports().len()))
        .collect::<Vec<_>>();
    assert_eq!(ports, [(1, 2), (2, 1)]);
    let log = bed.log();
    assert!(log.contains("alice # "), "the guest's log is shown:\n{log}");
    let console = alice.get_console_log().unwrap();
    assert!(console.contains("eth1: renamed"), "{console}");
}

#[test]
fn waits_in_a_guest_are_quick() {
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]");
    let m = bed.m();
    m.connect(&call()).unwrap();
    let mut times: Vec<Duration> = (0..40).map(|_| timed(|| run(m, "true")).1.clock).collect();
    times.sort();
    eprintln!("succeed(true): median {:?}, of 40", times[20]);
    // The guest opens the port by itself, 0.3 s after the command that tells it to has ended.
    let open = "(sleep 0.3; exec nc -l -p 4000 >/dev/null) >/dev/null 2>&1 &";
    let mut noticed = Vec::new();
    for _ in 0..5 {
        m.succeed(&[open], None, &call()).unwrap();
        noticed.push(
            timed(|| {
                m.wait_for_open_port(4000, "localhost", SOON, &call())
                    .unwrap()
            })
            .1,
        );
        m.wait_for_closed_port(4000, "localhost", SOON, &call())
            .unwrap();
    }
    noticed.sort_by_key(|took: &Took| took.clock);
    eprintln!("port that opens 0.3 s later: {noticed:?}");
    // The sleep and the program that opens it have to start first.
    noticed[2].at_most(Duration::from_millis(450));
    m.wait_for_file("/etc/hosts", SOON, &call()).unwrap();
    let vain = timed(|| m.wait_for_file("/no/such/file", Duration::from_secs(1), &call()));
    assert!(matches!(vain.0, Err(Error::TestFailed(_))), "{vain:?}");
    vain.1.at_most(Duration::from_secs(3));
    assert!(matches!(
        m.wait_for_unit("x.service", None, SOON, &call()),
        Err(Error::TestFailed(_))
    ));
}

/// Fails when the file does not hold the data, and says from where on.
fn same(file: &Path, data: &[u8]) {
    let found = std::fs::read(file).unwrap();
    let differs = found.iter().zip(data).position(|(a, b)| a != b);
    assert_eq!(
        (found.len(), differs),
        (data.len(), None),
        "{}",
        file.display()
    );
}

#[test]
fn files_go_into_a_guest_and_come_out_whole() {
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]");
    let m = bed.m();
    let source = bed.directory.path().join("big");
    let data: Vec<u8> = (0..10_000_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("sub/data"), &data).unwrap();
    let ((), time) = timed(|| {
        m.copy_from_host(&source.join("sub/data"), "/tmp/data", &call())
            .unwrap()
    });
    eprintln!("10 MB in: {time:?}");
    m.copy_from_host(&source, "/tmp/dir", &call()).unwrap();
    m.succeed(&["cmp /tmp/data /tmp/dir/sub/data"], None, &call())
        .unwrap();
    let ((), time) = timed(|| m.copy_from_machine("/tmp/data", "", &call()).unwrap());
    eprintln!("10 MB out: {time:?}");
    same(&bed.directory.path().join("data"), &data);
    m.copy_from_machine("/tmp/dir", "out", &call()).unwrap();
    same(&bed.directory.path().join("out/dir/sub/data"), &data);
}

#[test]
fn micro_machine_reboots_and_goes_off() {
    let _turn = one_at_a_time();
    let bed = bed("hot = false\n[machines.m]");
    let m = bed.m();
    m.start(true, &call()).unwrap();
    m.succeed(&["touch /run/before"], None, &call()).unwrap();
    m.reboot(&call()).unwrap();
    let ((), time) = timed(|| m.connect(&call()).unwrap());
    eprintln!("rebooted to a shell in {time:?}");
    assert_ne!(run(m, "test -e /run/before").0, 0);
    let ((), time) = timed(|| m.shutdown(&call()).unwrap());
    eprintln!("shut down in {time:?}");
    time.at_most(Duration::from_secs(5));
    m.start(false, &call()).unwrap();
    m.crash(&call()).unwrap();
    assert!(!m.is_booted());
}

#[test]
fn missing_kernel_and_qemu_are_told() {
    let bed = bed("[machines.m]\nkernel = \"/no/such/vmlinux\"");
    let error = bed.m().start(false, &call()).unwrap_err().chain();
    assert!(
        error.contains("kernel /no/such/vmlinux cannot be used"),
        "{error}"
    );
}

#[test]
fn broken_qemu_arguments_are_answered_with_qemus_own_words() {
    let bed = bed("[machines.m]\nqemu_args = [\"-device\", \"no-such-device\"]");
    let error = bed.m().start(false, &call()).unwrap_err().chain();
    assert!(
        error.starts_with("QEMU process exited with code 1 before"),
        "{error}"
    );
    assert!(
        error.contains("'no-such-device' is not a valid device model name"),
        "{error}"
    );
}

#[test]
fn without_an_agent_a_guest_does_the_same_by_its_shell() {
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]\nagent = false");
    let m = bed.m();
    assert_eq!(run(m, "echo hi; exit 3"), (3, "hi\n".to_owned()));
    asks_for_the_same(&bed);
    assert!(matches!(m.ping(&call()), Err(Error::NoAgent { .. })));
}

#[test]
fn agent_takes_many_commands_at_once() {
    if !has_agent() {
        return;
    }
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]");
    let m = bed.m();
    m.ping(&call()).unwrap();
    asks_for_the_same(&bed);
    let ((), time) = timed(|| {
        std::thread::scope(|scope| {
            for number in 0..64 {
                scope.spawn(move || {
                    let command = format!("sleep 1; echo {number}");
                    assert_eq!(run(m, &command), (0, format!("{number}\n")));
                });
            }
        });
    });
    eprintln!("64 commands of 1 s at once: {time:?}");
    time.at_least(Duration::from_secs(1));
    // Each has to start first, and they share a processor.
    time.at_most(Duration::from_secs(10));
}

/// Asks for what does not depend on the way into the guest.
fn asks_for_the_same(bed: &Bed) {
    let m = bed.m();
    let task = Task {
        environment: vec![("NAME".to_owned(), Some("it".to_owned()))],
        directory: Some("/etc".to_owned()),
        ..Task::new(Program::Script(
            "cat; echo $NAME; pwd; echo no >&2; exit 7".to_owned(),
        ))
    };
    let finished = m.run_task(&task, Some(b"in\n"), &call()).unwrap();
    assert_eq!(
        (finished.status, &*finished.stdout, &*finished.stderr),
        (7, &b"in\nit\n/etc\n"[..], &b"no\n"[..])
    );
    let merged = Task {
        merges_stderr: true,
        ..Task::new(Program::Script("echo a; echo b >&2; echo c".to_owned()))
    };
    let finished = m.run_task(&merged, None, &call()).unwrap();
    assert_eq!(
        (finished.status, &*finished.stdout, &*finished.stderr),
        (0, &b"a\nb\nc\n"[..], &b""[..])
    );
    let data: Vec<u8> = (0..300_000_u32).map(|i| (i >> 3) as u8).collect();
    m.write("/tmp/new/file", &data, 0o640, &call()).unwrap();
    assert_eq!(
        run(m, "stat -c '%a %s %u' /tmp/new/file"),
        (0, "640 300000 0\n".to_owned())
    );
    assert!(m.read("/tmp/new/file", &call()).unwrap() == data);
    let out = bed.directory.path().join("out");
    m.get("/tmp/new", &out, &call()).unwrap();
    same(&out.join("file"), &data);
    m.put(&out, "/tmp/again", &call()).unwrap();
    m.succeed(&["cmp /tmp/new/file /tmp/again/file"], None, &call())
        .unwrap();
    assert!(matches!(
        m.read("/no/such/file", &call()),
        Err(Error::TestFailed(_))
    ));
}
