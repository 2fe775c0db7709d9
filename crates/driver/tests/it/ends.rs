//! QEMU that dies, guests that say nothing, tests that do not end: everything ends in time and says why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use hotbed_driver::{Call, Error, Interrupt};

use crate::support::{Bed, call, call_for, fake_config, run, signal_group, timed};

/// Interrupts after a while.
struct After(Instant);

impl Interrupt for After {
    fn is_interrupted(&self) -> bool {
        Instant::now() >= self.0
    }
}

#[test]
fn fake_guest_boots_and_answers() {
    let bed = Bed::fake("guest");
    assert_eq!(run(bed.m(), "echo hi; exit 3"), (3, "hi\n".to_owned()));
    assert!(bed.m().is_up());
    let log = bed.log();
    for line in [
        "m: starting vm",
        "m: QEMU running (pid ",
        "m # fake-qemu: [    0.000000] hello",
        "m: connected to guest root shell",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
}

#[test]
fn qemu_that_exits_at_once_is_quoted() {
    let bed = Bed::fake("die");
    let (result, time) = timed(|| bed.m().start(false, &call()));
    let Err(Error::Machine(message)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(
        message,
        "QEMU process exited with code 3 before connecting to monitor socket.\nfake-qemu: cannot find a machine to fake"
    );
    time.at_most(Duration::from_secs(1));
    assert!(!bed.m().is_booted());
}

#[test]
fn qemu_that_dies_while_booting_is_noticed_at_once() {
    let bed = Bed::fake("die-booting");
    let (result, time) = timed(|| bed.m().connect(&call()));
    let Err(Error::Machine(message)) = result else {
        panic!("{result:?}")
    };
    assert!(message.contains("QEMU exited with code 4"), "{message}");
    assert!(message.contains("fake-qemu: the guest broke"), "{message}");
    time.at_most(Duration::from_secs(1));
}

#[test]
fn guest_that_never_reaches_its_shell_ends_with_its_last_lines() {
    let mut config = fake_config(&[("m", "silent")]);
    config.boot_timeout = Duration::from_millis(400);
    let bed = Bed::new(config);
    let (result, time) = timed(|| bed.m().connect(&call()));
    let Err(Error::Runtime(message)) = result else {
        panic!("{result:?}")
    };
    assert!(
        message.starts_with("Shell did not start in time"),
        "{message}"
    );
    assert!(message.contains("hello from the console"), "{message}");
    assert!(message.contains("boot_timeout"), "{message}");
    time.at_most(Duration::from_secs(1));
}

#[test]
fn every_wait_ends_within_100_ms_of_an_interrupt_or_deadline() {
    let within =
        |what: &str, behaviour: &str, body: &dyn Fn(&Bed, &Call<'_>) -> Result<(), Error>| {
            let bed = Bed::fake(behaviour);
            if behaviour == "guest" {
                bed.m().connect(&call()).unwrap();
            }
            let interrupt = After(Instant::now() + Duration::from_millis(200));
            let (result, time) = timed(|| {
                body(
                    &bed,
                    &Call {
                        until: None,
                        interrupt: &interrupt,
                    },
                )
            });
            assert!(
                matches!(result, Err(Error::Interrupted)),
                "{what}: {result:?}"
            );
            time.at_most(Duration::from_millis(300));
            let (result, time) = timed(|| body(&bed, &call_for(Duration::from_millis(200))));
            assert!(
                matches!(result, Err(Error::Timeout(_))),
                "{what}: {result:?}"
            );
            time.at_most(Duration::from_millis(300));
        };
    within("start", "deaf", &|bed, call| bed.m().start(false, call));
    within("connect", "silent", &|bed, call| bed.m().connect(call));
    within("command", "guest", &|bed, call| {
        bed.m().succeed(&["sleep 100"], None, call).map(|_| ())
    });
    within("monitor", "guest", &|bed, call| {
        bed.m().send_monitor_command("hang", call).map(|_| ())
    });
    within("shutdown", "guest", &|bed, call| {
        bed.m().wait_for_shutdown(None, call)
    });
    within("console text", "guest", &|bed, call| {
        bed.m()
            .wait_for_console_text("x", &mut |_| Ok(false), None, call)
    });
    within("event", "guest", &|bed, call| {
        bed.m().qmp_event(Duration::from_secs(9), call).map(|_| ())
    });
    within("port", "guest", &|bed, call| {
        bed.m()
            .wait_for_open_port(1, "localhost", Duration::from_secs(9), call)
    });
}

#[test]
fn machine_goes_on_after_an_interrupted_command() {
    let bed = Bed::fake("guest");
    bed.m().connect(&call()).unwrap();
    let interrupt = After(Instant::now() + Duration::from_millis(100));
    let interrupted = bed.m().succeed(
        &["sleep 0.5; echo late"],
        None,
        &Call {
            until: None,
            interrupt: &interrupt,
        },
    );
    assert!(
        matches!(interrupted, Err(Error::Interrupted)),
        "{interrupted:?}"
    );
    assert_eq!(run(bed.m(), "echo next"), (0, "next\n".to_owned()));
}

#[test]
fn frozen_qemu_ends_no_later_than_its_command_and_a_grace() {
    let bed = Bed::fake("guest");
    bed.m().connect(&call()).unwrap();
    let pid = bed.m().pid().unwrap();
    signal_group(pid, "STOP");
    let (result, time) = timed(|| {
        bed.m()
            .wait_until_succeeds("true", Duration::from_secs(1), &call())
    });
    signal_group(pid, "CONT");
    let Err(Error::TestFailed(message)) = result else {
        panic!("{result:?}")
    };
    assert!(
        message.starts_with("action timed out after ") && message.ends_with("(timeout=1.0)"),
        "{message}"
    );
    time.at_most(Duration::from_secs(5));
}

#[test]
fn global_timeout_says_what_each_machine_was_doing_and_kills_it() {
    let bed = Bed::new(fake_config(&[
        ("busy", "guest"),
        ("booting", "silent"),
        ("idle", "guest"),
        ("off", "guest"),
    ]));
    let [busy, booting, idle, _] = bed.testbed.machines() else {
        panic!("four machines")
    };
    idle.connect(&call()).unwrap();
    booting.start(false, &call()).unwrap();
    busy.connect(&call()).unwrap();
    let (expired, told) = channel();
    let at = AtomicBool::new(false);
    let (result, time) = timed(|| {
        bed.testbed.arm_timeout(
            Duration::from_millis(500),
            hotbed_driver::AtTimeout::Kill,
            Box::new(move || expired.send(()).unwrap()),
        );
        let result = busy.succeed(&["sleep 1234"], None, &call());
        at.store(true, Ordering::Relaxed);
        result
    });
    assert!(result.is_err());
    time.at_most(Duration::from_millis(1500));
    told.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(bed.testbed.timed_out());
    let log = bed.log();
    for line in [
        "Test will time out and terminate in 0.5 seconds",
        "timeout reached; test terminating...",
        "busy: was running command `sleep 1234` for 0.",
        "booting: was booting for 0.",
        "booting:   its console: fake-qemu: [    0.000000] hello from the console",
        "idle: was idle for 0.",
        "off: was off when",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
    assert!(
        bed.testbed
            .machines()
            .iter()
            .all(|machine| machine.pid().is_none())
    );
}

#[test]
fn disarmed_timeout_does_not_go_off() {
    let bed = Bed::fake("guest");
    let (expired, told) = channel();
    bed.testbed.arm_timeout(
        Duration::from_millis(100),
        hotbed_driver::AtTimeout::Kill,
        Box::new(move || expired.send(()).unwrap()),
    );
    bed.testbed.disarm_timeout();
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    assert!(!bed.testbed.timed_out());
}

#[test]
fn failures_of_start_all_name_each_machine() {
    let bed = Bed::new(fake_config(&[("a", "die"), ("b", "guest"), ("c", "die")]));
    let Err(Error::Machine(message)) = bed.testbed.start_all(&call()) else {
        panic!("two machines die")
    };
    assert!(
        message.starts_with(
            "Failed to start the following machines:\na: QEMU process exited with code 3"
        ),
        "{message}"
    );
    assert!(message.contains("\nc: QEMU process exited"), "{message}");
    assert!(bed.testbed.machines()[1].is_booted());
}
