//! Hosts that vanish, come back, and send what makes no sense.

use crate::support::{Guest, PATIENCE, run, script, soon};
use hotbed_console::agent::wire::{
    Decoder, Event, Item, MAGIC, PREAMBLE, Request, VERSION, encode_frame, encode_preamble,
};
use hotbed_console::agent::{Agent, Error};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Bytes as a host of this session sends them.
fn session(number: u64, requests: &[Request]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_preamble(number, &mut bytes);
    for request in requests {
        encode_frame(request, &[], &mut bytes).unwrap();
    }
    bytes
}

/// Reads until an answer to this session's hello has come.
fn await_hello(stream: &mut UnixStream, number: u64) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut decoder = Decoder::new();
    let mut current = 0;
    loop {
        let len = stream.read(decoder.space()).unwrap();
        assert!(len > 0, "the agent closed the port");
        decoder.handle_read(len);
        while let Some(item) = decoder.poll::<Event>().unwrap() {
            match item {
                Item::Preamble { session } => current = session,
                Item::Message {
                    message: Event::Hello { .. },
                    ..
                } if current == number => return,
                Item::Message { .. } => {}
            }
        }
    }
}

const HELLO: Request = Request::Hello { version: VERSION };

#[test]
fn garbage_and_half_messages_do_not_end_the_agent() {
    let guest = Guest::start(&[]);
    let (mut stream, _) = guest.listener.accept().unwrap();
    stream
        .write_all(b"garbage before \0\x01hotbed-agen")
        .unwrap();
    stream.write_all(&session(1, &[HELLO])).unwrap();
    await_hello(&mut stream, 1);
    stream.write_all(b"garbage within").unwrap();
    stream.write_all(&session(2, &[HELLO])).unwrap();
    await_hello(&mut stream, 2);
    let mut huge = MAGIC.to_vec();
    huge.extend_from_slice(&[0xff; 8]);
    stream.write_all(&huge).unwrap();
    stream.write_all(&session(3, &[HELLO])).unwrap();
    await_hello(&mut stream, 3);
    // A host that vanished in the middle of a frame, and came back unnoticed.
    let mut half = MAGIC.to_vec();
    half.extend_from_slice(&[5, 0, 0, 0, 0, 0, 3, 0]);
    stream.write_all(&half).unwrap();
    stream.write_all(&session(4, &[HELLO])).unwrap();
    await_hello(&mut stream, 4);
    drop(stream);
    let agent = guest.connect();
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn a_new_session_on_the_same_stream_ends_the_old_one() {
    let guest = Guest::start(&[]);
    let (mut stream, _) = guest.listener.accept().unwrap();
    stream.write_all(&session(1, &[HELLO])).unwrap();
    await_hello(&mut stream, 1);
    // The same greeting again is no other session.
    stream.write_all(&session(1, &[HELLO])).unwrap();
    await_hello(&mut stream, 1);
    let agent = Agent::new(stream).unwrap();
    agent.poll_ready(soon()).unwrap().unwrap();
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn another_version_is_told_and_not_served() {
    let guest = Guest::start(&[]);
    let (mut stream, _) = guest.listener.accept().unwrap();
    let requests = [
        Request::Hello {
            version: VERSION + 1,
        },
        Request::Ping { id: 1 },
    ];
    stream.write_all(&session(1, &requests)).unwrap();
    await_hello(&mut stream, 1);
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(stream.read(&mut [0; 64]).is_err(), "a ping was answered");
}

#[test]
fn requests_about_nothing_are_no_matter() {
    let guest = Guest::start(&[]);
    let (mut stream, _) = guest.listener.accept().unwrap();
    let requests = [
        HELLO,
        Request::Cancel { id: 5 },
        Request::Credit {
            id: 5,
            bytes: u32::MAX,
        },
        Request::Input {
            id: 5,
            offset: u64::MAX,
            end: true,
        },
        Request::Signal {
            id: 5,
            signal: -1,
            tree: true,
        },
    ];
    stream.write_all(&session(1, &requests)).unwrap();
    await_hello(&mut stream, 1);
    drop(stream);
    let agent = guest.connect();
    agent.ping(soon()).unwrap().unwrap();
}

#[test]
fn a_host_that_goes_away_in_the_middle_of_much_output_can_come_back() {
    let guest = Guest::start(&[]);
    for _ in 0..3 {
        let agent = guest.connect();
        let running = agent.start(&script("yes"), b"yes").unwrap();
        running.poll_output(soon()).unwrap();
        drop(running);
    }
    let agent = guest.connect();
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn an_agent_that_begins_anew_is_noticed() {
    // As a guest that reboots: another agent on the same stream.
    let first = Guest::start(&[]);
    let second = Guest::start(&[]);
    let (host, proxy) = UnixStream::pair().unwrap();
    let agent = Agent::new(host).unwrap();
    let (switch, switched) = std::sync::mpsc::channel();
    let forward = |mut from: UnixStream, mut to: UnixStream| {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len) = from.read(&mut buffer)
                && len > 0
                && to.write_all(&buffer[..len]).is_ok()
            {}
        })
    };
    let join = |guest: &Guest| {
        let (stream, _) = guest.listener.accept().unwrap();
        forward(stream.try_clone().unwrap(), proxy.try_clone().unwrap());
        stream
    };
    let stream = join(&first);
    let target = std::sync::Arc::new(std::sync::Mutex::new(stream));
    let sink = std::sync::Arc::clone(&target);
    let mut source = proxy.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len) = source.read(&mut buffer)
            && len > 0
        {
            let _ = sink.lock().unwrap().write_all(&buffer[..len]);
        }
        let _ = switch.send(());
    });
    agent.poll_ready(soon()).unwrap().unwrap();
    let running = agent
        .start(&script("exec sleep 60"), b"exec sleep 60")
        .unwrap();
    running.pid(soon()).unwrap().unwrap();
    drop(first);
    *target.lock().unwrap() = join(&second);
    assert!(matches!(running.poll_output(soon()), Err(Error::Restarted)));
    agent.poll_ready(soon()).unwrap().unwrap();
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
    drop((running, agent));
    switched.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn the_preamble_is_no_text() {
    assert!(std::str::from_utf8(&PREAMBLE).is_err());
}
