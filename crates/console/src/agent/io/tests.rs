//! The client, over a socket pair: the agent's side is written by hand. The agent's crate has the tests with the real one.

use super::*;
use crate::agent::wire::{Event, VERSION, encode_frame, encode_preamble};
use std::io::{Read as _, Write as _};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Reads a greeting and gives its session's number.
fn read_greeting(guest: &mut UnixStream) -> u64 {
    let mut bytes = vec![0; 24];
    guest.read_exact(&mut bytes).unwrap();
    let mut frame = [0; 14];
    guest.read_exact(&mut frame).unwrap();
    u64::from_le_bytes(bytes[16..].try_into().unwrap())
}

fn answer(guest: &mut UnixStream, number: u64) {
    let mut bytes = Vec::new();
    encode_preamble(number, &mut bytes);
    let hello = Event::Hello {
        version: VERSION,
        capabilities: Vec::new(),
        boot_id: String::new(),
    };
    encode_frame(&hello, b"", &mut bytes).unwrap();
    guest.write_all(&bytes).unwrap();
}

fn greeted() -> (Agent, UnixStream) {
    let (host, mut guest) = UnixStream::pair().unwrap();
    guest
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let agent = Agent::new(host).unwrap();
    let number = read_greeting(&mut guest);
    answer(&mut guest, number);
    agent.poll_ready(soon()).unwrap().unwrap();
    (agent, guest)
}

#[test]
fn the_greeting_is_repeated_until_it_is_answered() {
    let (host, mut guest) = UnixStream::pair().unwrap();
    guest
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let agent = Agent::new(host).unwrap();
    let first = read_greeting(&mut guest);
    let at_once = agent.poll_ready(Instant::now()).unwrap();
    assert_eq!((at_once, agent.is_ready()), (None, false));
    assert_eq!(read_greeting(&mut guest), first);
    answer(&mut guest, first);
    agent.poll_ready(soon()).unwrap().unwrap();
    assert!(agent.is_ready());
}

#[test]
fn a_wait_ends_at_its_moment_and_can_go_on() {
    let (agent, mut guest) = greeted();
    let waiting = Waiting(agent.begin(false, &[], |id| Request::Ping { id }).unwrap());
    let begun = Instant::now();
    let until = begun + Duration::from_millis(50);
    assert_eq!(waiting.poll(until).unwrap(), None);
    assert!((50..1000).contains(&begun.elapsed().as_millis()));
    let mut bytes = Vec::new();
    let found = "found".to_owned();
    encode_frame(&Event::Done { id: 1, found }, b"", &mut bytes).unwrap();
    guest.write_all(&bytes).unwrap();
    assert_eq!(waiting.poll(soon()).unwrap().as_deref(), Some("found"));
}

#[test]
fn a_guest_that_is_gone_is_told_to_everybody() {
    let (agent, guest) = greeted();
    let waiting = Waiting(agent.begin(false, &[], |id| Request::Ping { id }).unwrap());
    let other = agent.clone();
    let thread = std::thread::spawn(move || waiting.poll(soon()));
    drop(guest);
    assert!(matches!(thread.join().unwrap(), Err(Error::Closed)));
    assert!(matches!(other.poll_ready(soon()), Err(Error::Closed)));
    assert!(matches!(other.ping(soon()), Err(Error::Closed)));
}

#[test]
fn a_guest_that_sends_garbage_is_an_error() {
    let (agent, mut guest) = greeted();
    let waiting = Waiting(agent.begin(false, &[], |id| Request::Ping { id }).unwrap());
    guest.write_all(b"login: ").unwrap();
    let error = waiting.poll(soon()).unwrap_err().to_string();
    assert!(error.contains("login"), "{error}");
}

#[test]
fn a_guest_that_does_not_read_blocks_nobody() {
    let (agent, _guest) = greeted();
    let payload = vec![0; 200_000];
    let begun = Instant::now();
    let error = (0..1000)
        .find_map(|_| {
            agent
                .begin(false, &payload, |id| Request::Ping { id })
                .err()
        })
        .unwrap();
    assert!(matches!(error, Error::Backlog(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_stream_is_closed_with_the_last_handle() {
    let (agent, mut guest) = greeted();
    let waiting = Waiting(agent.begin(false, &[], |id| Request::Ping { id }).unwrap());
    drop(agent);
    drop(waiting);
    let mut rest = Vec::new();
    guest.read_to_end(&mut rest).unwrap();
    // The ping, and what cancels it.
    assert!(!rest.is_empty());
}
