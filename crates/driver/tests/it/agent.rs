//! The agent in a real guest: programs that go on by themselves, and agents that end.

use std::time::Duration;

use hotbed_driver::machine::program::{OutputStream, Program, Task};

use hotbed_driver::Error;

use crate::guest::{SOON, bed, one_at_a_time};
use crate::support::{call, eventually, has_agent, run};

#[test]
fn program_that_goes_on_is_killed_when_its_time_is_over() {
    if !has_agent() {
        return;
    }
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]");
    let m = &bed.testbed.machines()[0];
    let endless = Task {
        timeout: Some(Duration::from_millis(100)),
        ..Task::new(Program::Script("sleep 600 & wait".to_owned()))
    };
    let process = m.spawn(&endless, &call()).unwrap();
    assert_eq!(process.wait(None, &call()).unwrap(), Some(-9));
    assert!(process.has_timed_out(&call()).unwrap());

    let quick = Task {
        timeout: Some(Duration::from_secs(600)),
        merges_stderr: true,
        ..Task::new(Program::Script("echo a; echo b >&2; exit 3".to_owned()))
    };
    let process = m.spawn(&quick, &call()).unwrap();
    let read = |stream| process.read_to_end(stream, &call()).unwrap();
    assert_eq!(read(OutputStream::Stdout), b"a\nb\n");
    assert_eq!(read(OutputStream::Stderr), b"");
    assert_eq!(process.wait(None, &call()).unwrap(), Some(3));
    assert!(!process.has_timed_out(&call()).unwrap());
}

#[test]
fn agent_that_dies_takes_its_commands_with_it_and_comes_again() {
    if !has_agent() {
        return;
    }
    let _turn = one_at_a_time();
    let bed = bed("[machines.m]");
    let m = &bed.testbed.machines()[0];
    let daemon = "setsid sh -c 'echo $$ >/tmp/pid; exec sleep 1000' >/dev/null 2>&1 & \
                  until test -s /tmp/pid; do sleep 0.1; done; \
                  echo 'export FROM_PROFILE=yes; LEFT=over; umask 077; cd /' >>/etc/profile";
    m.succeed(&[daemon], None, &call()).unwrap();
    // PID 1 is of the same name.
    let kill =
        "for pid in $(pidof hotbed-agent); do test $pid = 1 || kill -9 $pid; done; sleep 1000";
    match m.succeed(&[kill], None, &call()) {
        Err(Error::Runtime(message)) => {
            assert!(message.contains("started anew"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let is_there = "test -d /proc/$(cat /tmp/pid)";
    assert!(eventually(SOON, || run(m, is_there).0 == 1));
    assert!(eventually(SOON, || m.ping(&call()).is_ok()));
    let complaint = "the agent has ended by signal 9";
    assert!(eventually(SOON, || bed.log().contains(complaint)));

    // The new one has what a login shell has by now, and no more.
    let probe = "echo $FROM_PROFILE ${LEFT-none}; umask; pwd";
    let wanted = "yes none\n0022\n/tmp\n";
    assert_eq!(run(m, probe), (0, wanted.to_owned()));
    let task = Task::new(Program::Script(probe.to_owned()));
    let finished = m.run_task(&task, None, &call()).unwrap();
    assert_eq!(String::from_utf8_lossy(&finished.stdout), wanted);
}
