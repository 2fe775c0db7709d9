//! Real sockets on the loopback interface.

use std::net::TcpListener;

use super::super::testing::{LONG, found, is_quiet, run};
use super::*;

const SHORT: Duration = Duration::from_millis(100);

fn watch(address: &str, port: u16, is_wanted_open: bool) -> PortWatch {
    PortWatch::new(address, port, is_wanted_open, Instant::now()).expect("a host")
}

/// A port that nobody listens on, and nobody else will get.
fn free_port() -> (OwnedFd, u16) {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&socket, &any).unwrap();
    let own: SocketAddr = rustix::net::getsockname(&socket)
        .unwrap()
        .try_into()
        .unwrap();
    (socket, own.port())
}

#[test]
fn open_port_is_found_at_once() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (result, looks) = run(&mut watch("localhost", port, true), LONG);
    assert_eq!(result.unwrap(), Some(format!("127.0.0.1:{port}")));
    assert!(looks <= 2);
}

#[test]
fn port_is_found_within_20_ms_of_its_opening() {
    let (socket, port) = free_port();
    let mut waiting = watch("127.0.0.1", port, true);
    assert!(is_quiet(&mut waiting, Duration::from_millis(300)));
    rustix::net::listen(&socket, 8).unwrap();
    let begin = Instant::now();
    assert!(found(&mut waiting, LONG).is_some());
    // The machine that runs the tests may be busy: a bound that catches a wait that is late by design.
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    assert!(LOCAL_PAUSE[1] < Duration::from_millis(20));
}

#[test]
fn port_of_the_other_family_is_found_by_the_name() {
    let Ok(server) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: no IPv6");
        return;
    };
    let port = server.local_addr().unwrap().port();
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&table, "127.0.0.1 server\n::1 server\n").unwrap();
    let mut waiting = watch("server", port, true);
    waiting.resolver.hosts = table.path().to_owned();
    assert_eq!(found(&mut waiting, LONG), Some(format!("[::1]:{port}")));
}

#[test]
fn closed_port_is_found_at_once_and_an_open_one_when_it_closes() {
    let (_socket, port) = free_port();
    assert!(found(&mut watch("127.0.0.1", port, false), LONG).is_some());

    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut waiting = watch("127.0.0.1", port, false);
    assert!(is_quiet(&mut waiting, SHORT));
    drop(server);
    assert!(found(&mut waiting, LONG).is_some());
}

#[test]
fn server_that_takes_no_more_connections_does_not_hide_a_later_one() {
    let (socket, port) = free_port();
    rustix::net::listen(&socket, 0).unwrap();
    // Connections until the queue is full, after which packets are dropped.
    let target: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let full: Vec<Attempt> = (0..8)
        .filter_map(|_| Attempt::begin(target, Instant::now()).unwrap())
        .collect();
    assert!(full.iter().any(|attempt| attempt.state() == State::Unknown));
    let mut waiting = watch("127.0.0.1", port, true);
    assert!(is_quiet(&mut waiting, SHORT));
    assert!(!waiting.attempts.is_empty());
    drop(full);
    // Whoever was in the queue is taken out of it.
    let begin = Instant::now();
    while begin.elapsed() < SHORT {
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        let ready = rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap();
        if ready == 0 {
            break;
        }
        drop(rustix::net::accept(&socket).unwrap());
    }
    // The next attempt is answered, and nobody waits for the first one's packet to be sent again.
    let next = begin + SILENT_PAUSE[1];
    assert!(waiting.poll(next).unwrap().is_some());
}

#[test]
fn attempt_that_nobody_answers_counts_as_closed_in_the_end() {
    let (socket, port) = free_port();
    rustix::net::listen(&socket, 0).unwrap();
    let target: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let full: Vec<Attempt> = (0..8)
        .filter_map(|_| Attempt::begin(target, Instant::now()).unwrap())
        .collect();
    let begin = Instant::now();
    let mut waiting = PortWatch::new("127.0.0.1", port, false, begin).unwrap();
    assert_eq!(waiting.look(begin).unwrap(), State::Unknown);
    assert_eq!(waiting.look(begin + SHORT).unwrap(), State::Unknown);
    assert_eq!(waiting.attempts.len(), 1, "it has the time to fail");
    assert_eq!(waiting.look(begin + ATTEMPT_MAX).unwrap(), State::Closed);
    drop(full);
}

#[test]
fn connection_with_itself_is_no_open_port() {
    let (socket, port) = free_port();
    let target: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    rustix::net::connect(&socket, &target).unwrap();
    let attempt = Attempt {
        socket,
        target,
        until: Instant::now(),
    };
    assert_eq!(attempt.state(), State::Closed);
}

#[test]
fn name_that_nobody_knows_is_closed_and_waited_for_to_open() {
    let mut closed = watch("no-such-host.invalid", 80, false);
    assert!(found(&mut closed, LONG).is_some());
    let mut open = watch("no-such-host.invalid", 80, true);
    assert!(is_quiet(&mut open, SHORT));
}

#[test]
fn attempts_have_a_bound() {
    let (socket, port) = free_port();
    rustix::net::listen(&socket, 0).unwrap();
    let mut now = Instant::now();
    let mut waiting = PortWatch::new("127.0.0.1", port, true, now).unwrap();
    let target: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let mut full = Vec::new();
    for _ in 0..8 {
        full.extend(Attempt::begin(target, now).unwrap());
    }
    for _ in 0..200 {
        now += Duration::from_millis(1);
        waiting.next = None;
        assert_eq!(waiting.look(now).unwrap(), State::Unknown);
    }
    assert_eq!(waiting.attempts.len(), ATTEMPTS_MAX);
}
