//! A socket pair, with the test at the other end; and a real bus where there is one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::wire::Kind;
use super::super::wire::fake::{Item, encode};
use super::*;

fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Connection::new(ours.into()), theirs)
}

fn hello() -> Call<'static> {
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        arguments: &[],
    }
}

fn signal(text: &str) -> Vec<u8> {
    encode(Kind::Signal, 0, ["/", "a.b", "C"], &[Item::text(text)])
}

#[test]
fn who_we_are_and_the_first_call_go_out_in_one_go() {
    let (mut connection, mut other) = pair();
    connection.call(&hello());
    connection.pump().unwrap();
    let mut bytes = [0; 4096];
    let len = other.read(&mut bytes).unwrap();
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    let greeting = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n");
    assert!(bytes.starts_with(greeting.as_bytes()));
    let call = Message::parse(&bytes[greeting.len()..len]).unwrap();
    assert_eq!((call.member.as_str(), call.serial), ("Hello", 1));
}

#[test]
fn messages_come_out_however_they_are_cut() {
    let (mut connection, mut other) = pair();
    let mut bytes = b"OK 1234\r\n".to_vec();
    bytes.extend(signal("one"));
    bytes.extend(signal("two"));
    let mut got = Vec::new();
    for byte in bytes {
        other.write_all(&[byte]).unwrap();
        connection.pump().unwrap();
        while let Some(message) = connection.next().unwrap() {
            got.push(message.arguments().text().unwrap().to_owned());
        }
    }
    assert_eq!(got, ["one", "two"]);
}

#[test]
fn what_came_before_the_end_is_read_before_the_end_is_told() {
    let (mut connection, mut other) = pair();
    other.write_all(b"OK 1234\r\n").unwrap();
    other.write_all(&signal("last")).unwrap();
    drop(other);
    connection.pump().unwrap();
    assert!(connection.next().unwrap().is_some());
    assert_eq!(connection.next(), Err(Lost::Closed));
}

#[test]
fn message_that_is_too_long_is_skipped_and_takes_no_memory() {
    let (mut connection, mut other) = pair();
    let writer = std::thread::spawn(move || {
        other.write_all(b"OK 1234\r\n").unwrap();
        other.write_all(&signal("before")).unwrap();
        for _ in 0..2 {
            other
                .write_all(&signal(&"x".repeat(3 * MESSAGE_MAX)))
                .unwrap();
        }
        other.write_all(&signal("after")).unwrap();
        other
    });
    let mut got = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while got.len() < 2 && Instant::now() < end {
        connection.pump().unwrap();
        while let Some(message) = connection.next().unwrap() {
            got.push(message.arguments().text().unwrap().to_owned());
        }
        assert!(connection.input.capacity() <= 2 * MESSAGE_MAX + 2 * READ_LEN);
    }
    assert_eq!(got, ["before", "after"]);
    drop(writer.join());
}

#[test]
fn refusal_says_what_was_said() {
    let (mut connection, mut other) = pair();
    other.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    assert_eq!(
        connection.pump(),
        Err(Lost::Refused("REJECTED EXTERNAL".to_owned()))
    );
}

#[test]
fn what_is_no_bus_is_found_out() {
    for garbage in [
        vec![b'x'; GREETING_MAX + 1],
        b"OK\r\nHTTP/1.1 400 Bad Request".to_vec(),
    ] {
        let (mut connection, mut other) = pair();
        other.write_all(&garbage).unwrap();
        let lost = connection.pump().and_then(|()| connection.next());
        assert_eq!(lost, Err(Lost::Garbled));
    }
}

#[test]
fn calls_that_nobody_reads_have_a_bound() {
    let (mut connection, _other) = pair();
    for _ in 0..100_000 {
        connection.call(&hello());
        connection.flush();
    }
    assert!(connection.out.len() <= OUT_MAX + 1000);
    connection.pump().unwrap();
    assert_eq!(connection.next(), Err(Lost::Closed));
}

/// Ends with the test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn real_bus_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let started = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address=1"])
        .arg(format!("--address=unix:path={}", path.display()))
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: there is no dbus-daemon");
        return;
    };
    let mut said = [0; 1];
    let read = child.stdout.take().unwrap().read(&mut said);
    let _daemon = Daemon(child);
    assert_eq!(read.unwrap(), 1, "it listens once it has said where");
    let mut connection = Connection::open(&path).unwrap();
    let hello = connection.call(&hello());
    let rule = connection.call(&Call {
        member: "AddMatch",
        arguments: &["type='signal',sender='org.freedesktop.systemd1'"],
        ..self::hello()
    });
    let nobody = connection.call(&Call {
        destination: "org.freedesktop.systemd1",
        ..self::hello()
    });
    let mut answers = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while answers.len() < 3 && Instant::now() < end {
        connection.pump().unwrap();
        while let Some(message) = connection.next().unwrap() {
            if message.kind != Kind::Signal {
                answers.push((message.reply_to, message.kind, message.error));
            }
        }
    }
    assert_eq!(answers[0], (hello, Kind::Return, String::new()));
    assert_eq!(answers[1], (rule, Kind::Return, String::new()));
    assert_eq!((answers[2].0, answers[2].1), (nobody, Kind::Error));
}
