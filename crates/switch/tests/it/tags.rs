//! Access ports, trunks and MTUs, through real sockets.

use hotbed_switch::{End, Error, PortSettings, Segments, Tags};

use crate::support::{A, ALL, B, Lan, eventually, frame, recv_datagram};
use crate::{dgram, stream};

fn set(lan: &Lan, name: &str, tags: Tags) {
    let settings = PortSettings {
        tags,
        ..PortSettings::default()
    };
    lan.switch
        .set_port(&End::from(name), Some(settings))
        .unwrap();
}

fn tagged(segment: u16, frame: &[u8]) -> Vec<u8> {
    let [high, low] = segment.to_be_bytes();
    [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
}

#[test]
fn frames_stay_in_their_segments_and_trunks_have_them_tagged() {
    let lan = Lan::start();
    set(&lan, "a10", Tags::Access(10)); // Before it comes.
    let (a, b, c) = (lan.client("a10"), lan.client("b10"), lan.client("c20"));
    let (trunk, clear) = (lan.client("trunk"), lan.client("clear"));
    lan.await_ports(5);
    set(&lan, "b10", Tags::Access(10));
    set(&lan, "c20", Tags::Access(20));
    let segments = Segments::of(&[10, 20]).unwrap();
    set(
        &lan,
        "trunk",
        Tags::Trunk {
            segments,
            native: None,
        },
    );
    let hello = frame(ALL, A, b"hello");
    a.send(&hello);
    assert_eq!(b.recv(), hello);
    assert_eq!(trunk.recv(), tagged(10, &hello));
    assert_eq!(clear.recv(), tagged(10, &hello));
    // The same station in another segment is another one.
    trunk.send(&tagged(20, &hello));
    assert_eq!(c.recv(), hello, "and nothing before it");
    assert_eq!(clear.recv(), tagged(20, &hello));
    let stations = lan.switch.stations();
    let segments: Vec<_> = stations.iter().map(|one| one.segment).collect();
    assert_eq!(segments, [10, 20]);
    let back = frame(A, B, b"back");
    b.send(&back);
    assert_eq!(a.recv(), back);
    c.send(&back);
    assert_eq!(trunk.recv(), tagged(20, &back), "to the one in its segment");
    a.send(&tagged(20, &hello));
    trunk.send(&hello);
    eventually("drops", || {
        lan.counters("a10").drops.foreign == 1 && lan.counters("trunk").drops.foreign == 1
    });
    for name in ["a10", "b10", "c20", "trunk"] {
        lan.switch.set_port(&End::from(name), None).unwrap();
    }
    b.send(&hello);
    assert_eq!(a.recv(), hello);
    assert_eq!(c.recv(), hello, "all alike again, and nothing before it");
    let bad = PortSettings {
        tags: Tags::Access(0),
        ..PortSettings::default()
    };
    let refused = lan.switch.set_port(&End::from("a10"), Some(bad));
    assert!(matches!(refused, Err(Error::Segment(_))));
}

#[test]
fn a_port_with_an_mtu_takes_and_gives_no_more() {
    let lan = Lan::start();
    let (a, small) = (lan.client("a"), lan.client("small"));
    lan.await_ports(2);
    let settings = PortSettings {
        mtu: 1500,
        ..PortSettings::default()
    };
    lan.switch
        .set_port(&End::from("small"), Some(settings))
        .unwrap();
    let (fits, too_long) = (frame(ALL, A, &[1; 1500]), frame(ALL, A, &[1; 1501]));
    for client in [&a, &small] {
        client.send(&too_long);
        client.send(&tagged(7, &fits));
    }
    assert_eq!(small.recv(), tagged(7, &fits));
    assert_eq!(a.recv(), tagged(7, &fits));
    eventually("two drops", || lan.counters("small").drops.oversized == 2);
}

#[test]
fn jumbo_frames_pass_all_transports_up_to_the_ports_mtu() {
    let lan = Lan::start();
    let (vde, mut stream) = (lan.client("vde"), stream::connect(&lan, "stream"));
    let peer = dgram::peer(&lan, "dgram");
    dgram::add(&lan, "dgram");
    let small = lan.switch.add_local("small").unwrap();
    lan.await_ports(4);
    let settings = |mtu| {
        Some(PortSettings {
            mtu,
            ..PortSettings::default()
        })
    };
    for (name, mtu) in [("vde", 65_535), ("stream", 65_535), ("small", 1500)] {
        lan.switch
            .set_port(&End::from(name), settings(mtu))
            .unwrap();
    }
    for (turn, payload) in [9000, 65_535].into_iter().enumerate() {
        let jumbo = frame(ALL, A, &vec![turn as u8; payload]);
        vde.send(&jumbo);
        assert!(stream::recv(&mut stream) == jumbo && recv_datagram(&peer) == jumbo);
        stream::send(&mut stream, &jumbo);
        assert!(vde.recv() == jumbo && recv_datagram(&peer) == jumbo);
        dgram::send(&lan, &peer, "dgram", &jumbo);
        assert!(vde.recv() == jumbo && stream::recv(&mut stream) == jumbo);
    }
    assert_eq!(lan.counters("small").drops.oversized, 6);
    assert_eq!(small.recv(&mut [0; 1514]), Ok(None));
}
