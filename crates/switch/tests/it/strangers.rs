//! What a switch gives out is what it was given, whoever sends to whomever.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;

use hotbed_switch::LocalPort;
use proptest::prelude::*;

use crate::guest::{Guest, Options};
use crate::local;
use crate::stream;
use crate::support::{ALL, Lan, VdeClient, frame};
use crate::vhost_user::guest;

/// Ports of every kind that a test can hold both ends of.
enum Peer {
    Vde(VdeClient),
    Stream(UnixStream),
    Local(LocalPort),
    Guest(Box<Guest>),
}

impl Peer {
    fn send(&mut self, frame: &[u8]) {
        match self {
            Peer::Vde(client) => client.send(frame),
            Peer::Stream(stream) => stream::send(stream, frame),
            Peer::Local(port) => port.send(frame).unwrap(),
            Peer::Guest(guest) => guest.send(frame),
        }
    }

    fn recv(&mut self) -> Vec<u8> {
        match self {
            Peer::Vde(client) => client.recv(),
            Peer::Stream(stream) => stream::recv(stream),
            Peer::Local(port) => local::recv(port),
            Peer::Guest(guest) => guest.recv(),
        }
    }
}

fn peers(lan: &Lan) -> Vec<Peer> {
    let guest = |name| Peer::Guest(Box::new(guest(lan, name, Options::default())));
    vec![
        Peer::Vde(lan.client("vde")),
        Peer::Stream(stream::connect(lan, "stream")),
        Peer::Local(lan.switch.add_local("local").unwrap()),
        guest("a"),
        guest("b"),
    ]
}

fn station(number: u8) -> hotbed_switch::MacAddr {
    hotbed_switch::MacAddr([0x02, 0, 0, 0, 0, number])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_port_is_given_no_frame_twice_none_of_its_own_and_none_that_nobody_sent(
        frames in proptest::collection::vec((0..5_usize, 0..7_u8, 0..9_u8, 0..1400_usize), 0..40),
    ) {
        let lan = Lan::start();
        let mut peers = peers(&lan);
        // Who sent what, by what is in it. Stations move from port to port, and some are nowhere.
        let mut sent = BTreeMap::new();
        for (number, (from, source, target, len)) in frames.into_iter().enumerate() {
            let target = if target == 8 { ALL } else { station(target) };
            let mut payload = vec![number as u8; len];
            payload.insert(0, number as u8);
            let frame = frame(target, station(source), &payload);
            peers[from].send(&frame);
            sent.insert(frame, from);
        }
        // Behind all others, so that whoever has these has all that is to come.
        let last = |from: usize| frame(ALL, station(0x80 + from as u8), b"last");
        for (from, peer) in peers.iter_mut().enumerate() {
            peer.send(&last(from));
        }
        for (at, peer) in peers.iter_mut().enumerate() {
            let (mut seen, mut lasts) = (BTreeSet::new(), 0);
            while lasts < 4 {
                let frame = peer.recv();
                prop_assert!(seen.insert(frame.clone()), "twice: {frame:?}");
                if (0..5).any(|from| from != at && frame == last(from)) {
                    lasts += 1;
                    continue;
                }
                let from = sent.get(&frame);
                prop_assert!(from.is_some(), "nobody sent {frame:?}");
                prop_assert_ne!(from, Some(&at), "it comes back");
            }
        }
    }
}
