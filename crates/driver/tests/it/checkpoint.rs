//! Machines that are saved in the middle of a test and taken back: real guests.

use std::time::Duration;

use hotbed_driver::machine::program::{Program, Task};
use hotbed_driver::vlan::{End, Frames, Impairment};
use hotbed_driver::{Error, Machine};

use crate::guest::{SOON, one_at_a_time};
use crate::hot::{Cache, ask};
use crate::support::{Bed, call, eventually, fake_config, run, timed};

fn is_there(machine: &Machine, path: &str) -> bool {
    run(machine, &format!("test -e {path}")).0 == 0
}

#[test]
fn all_machines_go_back_together_and_again() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.alice]\n[machines.m]");
    let [alice, m] = bed.testbed.machines() else {
        panic!("two machines")
    };
    bed.testbed.start_all(&call()).unwrap();
    alice
        .succeed(
            &["ping -4 -c 1 m", "echo before > /tmp/file"],
            Some(SOON),
            &call(),
        )
        .unwrap();
    m.succeed(&["echo said-before > /dev/hvc1"], None, &call())
        .unwrap();
    assert!(eventually(SOON, || m
        .get_console_log()
        .unwrap()
        .contains("said-before")));
    let boot = ask(m, "cat /proc/sys/kernel/random/boot_id");
    let ((), took) = timed(|| bed.testbed.checkpoint("one", &call()).unwrap());
    eprintln!("checkpoint of two machines: {took:?}");
    let mut chances = Vec::new();
    for round in 0..3 {
        assert_eq!(ask(alice, "cat /tmp/file"), "before");
        assert!(!is_there(m, "/tmp/after"), "round {round}");
        alice
            .succeed(
                &["echo after > /tmp/file", "ping -4 -c 1 m"],
                Some(SOON),
                &call(),
            )
            .unwrap();
        m.succeed(
            &["head -c 4000000 /dev/urandom > /tmp/after; echo said-after > /dev/hvc1"],
            Some(SOON),
            &call(),
        )
        .unwrap();
        assert!(eventually(SOON, || m
            .get_console_log()
            .unwrap()
            .contains("said-after")));
        if round == 1 {
            m.crash(&call()).unwrap();
        }
        let ((), took) = timed(|| bed.testbed.rollback("one", &call()).unwrap());
        eprintln!("rollback of two machines: {took:?}");
        let console = m.get_console_log().unwrap();
        assert!(console.contains("said-before"), "{console}");
        assert!(!console.contains("said-after"), "{console}");
        assert_eq!(ask(m, "cat /proc/sys/kernel/random/boot_id"), boot);
        chances.push(ask(m, "head -c 16 /dev/urandom | od -An -tx1"));
    }
    chances.dedup();
    assert_eq!(chances.len(), 3, "the same random numbers twice");
    assert_eq!(ask(m, "hostname"), "m");
    alice
        .succeed(&["ping -6 -c 1 m"], Some(SOON), &call())
        .unwrap();
}

#[test]
fn a_machine_goes_back_alone_and_also_one_that_booted_cold() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.cold_bed("[machines.m]\nagent = false");
    let m = bed.m();
    m.start(true, &call()).unwrap();
    m.succeed(&["echo 1 > /tmp/file"], None, &call()).unwrap();
    m.snapshot("one", &call()).unwrap();
    m.succeed(&["echo 2 > /tmp/file"], None, &call()).unwrap();
    // One of a machine that was taken back is one as well.
    m.restore_snapshot("one", &call()).unwrap();
    assert_eq!(ask(m, "cat /tmp/file"), "1");
    m.succeed(&["echo 3 > /tmp/file"], None, &call()).unwrap();
    m.snapshot("three", &call()).unwrap();
    m.restore_snapshot("one", &call()).unwrap();
    assert_eq!(ask(m, "cat /tmp/file"), "1");
    m.restore_snapshot("three", &call()).unwrap();
    assert_eq!(ask(m, "cat /tmp/file"), "3");
    // Its firmware came along.
    m.reboot(&call()).unwrap();
    assert!(!is_there(m, "/tmp/file"));
    assert!(m.forget_snapshot("one"));
    let error = m.restore_snapshot("one", &call()).unwrap_err();
    assert!(matches!(error, Error::Argument(_)), "{error}");
    assert!(error.to_string().contains("there are `three`"), "{error}");
}

#[test]
fn machines_that_were_off_are_off_after_a_rollback() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.alice]\n[machines.m]");
    let [alice, m] = bed.testbed.machines() else {
        panic!("two machines")
    };
    alice.connect(&call()).unwrap();
    bed.testbed.checkpoint("early", &call()).unwrap();
    assert_eq!(bed.testbed.checkpoints(), ["early"]);
    m.connect(&call()).unwrap();
    bed.testbed.rollback("early", &call()).unwrap();
    assert!(!m.is_booted() && alice.is_up());
    alice.succeed(&["true"], None, &call()).unwrap();
    assert!(bed.testbed.forget_checkpoint("early") && !bed.testbed.forget_checkpoint("early"));
    assert!(matches!(
        bed.testbed.rollback("early", &call()),
        Err(Error::Argument(_))
    ));
}

#[test]
fn frames_under_way_are_under_way_again_after_a_rollback() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.alice]\n[machines.m]");
    let (alice, vlan) = (&bed.testbed.machines()[0], &bed.testbed.vlans()[0]);
    bed.testbed.start_all(&call()).unwrap();
    alice
        .succeed(&["ping -4 -c 1 m"], Some(SOON), &call())
        .unwrap();
    // Nothing arrives by itself while the test lasts.
    let far = Impairment {
        delay: Duration::from_secs(600),
        ..Impairment::default()
    };
    let to_m = Frames::From(End::from("alice"), Some(End::from("m")));
    vlan.impair(to_m, &far).unwrap();
    let ping = "(ping -4 -c 1 -W 600 m >/dev/null; echo $? > /tmp/ended) >/dev/null 2>&1 &";
    alice.succeed(&[ping], None, &call()).unwrap();
    let waiting = || {
        let links = vlan.links().unwrap();
        links.iter().map(|link| link.counters.waiting).sum::<u64>()
    };
    assert!(eventually(SOON, || waiting() > 0));
    bed.testbed.checkpoint("one", &call()).unwrap();
    for round in 0..3 {
        assert!(waiting() > 0, "round {round}");
        assert!(!is_there(alice, "/tmp/ended"), "round {round}");
        vlan.heal().unwrap();
        let arrived = || run(alice, "grep -qx 0 /tmp/ended").0 == 0;
        assert!(eventually(SOON, arrived), "round {round}");
        bed.testbed.rollback("one", &call()).unwrap();
    }
}

#[test]
fn what_the_agent_runs_goes_on_after_a_checkpoint_and_in_vain_after_a_rollback() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed("[machines.m]");
    let m = bed.m();
    m.succeed(
        &["(while :; do date +%N > /tmp/beat; sleep 0.1; done) >/dev/null 2>&1 &"],
        None,
        &call(),
    )
    .unwrap();
    bed.testbed.checkpoint("one", &call()).unwrap();
    let task = Task::new(Program::Script("echo hi".to_owned()));
    assert_eq!(&*m.run_task(&task, None, &call()).unwrap().stdout, b"hi\n");
    bed.testbed.rollback("one", &call()).unwrap();
    // What goes on by itself in the guest goes on.
    let beat = ask(m, "cat /tmp/beat");
    assert!(eventually(SOON, || ask(m, "cat /tmp/beat") != beat));
    assert_eq!(&*m.run_task(&task, None, &call()).unwrap().stdout, b"hi\n");
}

#[test]
fn a_machine_of_a_start_script_cannot_be_saved_and_goes_on() {
    let bed = Bed::new(fake_config(&[("m", "")]));
    let m = bed.m();
    m.connect(&call()).unwrap();
    let error = bed.testbed.checkpoint("one", &call()).unwrap_err();
    assert!(
        error.to_string().contains("it is started by a script"),
        "{error}"
    );
    assert_eq!(run(m, "echo hi"), (0, "hi\n".to_owned()));
}
