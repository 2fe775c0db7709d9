//! Ports that speak `-netdev dgram`.

use std::os::unix::net::UnixDatagram;

use hotbed_switch::{Config, PortKind};

use crate::support::{A, ALL, B, Lan, bound_datagram, eventually, frame, recv_datagram};

/// A peer as QEMU is one: bound, not connected.
pub(crate) fn peer(lan: &Lan, name: &str) -> UnixDatagram {
    let path = lan.path(&format!("{name}.remote"));
    let _ = std::fs::remove_file(&path);
    bound_datagram(&path)
}

pub(crate) fn add(lan: &Lan, name: &str) {
    let (local, remote) = (format!("{name}.local"), format!("{name}.remote"));
    lan.switch
        .add_dgram(&lan.path(&local), &lan.path(&remote), name)
        .unwrap();
}

pub(crate) fn send(lan: &Lan, peer: &UnixDatagram, name: &str, frame: &[u8]) {
    peer.send_to(frame, lan.path(&format!("{name}.local")))
        .unwrap();
}

#[test]
fn frames_go_from_datagram_to_datagram_and_to_vde() {
    let lan = Lan::start();
    let (a, b, c) = (peer(&lan, "a"), peer(&lan, "b"), lan.client("c"));
    add(&lan, "a");
    add(&lan, "b");
    send(&lan, &a, "a", &frame(ALL, A, b"hello"));
    assert_eq!(recv_datagram(&b), frame(ALL, A, b"hello"));
    assert_eq!(c.recv(), frame(ALL, A, b"hello"));
    c.send(&frame(A, B, b"back"));
    assert_eq!(recv_datagram(&a), frame(A, B, b"back"));
    assert!(
        lan.switch
            .ports()
            .iter()
            .filter(|port| port.kind == PortKind::Dgram)
            .count()
            == 2
    );
}

#[test]
fn a_peer_may_come_late_and_come_again() {
    let lan = Lan::start();
    let c = lan.client("c");
    add(&lan, "late");
    c.send(&frame(ALL, B, b"to nobody"));
    eventually("the drop", || lan.counters("late").drops.no_peer == 1);
    for life in 0..3_u8 {
        let late = peer(&lan, "late");
        // It is found by the first frame for it, or a moment later; it need not say anything.
        late.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        eventually("the peer to be found", || {
            c.send(&frame(ALL, B, &[life]));
            // A frame for the life before may still have been on its way.
            late.recv(&mut buffer).is_ok() && buffer[14] == life
        });
        send(&lan, &late, "late", &frame(ALL, A, &[life]));
        assert_eq!(c.recv(), frame(ALL, A, &[life]));
    }
}

#[test]
fn a_new_peer_that_speaks_first_is_heard() {
    let lan = Lan::start();
    let (c, first) = (lan.client("c"), peer(&lan, "p"));
    add(&lan, "p");
    c.send(&frame(ALL, B, b"connects it"));
    recv_datagram(&first);
    drop(first);
    let second = peer(&lan, "p");
    c.data.set_nonblocking(true).unwrap();
    let mut buffer = [0; 100];
    eventually("the switch to look again", || {
        // Refused until then. A frame that comes while the switch's socket is being connected anew is lost: Linux
        // empties it a moment after the new peer may send.
        let _ = second.send_to(&frame(ALL, A, b"second"), lan.path("p.local"));
        c.data.recv(&mut buffer).is_ok()
    });
    assert_eq!(buffer[..60], frame(ALL, A, b"second"));
}

#[test]
fn a_slow_peer_gets_what_was_queued() {
    let lan = Lan::with(Config {
        queue_frames_max: 100,
        ..Config::default()
    });
    let (a, b, slow) = (lan.client("a"), lan.client("b"), peer(&lan, "slow"));
    add(&lan, "slow");
    for number in 0..2000_u32 {
        a.send(&frame(ALL, A, &number.to_be_bytes()));
        assert_eq!(
            b.recv(),
            frame(ALL, A, &number.to_be_bytes()),
            "the quick port gets all"
        );
    }
    let full = lan.counters("slow");
    assert!(full.drops.queue_full > 0);
    assert_eq!(full.frames_out + 100 + full.drops.queue_full, 2000);
    for number in 0..(full.frames_out + 100) as u32 {
        assert_eq!(recv_datagram(&slow), frame(ALL, A, &number.to_be_bytes()));
    }
}
