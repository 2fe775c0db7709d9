//! Nothing waits past its deadline, whatever QEMU does.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use hotbed_qmp::Error;
use hotbed_qmp::blocking::Client;
use hotbed_qmp::fake::{Answer, FakeQemu, GREETING};
use serde_json::{Value, json};

use crate::support::{SLACK, echo, fake, late};

/// Runs a call with a deadline, and checks that it waits until then and no longer.
fn at_deadline<T>(call: impl FnOnce(Instant) -> T) -> T {
    let until = Instant::now() + Duration::from_millis(60);
    let result = call(until);
    let now = Instant::now();
    assert!(now >= until, "the call gave up {:?} early", until - now);
    assert!(
        now < until + SLACK,
        "the call returned {:?} late",
        now - until
    );
    result
}

#[test]
fn monitor_that_is_not_there_is_waited_for_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        at_deadline(|until| Client::connect(&folder.path().join("monitor"), until)).unwrap_err();
    assert!(
        matches!(error, Error::Connect { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    let error = at_deadline(|until| Client::connect(&folder.path().join("folder/monitor"), until))
        .unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
}

#[test]
fn socket_that_nobody_listens_at_is_waited_for_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    drop(UnixListener::bind(&path).unwrap());
    let error = at_deadline(|until| Client::connect(&path, until)).unwrap_err();
    assert!(
        matches!(error, Error::Connect { ref source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused)
    );
}

#[test]
fn greeting_is_waited_for_until_the_deadline() {
    let (_silent, stream) = UnixStream::pair().unwrap();
    let error = at_deadline(|until| Client::from_stream(stream, until)).unwrap_err();
    assert!(
        matches!(error, Error::Timeout { ref command } if command == "the greeting"),
        "{error}"
    );

    let (mut half, stream) = UnixStream::pair().unwrap();
    half.write_all(GREETING.as_bytes()).unwrap();
    let error = at_deadline(|until| Client::from_stream(stream, until)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn command_and_event_are_waited_for_until_the_deadline() {
    let (qemu, client) = fake(|_| Answer::Hold);
    let error = at_deadline(|until| client.execute("stop", Value::Null, until)).unwrap_err();
    assert_eq!(error.to_string(), "QEMU did not answer `stop` in time");
    qemu.event("RESET", &Value::Null);
    let event = at_deadline(|until| client.wait_event(0, &mut |event| event.name == "STOP", until))
        .unwrap();
    assert_eq!(event, None);
    assert!(!at_deadline(|until| client.wait_closed(until)));
}

#[test]
fn stream_of_events_does_not_keep_a_call_past_its_deadline() {
    let (qemu, client) = fake(|_| Answer::Hold);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !client.is_closed() {
                qemu.event("RTC_CHANGE", &json!({"offset": 1}))
            }
        });
        let mut next = client.cursor();
        let event = at_deadline(|until| {
            client.wait_event(
                next,
                &mut |event| {
                    next = event.sequence + 1;
                    false
                },
                until,
            )
        });
        // On a slow host a waiter may fall behind so far that events are lost to it: also an answer in time.
        assert!(matches!(event, Ok(None)), "{event:?}");
        at_deadline(|until| client.execute("stop", Value::Null, until)).unwrap_err();
        qemu.close();
        flood.join().unwrap();
    });
}

#[test]
fn qemu_that_does_not_read_holds_nobody_up_and_gets_all_later() {
    let (ours, stream) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let connecting = thread::spawn(move || Client::from_stream(stream, late()).unwrap());
    let mut reader = std::io::BufReader::new(ours.try_clone().unwrap());
    let mut read_command = || {
        let mut line = Vec::new();
        std::io::BufRead::read_until(&mut reader, b'\n', &mut line).unwrap();
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    (&ours).write_all(GREETING.as_bytes()).unwrap();
    let answer = |id: &Value| {
        (&ours)
            .write_all(json!({"return": {}, "id": id}).to_string().as_bytes())
            .unwrap()
    };
    answer(&read_command()["id"]);
    let client = connecting.join().unwrap();

    let large = json!({ "text": "x".repeat(8 << 20) });
    let error = at_deadline(|until| client.execute("large", large.clone(), until)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let mut small = client.submit("small", Value::Null, &[]).unwrap();
    assert!(at_deadline(|until| small.wait(until)).unwrap().is_none());

    let command = read_command();
    assert!(
        command["arguments"] == large,
        "the command is not what was sent"
    );
    answer(&command["id"]);
    let command = read_command();
    assert_eq!(command["execute"], "small");
    answer(&command["id"]);
    assert_eq!(small.wait(late()).unwrap(), Some(json!({})));
    drop((client, small));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn deadline_of_the_past_still_takes_what_is_there() {
    let (qemu, client) = fake(echo);
    qemu.event("STOP", &Value::Null);
    client
        .wait_event(0, &mut |_| true, late())
        .unwrap()
        .unwrap();
    let past = Instant::now();
    assert!(client.wait_event(0, &mut |_| true, past).unwrap().is_some());
    assert!(matches!(
        client.execute("hold", Value::Null, past),
        Err(Error::Timeout { .. })
    ));
}

#[test]
fn listener_that_accepts_nobody_is_a_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monitor");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = at_deadline(|until| Client::connect(&path, until)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    drop(FakeQemu::listen(&folder.path().join("other"), echo).unwrap());
}
