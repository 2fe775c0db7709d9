//! The agent in a real guest: programs that go on by themselves, and agents that end.

use std::time::Duration;

use hotbed_driver::machine::program::{OutputStream, Program, Task};

use crate::guest::{bed, one_at_a_time};
use crate::support::{call, has_agent};

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
