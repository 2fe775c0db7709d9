//! What a test asks of a machine beside commands: its console, its power, its monitors, its environment.

use std::time::Duration;

use hotbed_driver::Error;
use hotbed_driver::machine::Execute;

use crate::support::{Bed, SHORT, SOON, call, eventually, fake_config, run, test_failure, timed};

#[test]
fn console_text_is_found_in_order_and_consumed() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    m.connect(&call()).unwrap();
    let wait = |text: &str, timeout| {
        m.wait_for_console_text(
            text,
            &mut |said| Ok(said.contains(text)),
            Some(timeout),
            &call(),
        )
    };
    wait("hello from", SOON).unwrap();
    assert!(test_failure(wait("hello from", SHORT)).ends_with("(timeout=0.6)"));
    m.send_console("one\ntwo\nthree\n", &call()).unwrap();
    let (found, time) = timed(|| wait("got: twoconsole got: three", SOON));
    found.unwrap();
    time.at_most(Duration::from_millis(300));
    let log = m.get_console_log().unwrap();
    assert_eq!(
        log.lines().next(),
        Some("fake-qemu: [    0.000000] hello from the console")
    );
    assert!(log.ends_with("console got: three"), "{log}");
    assert_eq!(
        std::fs::read_to_string(bed.directory.path().join("m.console.log"))
            .unwrap()
            .trim_end(),
        log
    );
}

#[test]
fn flood_of_console_lines_holds_up_nothing_and_is_kept_whole() {
    let bed = Bed::fake("flood");
    let m = bed.m();
    let ((), time) = timed(|| drop(run(m, "true")));
    time.at_most(Duration::from_secs(2));
    m.wait_for_console_text(
        "the flood is over",
        &mut |text| Ok(text.contains("the flood is over")),
        Some(SOON),
        &call(),
    )
    .unwrap();
    let log = m.get_console_log().unwrap();
    assert_eq!(
        log.lines().filter(|line| line.starts_with("flood")).count(),
        100_000
    );
}

#[test]
fn files_go_through_a_shared_directory_when_the_guest_sees_one() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    // The fake guest is this host: let it see the directory where a guest would.
    let shared = std::path::Path::new("/tmp/shared");
    if std::fs::symlink_metadata(shared).is_ok() {
        eprintln!("SKIPPED: /tmp/shared is there on this host already");
        return;
    }
    std::os::unix::fs::symlink(m.shared_dir(), shared).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let out = bed.directory.path();
        std::fs::write(out.join("in"), "text").unwrap();
        m.copy_from_host(
            &out.join("in"),
            &out.join("a/b").display().to_string(),
            &call(),
        )
        .unwrap();
        m.copy_from_machine(&out.join("a").display().to_string(), "back", &call())
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(out.join("back/a/b")).unwrap(),
            "text"
        );
        assert_eq!(
            std::fs::read_to_string(m.shared_dir().join("back/a/b")).unwrap(),
            "text"
        );
        assert!(bed.log().contains("must succeed: cp -r "), "{}", bed.log());
    }));
    std::fs::remove_file(shared).unwrap();
    result.unwrap();
}

#[test]
fn machine_goes_off_and_on_again() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    run(m, "true");
    let first = m.pid().unwrap();
    m.shutdown(&call()).unwrap();
    assert_eq!((m.is_booted(), m.pid()), (false, None));
    m.shutdown(&call()).unwrap();
    run(m, "true");
    assert_ne!(m.pid().unwrap(), first);
    let log = m.get_console_log().unwrap();
    assert_eq!(
        log.lines()
            .filter(|line| line.contains("hello from"))
            .count(),
        1,
        "only of this boot: {log}"
    );
    m.crash(&call()).unwrap();
    assert!(!m.is_up());
    let log = bed.log();
    for line in [
        "m: waiting for the VM to power off",
        "m: (finished: waiting for the VM to power off, in 0.",
        "m: forced crash",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
}

#[test]
fn guest_that_ends_is_an_error_but_no_boot() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    let ended = m
        .execute(
            "poweroff",
            &Execute {
                check_return: false,
                ..Execute::default()
            },
            &call(),
        )
        .unwrap();
    assert_eq!(ended.status, -1);
    assert!(eventually(Duration::from_secs(1), || m
        .execute("true", &Execute::default(), &call())
        .is_err()));
    let Err(Error::Runtime(message)) = m.execute("true", &Execute::default(), &call()) else {
        panic!("it is off")
    };
    assert!(
        message.starts_with("Shell disconnected: m is not running any more"),
        "{message}"
    );
    m.wait_for_shutdown(None, &call()).unwrap();
    m.start(false, &call()).unwrap();
    assert_eq!(run(m, "echo again"), (0, "again\n".to_owned()));
}

#[test]
fn reboot_waits_for_the_new_shell() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    m.start(true, &call()).unwrap();
    let (_, before) = run(m, "echo $PPID $$");
    m.reboot(&call()).unwrap();
    assert!(!m.is_connected());
    let (status, after) = run(m, "echo $PPID $$");
    assert_eq!(status, 0);
    assert_ne!(after, before);
    assert!(
        bed.log().contains("m: sending key 'ctrl-alt-delete'"),
        "{}",
        bed.log()
    );
}

#[test]
fn shutdown_that_does_not_come_times_out() {
    let bed = Bed::fake("guest");
    bed.m().connect(&call()).unwrap();
    let result = bed.m().wait_for_shutdown(Some(SHORT), &call());
    assert!(
        matches!(result, Err(Error::ProcessTimeout { timeout, .. }) if timeout == SHORT),
        "{result:?}"
    );
}

#[test]
fn monitor_and_qmp_answer() {
    let bed = Bed::fake("guest");
    let m = bed.m();
    assert_eq!(
        m.send_monitor_command("info status", &call()).unwrap(),
        "info status\r\n"
    );
    m.block(&call()).unwrap();
    m.unblock(&call()).unwrap();
    m.send_key("A", None, true, &call()).unwrap();
    assert!(bed.log().contains("m: sending key 'shift-a'"));
    assert!(matches!(
        m.send_key("no", None, false, &call()),
        Err(Error::Machine(_))
    ));
    assert_eq!(
        m.qmp("query-status", serde_json::Value::Null, &call())
            .unwrap(),
        serde_json::json!({"return": {}})
    );
    m.qmp("stop", serde_json::Value::Null, &call()).unwrap();
    let event = m
        .wait_for_qmp_event(&mut |event| Ok(event["event"] == "STOP"), SOON, &call())
        .unwrap();
    assert_eq!(event["timestamp"]["microseconds"], 2);
    let none = m.wait_for_qmp_event(&mut |_| Ok(true), SHORT, &call());
    assert!(matches!(none, Err(Error::Timeout(_))), "{none:?}");
    let refused = m.qmp("unknown", serde_json::Value::Null, &call());
    assert!(
        matches!(&refused, Err(Error::Qmp { class, .. }) if class == "CommandNotFound"),
        "{refused:?}"
    );
}

#[test]
fn threads_use_machines_at_once_and_one_machine_in_turns() {
    let bed = Bed::new(fake_config(&[("a", "guest"), ("b", "guest")]));
    bed.testbed.start_all(&call()).unwrap();
    let ((), time) = timed(|| {
        std::thread::scope(|scope| {
            for machine in bed.testbed.machines() {
                for number in 0..4 {
                    scope.spawn(move || {
                        let command = format!("sleep 0.1; echo {number}");
                        assert_eq!(run(machine, &command), (0, format!("{number}\n")));
                    });
                }
            }
        });
    });
    time.at_least(Duration::from_millis(400));
    time.at_most(Duration::from_millis(1500));
}

#[test]
fn start_scripts_get_the_environment_of_the_nixos_driver() {
    let bed = Bed::fake("guest");
    let directory = bed.testbed.directory().display().to_string();
    let (_, text) = run(bed.m(), "env; pwd");
    for line in [
        format!("TMPDIR={directory}/vm-state-m"),
        "USE_TMPDIR=1".to_owned(),
        format!("SHARED_DIR={directory}/shared-xchg"),
        format!("NIX_EFI_VARS={directory}/vm-state-m/m-efi-vars.fd"),
        format!("QEMU_VDE_SOCKET_1={directory}/vde1.ctl"),
        format!("{directory}/vm-state-m"),
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "{line} is not in:\n{text}"
        );
    }
}
