//! Guests that break the rules.

use vm_memory::GuestAddress;

use super::guest;
use crate::guest::{Guest, Options, PLAIN, RECEIVE, TRANSMIT};
use crate::support::{A, ALL, B, C, Lan, eventually, frame};

/// Has a guest do something wrong: its port goes, and says why, and others do not notice.
fn is_lost_for(reason: &str, options: Options, break_rules: impl FnOnce(&mut Guest)) {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    let mut bad = guest(&lan, "bad", options);
    bad.send(&frame(ALL, C, b"hello"));
    assert_eq!(a.recv(), frame(ALL, C, b"hello"));
    assert_eq!(b.recv(), frame(ALL, C, b"hello"));
    break_rules(&mut bad);
    a.send(&frame(C, A, b"for the bad one"));
    lan.await_ports(2);
    let lost = lan.switch.lost_ports();
    assert_eq!((lost.len(), &*lost[0].name), (1, "bad"));
    assert!(lost[0].reason.contains(reason), "{:?}", lost[0]);
    b.send(&frame(A, B, b"still here"));
    // The frame for the bad one may have gone to all, when it was gone already.
    assert_eq!(a.recv(), frame(A, B, b"still here"));
    a.send(&frame(B, A, b"so am I"));
    eventually("the frame", || {
        b.poll()
            .is_some_and(|(_, found)| found == frame(B, A, b"so am I"))
    });
    drop(bad);
}

fn send_described(guest: &mut Guest, address: GuestAddress, len: u32, flags: u16, next: u16) {
    guest.describe(TRANSMIT, 5, address, len, flags, next);
    guest.offer(TRANSMIT, 5);
    guest.kick(TRANSMIT);
}

#[test]
fn guest_whose_buffer_is_nowhere_is_lost() {
    is_lost_for("outside of its memory", Options::default(), |guest| {
        send_described(guest, GuestAddress(0x10), 100, 0, 0);
    });
}

#[test]
fn guest_whose_buffer_goes_over_the_end_is_lost() {
    is_lost_for("outside of its memory", Options::default(), |guest| {
        let near_end = GuestAddress(guest.end().0 - 50);
        send_described(guest, near_end, 100, 0, 0);
    });
}

#[test]
fn guest_whose_chain_goes_round_is_lost() {
    is_lost_for("does not end", Options::default(), |guest| {
        let at = guest.rings[TRANSMIT].buffer(5);
        send_described(guest, at, 100, 1, 5);
    });
}

#[test]
fn guest_that_sends_what_is_to_be_written_is_lost() {
    is_lost_for("in the wrong queue", Options::default(), |guest| {
        let at = guest.rings[TRANSMIT].buffer(5);
        send_described(guest, at, 100, 2, 0);
    });
}

#[test]
fn guest_that_offers_more_than_there_is_is_lost() {
    is_lost_for("queues", Options::default(), |guest| {
        let old = guest.available(TRANSMIT);
        guest.set_available(TRANSMIT, old.wrapping_add(1000));
        guest.kick(TRANSMIT);
    });
}

#[test]
fn guest_whose_checksum_is_nowhere_is_lost() {
    is_lost_for(
        "the checksum of a frame lies outside",
        Options::default(),
        |guest| {
            guest.send_with(&[1, 0, 0, 0, 0, 0, 59, 0, 0, 0, 0, 0], &frame(A, C, b""));
        },
    );
}

#[test]
fn guest_that_has_cut_what_is_no_segment_is_lost() {
    is_lost_for("no TCP segment", Options::default(), |guest| {
        let header = [1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0];
        guest.send_with(&header, &frame(ALL, C, &[0x45; 500]));
    });
}

#[test]
fn guest_whose_buffers_for_frames_are_nowhere_is_lost() {
    let options = Options {
        posted: 0,
        ..Options::default()
    };
    is_lost_for("outside of its memory", options, |guest| {
        guest.describe(RECEIVE, 0, GuestAddress(0x10), 2048, 2, 0);
        guest.offer(RECEIVE, 0);
    });
}

#[test]
fn guest_whose_buffers_for_frames_cannot_be_written_is_lost() {
    let options = Options {
        posted: 0,
        ..Options::default()
    };
    is_lost_for("in the wrong queue", options, |guest| {
        let at = guest.rings[RECEIVE].buffer(0);
        guest.describe(RECEIVE, 0, at, 2048, 0, 0);
        guest.offer(RECEIVE, 0);
    });
}

#[test]
fn front_end_that_talks_nonsense_is_lost() {
    let lan = Lan::start();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    lan.switch.add_vhost_user(theirs, "bad").unwrap();
    std::io::Write::write_all(&mut &ours, &[0xff; 64]).unwrap();
    eventually("the loss", || !lan.switch.lost_ports().is_empty());
    let lost = lan.switch.lost_ports();
    assert!(lost[0].reason.contains("no vhost-user message"), "{lost:?}");
}

#[test]
fn runts_and_giants_of_a_guest_are_counted_and_nothing_else() {
    let lan = Lan::start();
    let options = Options {
        transmit_len: 70_000,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", options);
    let b = lan.client("b");
    a.send(&[1; 13]);
    a.send_with(&[0; 5], &[]);
    a.send(&[1; 69_633]);
    a.send(&frame(ALL, A, b"hello"));
    assert_eq!(b.recv(), frame(ALL, A, b"hello"));
    let drops = lan.counters("a").drops;
    assert_eq!((drops.runt, drops.oversized, drops.total()), (2, 1, 3));
    let _ = PLAIN;
}
