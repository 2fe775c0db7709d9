//! Ports that speak `-netdev stream`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hotbed_switch::wire::FRAME_MAX;
use hotbed_switch::{Config, PortKind};

use crate::support::{A, ALL, B, Lan, SOON, eventually, frame};

pub(crate) fn connect(lan: &Lan, name: &str) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    lan.switch.add_stream(ours, name).unwrap();
    theirs.set_read_timeout(Some(SOON)).unwrap();
    theirs.set_write_timeout(Some(SOON)).unwrap();
    theirs
}

pub(crate) fn send(stream: &mut UnixStream, frame: &[u8]) {
    stream
        .write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(frame).unwrap();
}

pub(crate) fn recv(stream: &mut UnixStream) -> Vec<u8> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).expect("a frame, soon");
    let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

#[test]
fn frames_go_from_stream_to_stream_and_to_vde() {
    let lan = Lan::start();
    let (mut a, mut b, c) = (connect(&lan, "a"), connect(&lan, "b"), lan.client("c"));
    send(&mut a, &frame(ALL, A, b"hello"));
    assert_eq!(recv(&mut b), frame(ALL, A, b"hello"));
    assert_eq!(c.recv(), frame(ALL, A, b"hello"));
    c.send(&frame(A, B, b"back"));
    assert_eq!(recv(&mut a), frame(A, B, b"back"));
    let large = frame(ALL, A, &vec![7; 64 * 1024]);
    send(&mut a, &large);
    assert_eq!(recv(&mut b), large);
    assert_eq!(c.recv(), large);
}

#[test]
fn each_connection_to_the_listener_is_a_port_named_after_it() {
    let lan = Lan::start();
    lan.switch.listen_stream(&lan.path("server.sock")).unwrap();
    let mut a = UnixStream::connect(lan.path("server.sock")).unwrap();
    let mut b = UnixStream::connect(lan.path("server.sock")).unwrap();
    lan.await_ports(2);
    send(&mut a, &frame(ALL, A, b"x"));
    assert_eq!(recv(&mut b), frame(ALL, A, b"x"));
    let ports = lan.switch.ports();
    assert!(
        ports
            .iter()
            .all(|port| port.name == "server" && port.kind == PortKind::Stream)
    );
    drop(a);
    lan.await_ports(1);
}

#[test]
fn a_slow_stream_loses_whole_frames_only() {
    let lan = Lan::with(Config {
        queue_bytes_max: 100_000,
        ..Config::default()
    });
    let (a, b, mut slow) = (lan.client("a"), lan.client("b"), connect(&lan, "slow"));
    // Of odd lengths, so that the socket ends within a frame.
    let numbered = |number: u32| {
        let mut frame = frame(ALL, A, &number.to_be_bytes());
        frame.resize(61 + number as usize % 1439, 0x33);
        frame
    };
    for number in 0..5000 {
        a.send(&numbered(number));
        assert_eq!(b.recv(), numbered(number), "the quick port gets all");
    }
    let counters = lan.counters("slow");
    assert!(counters.drops.queue_full > 0);
    let kept = 5000 - counters.drops.queue_full as usize;
    let mut last = None;
    for turn in 0..kept {
        let frame = recv(&mut slow);
        let number = u32::from_be_bytes(frame[14..18].try_into().unwrap());
        assert_eq!(frame, numbered(number));
        assert!(last < Some(number), "in order");
        last = Some(number);
        if turn < 50 {
            a.send(&numbered(number)); // Room for a frame does not let it overtake, or get in between.
            b.recv();
        }
    }
    let counters = lan.counters("slow");
    let late = 5050 - counters.drops.queue_full as usize - kept;
    for _ in 0..late {
        recv(&mut slow);
    }
    let kept = kept + late;
    eventually("all to be counted", || {
        lan.counters("slow").frames_out == kept as u64
    });
    a.send(&numbered(5000));
    assert_eq!(recv(&mut slow), numbered(5000));
}

#[test]
fn a_stream_that_loses_step_is_closed_and_short_frames_are_dropped() {
    let lan = Lan::start();
    let (mut a, b) = (connect(&lan, "a"), lan.client("b"));
    send(&mut a, &[]);
    send(&mut a, &[1; 13]);
    send(&mut a, &frame(ALL, A, b"good"));
    assert_eq!(b.recv(), frame(ALL, A, b"good"));
    assert_eq!(lan.counters("a").drops.runt, 1);
    a.write_all(&u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes())
        .unwrap();
    assert_eq!(a.read(&mut [0; 1]).unwrap(), 0, "hung up");
    lan.await_ports(1);
}

#[test]
fn frames_that_a_slow_stream_takes_in_pieces_arrive_whole() {
    let lan = Lan::start();
    let (a, b, mut slow) = (lan.client("a"), lan.client("b"), connect(&lan, "slow"));
    let large = |number: u8| {
        let pattern: Vec<u8> = (0..60_001_u32)
            .map(|at| (at % 251) as u8 ^ number)
            .collect();
        frame(ALL, A, &pattern)
    };
    for number in 0..10 {
        a.send(&large(number));
        assert_eq!(b.recv(), large(number), "the quick port gets all");
    }
    for number in 0..10 {
        assert!(
            recv(&mut slow) == large(number),
            "frame {number} is not what was sent"
        );
    }
}
