use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hotbed_qmp::blocking::Client;
use hotbed_qmp::commands::{QueryStatus, Quit};
use hotbed_qmp::fake::{Answer, FakeQemu, GREETING};
use hotbed_qmp::state::{COMMANDS_MAX, EVENTS_MAX};
use hotbed_qmp::{Error, ErrorClass};
use serde_json::{Value, json};

use crate::support::{echo, echoed, fake, late, soon};

#[test]
fn socket_that_appears_later_is_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let barrier = Arc::new(Barrier::new(2));
    let connecting = thread::spawn({
        let (path, barrier) = (path.clone(), Arc::clone(&barrier));
        move || {
            assert!(matches!(
                Client::connect(&path, Instant::now()),
                Err(Error::Connect { .. })
            ));
            barrier.wait();
            Client::connect(&path, late())
        }
    });
    barrier.wait();
    let _qemu = FakeQemu::listen(&path, echo).unwrap();
    let client = connecting.join().unwrap().unwrap();
    assert_eq!(client.greeting().version.package, "fake");
}

#[test]
fn file_that_is_no_socket_is_refused_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Client::connect(&file.path().join("below"), late()).unwrap_err();
    assert!(
        matches!(error, Error::Connect { ref source, .. } if source.raw_os_error().is_some()),
        "{error:?}"
    );
    let long = file.path().with_file_name("x".repeat(200));
    let error = Client::connect(&long, late()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot reach QEMU's monitor at /"),
        "{error}"
    );
}

#[test]
fn null_arguments_are_not_sent_and_others_are() {
    let (qemu, client) = fake(echo);
    assert_eq!(echoed(&client, &Value::Null), Value::Null);
    assert_eq!(
        echoed(&client, &json!({"a": [1, "ü\n"]})),
        json!({"a": [1, "ü\n"]})
    );
    let commands: Vec<_> = qemu
        .requests()
        .into_iter()
        .map(|request| request.command)
        .collect();
    assert_eq!(commands, ["echo", "echo"]);
}

#[test]
fn refusal_is_an_error_with_qemus_words() {
    let (_qemu, client) = fake(FakeQemu::unknown_command);
    let error = client.call(&QueryStatus {}, late()).unwrap_err();
    let Error::Command {
        command,
        class: ErrorClass::CommandNotFound,
        description,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (command.as_str(), description.as_str()),
        (
            "query-status",
            "The command query-status has not been found"
        )
    );
}

#[test]
fn answer_of_another_shape_fails_its_command_only() {
    let (_qemu, client) = fake(|request| match request.command.as_str() {
        "query-status" => json!({"running": "perhaps"}).into(),
        "deep" => {
            let depth = 1000;
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            Answer::Raw(format!("{{\"return\": {value}, \"id\": {}}}", request.id).into_bytes())
        }
        _ => echo(request),
    });
    assert!(matches!(
        client.call(&QueryStatus {}, late()),
        Err(Error::Answer { .. })
    ));
    assert!(matches!(
        client.execute("deep", Value::Null, late()),
        Err(Error::Answer { .. })
    ));
    assert_eq!(echoed(&client, &json!({"a": 1})), json!({"a": 1}));
}

#[test]
fn many_threads_get_their_own_answers() {
    let (_qemu, client) = fake(echo);
    thread::scope(|scope| {
        for thread in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for number in 0..200 {
                    let arguments = json!({"thread": thread, "number": number});
                    assert_eq!(echoed(&client, &arguments), arguments);
                }
            });
        }
    });
}

#[test]
fn answers_may_come_in_any_order() {
    let (qemu, client) = fake(|_| Answer::Hold);
    let mut pending: Vec<_> = (0..4)
        .map(|number| client.submit("hold", json!({"n": number}), &[]).unwrap())
        .collect();
    for request in qemu.wait_requests(4, late()).unwrap().iter().rev() {
        qemu.answer(request, request.arguments["n"].clone().into());
    }
    for (number, pending) in pending.iter_mut().enumerate() {
        assert_eq!(pending.wait(late()).unwrap(), Some(json!(number)));
        assert!(matches!(pending.wait(late()), Err(Error::Answered { .. })));
    }
}

#[test]
fn wait_that_reached_its_deadline_can_be_resumed() {
    let (qemu, client) = fake(echo);
    let mut pending = client.submit("hold", Value::Null, &[]).unwrap();
    assert!(pending.wait(soon()).unwrap().is_none());
    assert!(pending.wait(Instant::now()).unwrap().is_none());
    let request = qemu.wait_requests(1, late()).unwrap().remove(0);
    qemu.answer(&request, json!("at last").into());
    assert_eq!(pending.wait(late()).unwrap(), Some(json!("at last")));
}

#[test]
fn answer_that_was_given_up_does_not_disturb_the_next() {
    let (qemu, client) = fake(echo);
    assert!(
        matches!(client.execute("hold", Value::Null, soon()), Err(Error::Timeout { command }) if command == "hold")
    );
    drop(client.submit("hold", Value::Null, &[]).unwrap());
    for request in qemu.wait_requests(2, late()).unwrap() {
        qemu.answer(&request, json!("too late").into());
    }
    assert_eq!(echoed(&client, &json!({"a": 1})), json!({"a": 1}));
}

#[test]
fn answers_that_were_given_up_do_not_pile_up() {
    let (_qemu, client) = fake(echo);
    for number in 0..=COMMANDS_MAX {
        drop(client.submit("echo", Value::Null, &[]).unwrap());
        assert_eq!(echoed(&client, &json!(number)), json!(number));
    }
}

#[test]
fn event_that_came_before_an_answer_is_there_with_it() {
    let (_qemu, client) = fake(|request| {
        let event = r#"{"event": "STOP", "data": {"a": 1}, "timestamp": {"seconds": 1, "microseconds": 2}}"#;
        Answer::Raw(
            format!(
                "{event}\r\n{{\"return\": {{}}, \"id\": {}}}\r\n",
                request.id
            )
            .into_bytes(),
        )
    });
    for round in 0..100 {
        let cursor = client.cursor();
        client.execute("stop", Value::Null, late()).unwrap();
        let events = client.events_since(cursor);
        assert_eq!(events.len(), 1);
        assert_eq!(
            (events[0].name.as_str(), events[0].sequence, &events[0].data),
            ("STOP", round, &json!({"a": 1}))
        );
        assert_eq!(events[0].timestamp.unwrap().microseconds, 2);
    }
}

#[test]
fn event_is_waited_for_from_any_point_of_the_past_on() {
    let (qemu, client) = fake(echo);
    qemu.event("RESET", &json!({"n": 0}));
    qemu.event("STOP", &json!({"n": 1}));
    let stop = client
        .wait_event(0, &mut |event| event.name == "STOP", late())
        .unwrap()
        .unwrap();
    assert_eq!((stop.sequence, &stop.data), (1, &json!({"n": 1})));
    let again = client
        .wait_event(0, &mut |event| event.name == "STOP", late())
        .unwrap();
    assert_eq!(again, Some(stop.clone()));
    let next = client
        .wait_event(stop.sequence + 1, &mut |event| event.name == "STOP", soon())
        .unwrap();
    assert_eq!(next, None);
}

#[test]
fn event_wakes_who_waits_and_the_filter_may_use_the_client() {
    let (qemu, client) = fake(echo);
    let waiting = thread::spawn({
        let client = client.clone();
        move || {
            let mut seen = Vec::new();
            let mut filter = |event: &hotbed_qmp::Event| {
                seen.push(echoed(&client, &event.data));
                event.name == "SHUTDOWN"
            };
            let found = client.wait_event(0, &mut filter, late()).unwrap();
            (found.unwrap().sequence, seen)
        }
    });
    qemu.event("STOP", &json!({"n": 0}));
    qemu.wait_requests(1, late()).unwrap();
    qemu.event("SHUTDOWN", &json!({"n": 1}));
    assert_eq!(
        waiting.join().unwrap(),
        (1, vec![json!({"n": 0}), json!({"n": 1})])
    );
}

#[test]
fn events_that_were_lost_are_reported_not_passed_over() {
    let (qemu, client) = fake(echo);
    (0..EVENTS_MAX + 2).for_each(|number| qemu.event("A", &json!(number)));
    // An answer comes after all events that were sent before it.
    echoed(&client, &Value::Null);
    assert_eq!(
        (
            client.events_lost_since(0),
            client.events_since(0)[0].sequence
        ),
        (2, 2)
    );
    let lost = client.wait_event(0, &mut |_| true, late()).unwrap_err();
    assert!(matches!(lost, Error::EventsLost { lost: 2 }), "{lost}");
    assert!(
        client
            .wait_event(2, &mut |_| true, late())
            .unwrap()
            .is_some()
    );
}

#[test]
fn qemu_that_goes_ends_every_wait() {
    let (qemu, client) = fake(echo);
    qemu.event("SHUTDOWN", &Value::Null);
    thread::scope(|scope| {
        let commands: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.execute("hold", Value::Null, late())))
            .collect();
        let event =
            scope.spawn(|| client.wait_event(0, &mut |event| event.name == "RESET", late()));
        let closed = scope.spawn(|| client.wait_closed(late()));
        qemu.wait_requests(4, late()).unwrap();
        assert!(!client.is_closed());
        qemu.send(b"{\"return\": {\"half an ans");
        qemu.close();
        for command in commands {
            assert!(
                matches!(command.join().unwrap(), Err(Error::Closed { command }) if command == "hold")
            );
        }
        assert!(matches!(event.join().unwrap(), Err(Error::Closed { .. })));
        assert!(closed.join().unwrap());
    });
    assert!(client.is_closed());
    assert!(matches!(
        client.call(&Quit {}, late()),
        Err(Error::Closed { .. })
    ));
    let shutdown = client
        .wait_event(0, &mut |event| event.name == "SHUTDOWN", late())
        .unwrap();
    assert!(shutdown.is_some(), "an event of the past is gone with QEMU");
}

#[test]
fn what_is_not_qmp_is_shown() {
    let greeting = "QEMU 7.2.22 monitor - type 'help' for more information";
    let (_qemu, stream) = FakeQemu::pair_with_greeting(greeting, echo).unwrap();
    let error = Client::from_stream(stream, late()).unwrap_err();
    assert!(error.to_string().contains("QEMU 7.2.22 monitor"), "{error}");

    let (_qemu, client) = fake(|_| Answer::Raw(b"{\"return\": oops}".to_vec()));
    let error = client.execute("stop", Value::Null, late()).unwrap_err();
    assert!(
        matches!(error, Error::Malformed { ref excerpt, .. } if excerpt == "{\"return\": oops}"),
        "{error}"
    );
    assert!(client.wait_closed(late()));
}

#[test]
fn qemu_that_greets_twice_is_no_different() {
    let twice = format!("{GREETING}\r\n{GREETING}");
    let (_qemu, stream) = FakeQemu::pair_with_greeting(&twice, echo).unwrap();
    let client = Client::from_stream(stream, late()).unwrap();
    assert_eq!(echoed(&client, &json!(1)), json!(1));
}

#[test]
fn opening_that_reached_its_deadline_can_be_resumed() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut opening = Client::begin(theirs).unwrap();
    assert!(opening.wait(soon()).unwrap().is_none());
    ours.write_all(GREETING.as_bytes()).unwrap();
    assert!(opening.wait(soon()).unwrap().is_none());
    let id = command_id(&mut ours);
    ours.write_all(json!({"return": {}, "id": id}).to_string().as_bytes())
        .unwrap();
    let client = opening.wait(late()).unwrap().unwrap();
    assert!(matches!(opening.wait(late()), Err(Error::Answered { .. })));
    drop(opening);
    assert!(!client.is_closed());
    drop(ours);
    assert!(client.wait_closed(late()));
}

/// Reads one command, and gives its number.
fn command_id(stream: &mut UnixStream) -> Value {
    let mut command = [0; 512];
    let count = stream.read(&mut command).unwrap();
    serde_json::from_slice::<Value>(&command[..count]).unwrap()["id"].take()
}

#[test]
fn large_answer_is_read_whole() {
    let text = "x\"\\{".repeat(8 << 20);
    let answer = json!({ "text": text });
    let (_qemu, client) = fake(move |_| answer.clone().into());
    let answer = client.execute("large", Value::Null, late()).unwrap();
    assert!(
        answer["text"] == text.as_str(),
        "the answer is not what was sent"
    );
}

#[test]
fn large_command_is_written_whole() {
    let (_qemu, client) = fake(echo);
    let arguments = json!({ "text": "x\"\\{".repeat(4 << 20) });
    assert!(
        echoed(&client, &arguments) == arguments,
        "the command is not what was sent"
    );
}

#[test]
fn last_clone_closes_the_session() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let connecting = thread::spawn(move || Client::from_stream(theirs, late()).unwrap());
    ours.write_all(hotbed_qmp::fake::GREETING.as_bytes())
        .unwrap();
    let id = command_id(&mut ours);
    ours.write_all(json!({"return": {}, "id": id}).to_string().as_bytes())
        .unwrap();
    let client = connecting.join().unwrap();
    let clone = client.clone();
    let pending = client.submit("hold", Value::Null, &[]).unwrap();
    drop((client, clone));
    let mut command = [0; 512];
    assert!(ours.read(&mut command).unwrap() > 0);
    drop(pending);
    assert_eq!(
        ours.read(&mut command).unwrap(),
        0,
        "the session is open with nobody holding it"
    );
}
