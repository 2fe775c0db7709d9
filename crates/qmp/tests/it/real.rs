//! What a session with a real QEMU is like.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use hotbed_qmp::commands::*;
use hotbed_qmp::{Error, ErrorClass};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Qemu, SLACK, late, soon};

fn signal(qemu: &Qemu, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(qemu.child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn greeting_and_version_agree() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    assert!(client.greeting().offers_out_of_band());
    assert_eq!(
        client.call(&QueryVersion {}, late()).unwrap(),
        client.greeting().version
    );
    assert!(client.greeting().version.qemu.major >= 7);
}

#[test]
fn pretty_monitor_is_read_as_well() {
    let Some(qemu) = Qemu::with_monitor("mode=control,pretty=on", &[]) else {
        return;
    };
    let client = qemu.connect();
    assert!(client.call(&QueryStatus {}, late()).unwrap().running);
    assert!(
        client
            .call(&QuerySchema {}, late())
            .unwrap()
            .has_command("stop")
    );
}

#[test]
fn monitor_for_people_is_refused_with_its_own_words() {
    let Some(qemu) = Qemu::with_monitor("mode=readline", &[]) else {
        return;
    };
    let error = hotbed_qmp::blocking::Client::connect(&qemu.socket(), late()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("type 'help' for more information"),
        "{error}"
    );
}

#[test]
fn events_of_a_command_are_there_when_it_is_answered() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    for _ in 0..20 {
        let cursor = client.cursor();
        client.call(&Stop {}, late()).unwrap();
        client.call(&Cont {}, late()).unwrap();
        let names: Vec<_> = client
            .events_since(cursor)
            .into_iter()
            .map(|event| event.name)
            .collect();
        assert_eq!(names, ["STOP", "RESUME"]);
    }
    let event = client
        .wait_event(0, &mut |event| event.name == "RESUME", late())
        .unwrap()
        .unwrap();
    assert!(event.timestamp.unwrap().seconds > 0);
}

#[test]
fn refusals_have_their_class() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let class = |result: Result<Value, Error>| match result {
        Err(Error::Command { class, .. }) => class,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        class(client.execute("no-such", Value::Null, late())),
        ErrorClass::CommandNotFound
    );
    assert_eq!(
        class(client.execute("device_del", json!({"id": "no"}), late())),
        ErrorClass::DeviceNotFound
    );
    assert_eq!(
        class(client.execute("stop", json!({"no": 1}), late())),
        ErrorClass::GenericError
    );
    assert_eq!(
        class(client.execute("stop", json!(1), late())),
        ErrorClass::GenericError
    );
    assert_eq!(
        class(client.execute_oob("stop", Value::Null, late())),
        ErrorClass::GenericError
    );
    client.call(&Stop {}, late()).unwrap();
}

#[test]
fn quit_is_answered_and_then_the_session_is_over() {
    let Some(mut qemu) = Qemu::start(&[]) else {
        return;
    };
    let client = qemu.connect();
    client.call(&Quit {}, late()).unwrap();
    let event = client
        .wait_event(0, &mut |event| event.name == "SHUTDOWN", late())
        .unwrap()
        .unwrap();
    assert_eq!(event.data["reason"], "host-qmp-quit");
    assert!(client.wait_closed(late()));
    assert!(
        matches!(client.call(&Quit {}, late()), Err(Error::Closed { command }) if command == "quit")
    );
    assert!(qemu.child.wait().unwrap().success());
}

#[test]
fn killed_qemu_ends_the_waits() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.wait_event(0, &mut |_| true, late()));
        signal(&qemu, Signal::KILL);
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed { .. })));
    });
    assert!(client.is_closed());
}

#[test]
fn qemu_that_stands_still_does_not_hold_a_call_past_its_deadline() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    signal(&qemu, Signal::STOP);
    let until = Instant::now() + Duration::from_millis(60);
    let mut pending = client.submit("query-status", Value::Null, &[]).unwrap();
    assert!(pending.wait(until).unwrap().is_none());
    assert!(Instant::now() < until + SLACK);
    signal(&qemu, Signal::CONT);
    assert_eq!(pending.wait(late()).unwrap().unwrap()["running"], true);
}

#[test]
fn files_given_by_many_threads_all_arrive() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..32 {
                    let fdname = format!("f-{thread}-{number}");
                    let file = tempfile::tempfile().unwrap();
                    client
                        .call(
                            &GetFd {
                                fdname: &fdname,
                                file: file.as_fd(),
                            },
                            late(),
                        )
                        .unwrap();
                    client.call(&CloseFd { fdname: &fdname }, late()).unwrap();
                }
            });
        }
    });
}

#[test]
fn files_given_in_a_row_without_waiting_all_arrive() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let file = tempfile::tempfile().unwrap();
    let give = |number| {
        client
            .submit(
                "getfd",
                json!({"fdname": format!("f{number}")}),
                &[file.as_fd()],
            )
            .unwrap()
    };
    let pending: Vec<_> = (0..64).map(give).collect();
    for mut pending in pending {
        assert_eq!(pending.wait(late()).unwrap(), Some(json!({})));
    }
}

#[test]
fn machine_is_saved_to_a_file_that_was_passed() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let capabilities = vec![MigrationCapability {
        capability: "events",
        state: true,
    }];
    client
        .call(&MigrateSetCapabilities { capabilities }, late())
        .unwrap();
    let known = client.call(&QueryMigrateCapabilities {}, late()).unwrap();
    assert!(
        known
            .iter()
            .any(|known| known.capability == "events" && known.state)
    );

    let mut file = tempfile::tempfile().unwrap();
    client
        .call(
            &GetFd {
                fdname: "state",
                file: file.as_fd(),
            },
            late(),
        )
        .unwrap();
    client
        .call(
            &Migrate {
                uri: "fd:state",
                ..Migrate::default()
            },
            late(),
        )
        .unwrap();
    let is_over = |status: &Value| status == "completed" || status == "failed";
    let event = client.wait_event(
        0,
        &mut |event| event.name == "MIGRATION" && is_over(&event.data["status"]),
        late(),
    );
    assert_eq!(event.unwrap().unwrap().data["status"], "completed");
    let info = client.call(&QueryMigrate {}, late()).unwrap();
    assert!(
        info.is_over() && info.status.as_deref() == Some("completed") && info.total_time.is_some(),
        "{info:?}"
    );
    let mut magic = [0; 4];
    file.rewind().unwrap();
    file.read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"QEVM");
}

#[test]
fn out_of_band_command_overtakes_one_that_blocks_qemu() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let fifo = qemu.folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let backend = json!({"type": "file", "data": {"out": fifo}});
    // QEMU opens the pipe, which waits for a reader: all of QEMU but the monitor's own thread stands still.
    let mut blocked = client
        .submit("chardev-add", json!({"id": "c", "backend": backend}), &[])
        .unwrap();
    let mut behind: Vec<_> = (0..32)
        .map(|_| client.submit("query-status", Value::Null, &[]).unwrap())
        .collect();
    assert!(blocked.wait(soon()).unwrap().is_none());
    client
        .execute_oob("yank", json!({"instances": []}), late())
        .unwrap();
    assert!(
        blocked.wait(Instant::now()).unwrap().is_none(),
        "the command did not block"
    );

    let _reader = File::open(&fifo).unwrap();
    assert!(blocked.wait(late()).unwrap().is_some());
    for pending in &mut behind {
        assert!(pending.wait(late()).unwrap().is_some());
    }
}
