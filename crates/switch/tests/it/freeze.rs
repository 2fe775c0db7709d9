//! A switch at one instant: what it holds is there again, for others with the same names.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use hotbed_switch::{Frozen, Impairment, PortInfo, Way};

use crate::stream::{recv, send};
use crate::support::{A, ALL, B, Lan, SOON, eventually, frame};

fn connect(lan: &Lan, name: &str) -> UnixStream {
    let stream = UnixStream::connect(lan.path(name)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn lan() -> Lan {
    let lan = Lan::start();
    for name in ["a", "b"] {
        lan.switch.listen_stream(&lan.path(name)).unwrap();
    }
    lan
}

fn port<'p>(ports: &'p [PortInfo], name: &str) -> &'p PortInfo {
    ports.iter().find(|port| port.name == name).unwrap()
}

#[test]
fn frames_that_were_sent_before_arrive_after_and_again_elsewhere() {
    let lan = lan();
    let (mut a, mut b) = (connect(&lan, "a"), connect(&lan, "b"));
    lan.await_ports(2);
    lan.switch.pause().unwrap();
    send(&mut a, &frame(ALL, A, b"one"));
    send(&mut a, &frame(ALL, A, b"two"));
    let frozen = lan.switch.freeze().unwrap();
    assert_eq!(frozen.frames(), 2);
    lan.switch.resume().unwrap();
    assert_eq!(recv(&mut b), frame(ALL, A, b"one"));
    assert_eq!(recv(&mut b), frame(ALL, A, b"two"));
    send(&mut b, &frame(ALL, B, b"later"));
    assert_eq!(recv(&mut a), frame(ALL, B, b"later"));
    for _ in 0..2 {
        lan.switch.pause().unwrap();
        lan.switch.reset().unwrap();
        assert!(lan.switch.ports().is_empty() && lan.switch.stations().is_empty());
        (a, b) = (connect(&lan, "a"), connect(&lan, "b"));
        assert_eq!(lan.switch.thaw(&frozen).unwrap(), 0);
        lan.switch.resume().unwrap();
        assert_eq!(recv(&mut b), frame(ALL, A, b"one"));
        assert_eq!(recv(&mut b), frame(ALL, A, b"two"));
        let stations = lan.switch.stations();
        let ports = lan.switch.ports();
        assert_eq!(stations.len(), 1, "{stations:?}");
        assert_eq!(stations[0].port, port(&ports, "a").id);
        send(&mut b, &frame(A, B, b"back"));
        assert_eq!(recv(&mut a), frame(A, B, b"back"));
    }
}

#[test]
fn delayed_frames_have_as_far_to_go_as_they_had_and_rules_hold() {
    let lan = lan();
    let (mut a, b) = (connect(&lan, "a"), connect(&lan, "b"));
    lan.await_ports(2);
    let far = Impairment {
        delay: Duration::from_secs(1),
        ..Impairment::default()
    };
    let way = Way::between("a", "b");
    lan.switch.impair(&way, &far).unwrap();
    lan.switch.pause().unwrap();
    send(&mut a, &frame(ALL, A, b"far"));
    let frozen = lan.switch.freeze().unwrap();
    assert_eq!(frozen.frames(), 1);
    lan.switch.reset().unwrap();
    lan.switch.unimpair_all().unwrap();
    drop((a, b));
    let (_a, mut b) = (connect(&lan, "a"), connect(&lan, "b"));
    assert_eq!(lan.switch.thaw(&frozen).unwrap(), 0);
    let links = lan.switch.links();
    assert_eq!(links[0].counters.waiting, 1, "{links:?}");
    lan.switch.resume().unwrap();
    assert_eq!(recv(&mut b), frame(ALL, A, b"far"));
    eventually("that nothing waits", || {
        lan.switch.links()[0].counters.waiting == 0
    });
}

#[test]
fn another_switch_goes_on_from_the_bytes_of_a_state() {
    let first = lan();
    let (mut a, _b) = (connect(&first, "a"), connect(&first, "b"));
    first.await_ports(2);
    let far = Impairment {
        delay: Duration::from_secs(1),
        ..Impairment::default()
    };
    first.switch.impair(&Way::between("a", "b"), &far).unwrap();
    first.switch.pause().unwrap();
    send(&mut a, &frame(ALL, A, b"one"));
    send(&mut a, &frame(ALL, A, b"two"));
    let bytes = first.switch.freeze().unwrap().to_bytes().unwrap();
    drop(first);
    let second = lan();
    second.switch.pause().unwrap();
    let (_a, mut b) = (connect(&second, "a"), connect(&second, "b"));
    let frozen = Frozen::from_bytes(&bytes).unwrap();
    assert_eq!(second.switch.thaw(&frozen).unwrap(), 0);
    let counters = second.switch.links()[0].counters;
    assert_eq!((counters.frames, counters.waiting), (2, 2));
    assert_eq!(second.switch.stations().len(), 1);
    second.switch.resume().unwrap();
    assert_eq!(recv(&mut b), frame(ALL, A, b"one"));
    assert_eq!(recv(&mut b), frame(ALL, A, b"two"));
    eventually("that nothing waits", || {
        second.switch.links()[0].counters.waiting == 0
    });
}

#[test]
fn frames_for_ports_that_are_gone_are_counted() {
    let lan = lan();
    let (mut a, _b) = (connect(&lan, "a"), connect(&lan, "b"));
    lan.await_ports(2);
    lan.switch.pause().unwrap();
    send(&mut a, &frame(ALL, A, b"one"));
    let frozen = lan.switch.freeze().unwrap();
    lan.switch.reset().unwrap();
    assert_eq!(lan.switch.thaw(&frozen).unwrap(), 1);
    lan.switch.resume().unwrap();
}

#[cfg(feature = "vhost-user")]
#[test]
fn guests_that_share_their_memory_come_and_go_meanwhile_and_lose_nothing() {
    use crate::guest::{Guest, Options, PLAIN};

    let lan = Lan::start();
    let paths = ["a", "b"].map(|name| lan.path(name));
    for path in &paths {
        lan.switch.listen_vhost_user(path).unwrap();
    }
    let without_buffers = Options {
        posted: 0,
        ..Options::default()
    };
    let start = || {
        let a = Guest::connect(&paths[0], Options::default());
        (a, Guest::connect(&paths[1], without_buffers))
    };
    let (mut a, _b) = start();
    lan.await_ports(2);
    a.send(&frame(ALL, A, b"waits for b"));
    eventually("that it waits", || {
        port(&lan.switch.ports(), "b").queued == 1
    });
    lan.switch.pause().unwrap();
    a.send(&frame(ALL, A, b"is still a's"));
    let frozen = lan.switch.freeze().unwrap();
    assert_eq!(frozen.frames(), 1);
    assert_eq!(lan.counters("a").frames_in, 1);
    a.stop(); // It is answered, or this never ends.
    for _ in 0..2 {
        lan.switch.reset().unwrap();
        assert!(lan.switch.ports().is_empty());
        let (mut a, mut b) = start();
        assert_eq!(lan.switch.thaw(&frozen).unwrap(), 0);
        a.send_with(&PLAIN, &frame(ALL, A, b"comes later"));
        b.post_more(0..8);
        assert!(b.poll().is_none(), "the switch stands still");
        lan.switch.resume().unwrap();
        assert_eq!(b.recv(), frame(ALL, A, b"waits for b"));
        assert_eq!(b.recv(), frame(ALL, A, b"comes later"));
        lan.switch.pause().unwrap();
    }
}
