use std::time::Duration;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpRepr, NdiscNeighborFlags, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::*;
use crate::hosts::packet::Stations;
use crate::hosts::tests::{
    MACHINE, MACHINE_V4, MACHINE_V6, advert, arp_answer, arp_request, ask, check_pong, epoch,
    frame_of, packet_in, ping, solicitation,
};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

fn profile(count: u32) -> Profile {
    Profile {
        count,
        first: FIRST,
        prefix: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0),
        echo: true,
        http: true,
    }
}

fn simulated(now: Instant, count: u32) -> Simulated {
    Simulated::new(now, 7, &profile(count)).unwrap()
}

/// A segment of the machine to the first host.
fn segment(
    from: u16,
    to: u16,
    control: TcpControl,
    numbers: (i32, Option<i32>),
    payload: &[u8],
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from,
        dst_port: to,
        control,
        seq_number: TcpSeqNumber(numbers.0),
        ack_number: numbers.1.map(TcpSeqNumber),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let (source, target) = (MACHINE_V4.into(), FIRST.into());
    let ip = IpRepr::new(source, target, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let stations = Stations {
        source: MACHINE,
        target: profile(1).host(0).unwrap().mac,
    };
    frame_of(|out| {
        out.push_ip(stations, ip, |bytes| {
            tcp.emit(
                &mut TcpPacket::new_unchecked(bytes),
                &source,
                &target,
                &ChecksumCapabilities::default(),
            );
        });
    })
}

pub(in crate::hosts) fn syn(from: u16, to: u16) -> Vec<u8> {
    segment(from, to, TcpControl::Syn, (100, None), b"")
}

/// What of a segment of the first host tests look at.
fn answer_of(frame: &[u8]) -> (TcpControl, i32, Option<i32>, Vec<u8>) {
    let packet = packet_in(frame);
    assert_eq!(packet.stations.target, MACHINE);
    let (source, target) = (packet.ip.src_addr(), packet.ip.dst_addr());
    let segment = TcpPacket::new_checked(packet.payload).unwrap();
    let tcp = TcpRepr::parse(&segment, &source, &target, &ChecksumCapabilities::default()).unwrap();
    (
        tcp.control,
        tcp.seq_number.0,
        tcp.ack_number.map(|number| number.0),
        tcp.payload.to_vec(),
    )
}

/// Begins a connection, and gives the number of the host's next byte.
fn connect(hosts: &mut Simulated, now: Instant, from: u16, to: u16) -> i32 {
    let frames = ask(hosts, now, &syn(from, to));
    let (control, number, acknowledged, _) = answer_of(&frames[0]);
    assert_eq!(
        (control, acknowledged, frames.len()),
        (TcpControl::Syn, Some(101), 1)
    );
    let number = number.wrapping_add(1);
    let frames = ask(
        hosts,
        now,
        &segment(from, to, TcpControl::None, (101, Some(number)), b""),
    );
    assert!(frames.is_empty());
    number
}

#[test]
fn each_host_answers_for_its_own_addresses_and_nobody_elses() {
    let (now, count) = (epoch(), 10_000);
    let mut hosts = simulated(now, count);
    for index in [0, 1, 254, 255, 256, 9_999] {
        let host = profile(count).host(index).unwrap();
        assert_eq!(
            arp_answer(&ask(&mut hosts, now, &arp_request(host.ipv4)), host.ipv4),
            host.mac
        );
        let (station, flags, target) = advert(
            &ask(&mut hosts, now, &solicitation(MACHINE_V6, host.ipv6)),
            host.ipv6,
        );
        assert_eq!((station, target), (host.mac, MACHINE_V6.into()));
        assert_eq!(
            flags,
            NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::SOLICITED
        );
        for address in [IpAddr::from(host.ipv4), host.ipv6.into()] {
            check_pong(
                &ask(&mut hosts, now, &ping(host.mac, address, b"data")),
                address,
                b"data",
            );
            let elsewhere = ping(profile(count).host(5).unwrap().mac, address, b"data");
            assert!(
                ask(&mut hosts, now, &elsewhere).is_empty(),
                "the station of another host"
            );
        }
    }
    for other in [Ipv4Addr::new(10, 1, 0, 0), Ipv4Addr::new(10, 1, 39, 17)] {
        assert!(ask(&mut hosts, now, &arp_request(other)).is_empty());
        let other = with_low_bits(profile(1).prefix, other.to_bits());
        assert!(ask(&mut hosts, now, &solicitation(MACHINE_V6, other)).is_empty());
    }
}

#[test]
fn who_looks_whether_an_address_is_free_hears_that_it_is_not_and_so_do_all() {
    let host = profile(1).host(0).unwrap();
    let frames = ask(
        &mut simulated(epoch(), 1),
        epoch(),
        &solicitation(Ipv6Addr::UNSPECIFIED, host.ipv6),
    );
    let (_, flags, target) = advert(&frames, host.ipv6);
    assert_eq!(
        (flags, target),
        (
            NdiscNeighborFlags::OVERRIDE,
            IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1])
        )
    );
}

#[test]
fn hosts_that_cannot_be_are_refused() {
    let with = |count, first| {
        Simulated::new(
            epoch(),
            7,
            &Profile {
                first,
                ..profile(count)
            },
        )
        .is_some()
    };
    assert!(with(1, FIRST) && with(HOSTS_MAX, FIRST));
    assert!(!with(0, FIRST) && !with(HOSTS_MAX + 1, FIRST));
    assert!(
        !with(2, Ipv4Addr::new(223, 255, 255, 255)),
        "the second one is a group"
    );
    assert!(!with(2, Ipv4Addr::BROADCAST) && !with(1, Ipv4Addr::UNSPECIFIED));
}

#[test]
fn what_is_sent_to_port_7_comes_back() {
    let now = epoch();
    let mut hosts = simulated(now, 1);
    let number = connect(&mut hosts, now, 1000, ECHO_PORT);
    assert_eq!(hosts.connections(), 1);
    let frames = ask(
        &mut hosts,
        now,
        &segment(
            1000,
            ECHO_PORT,
            TcpControl::Psh,
            (101, Some(number)),
            b"hello",
        ),
    );
    let (_, _, acknowledged, payload) = answer_of(frames.last().unwrap());
    assert_eq!((acknowledged, &payload[..]), (Some(106), &b"hello"[..]));
    // The machine closes; the host does, too; then there is no connection.
    let frames = ask(
        &mut hosts,
        now,
        &segment(
            1000,
            ECHO_PORT,
            TcpControl::Fin,
            (106, Some(number + 5)),
            b"",
        ),
    );
    let (control, ..) = answer_of(frames.last().unwrap());
    assert_eq!(control, TcpControl::Fin);
    ask(
        &mut hosts,
        now,
        &segment(
            1000,
            ECHO_PORT,
            TcpControl::None,
            (107, Some(number + 6)),
            b"",
        ),
    );
    assert_eq!(hosts.connections(), 0);
    assert_eq!(
        hosts.poll(now, &mut Outbox::default()),
        None,
        "nothing is due"
    );
}

/// Sends a request in two pieces, and gives what comes before the host closes.
fn request(request: &[u8]) -> String {
    let now = epoch();
    let mut hosts = simulated(now, 1);
    let number = connect(&mut hosts, now, 1000, HTTP_PORT);
    let (mut payloads, mut is_closed) = (Vec::new(), false);
    let mut at = 101;
    for piece in request.chunks(request.len().div_ceil(4).min(1400)) {
        for frame in ask(
            &mut hosts,
            now,
            &segment(1000, HTTP_PORT, TcpControl::Psh, (at, Some(number)), piece),
        ) {
            let (control, _, _, payload) = answer_of(&frame);
            payloads.extend(payload);
            is_closed |= control == TcpControl::Fin;
        }
        at += i32::try_from(piece.len()).unwrap();
    }
    assert!(is_closed);
    String::from_utf8(payloads).unwrap()
}

#[test]
fn a_host_says_its_address_by_http() {
    let answer = request(b"GET / HTTP/1.1\r\nHost: 10.1.0.1\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\n10.1.0.1\n"),
        "{answer}"
    );
    let head = request(b"HEAD / HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("Content-Length: 9\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(request(b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.0 501 "));
    assert!(
        request(&[b'x'; 5000]).starts_with("HTTP/1.0 431 "),
        "a head without an end"
    );
}

#[test]
fn a_port_without_a_service_refuses_connections() {
    let now = epoch();
    for (port, profile) in [
        (22, profile(1)),
        (
            80,
            Profile {
                http: false,
                ..profile(1)
            },
        ),
        (
            7,
            Profile {
                echo: false,
                ..profile(1)
            },
        ),
    ] {
        let mut hosts = Simulated::new(now, 7, &profile).unwrap();
        let frames = ask(&mut hosts, now, &syn(1000, port));
        let (control, _, acknowledged, _) = answer_of(&frames[0]);
        assert_eq!(
            (control, acknowledged, hosts.connections()),
            (TcpControl::Rst, Some(101), 0)
        );
    }
}

#[test]
fn connections_are_bounded_and_those_whose_peer_is_gone_make_room() {
    let now = epoch();
    let mut hosts = simulated(now, 1);
    for number in 0..CONNECTIONS_MAX {
        connect(&mut hosts, now, 1000 + number as u16, HTTP_PORT);
    }
    assert!(
        ask(&mut hosts, now, &syn(999, HTTP_PORT)).is_empty(),
        "one more is not answered"
    );
    assert_eq!(hosts.connections(), CONNECTIONS_MAX);
    // Peers that say nothing for long are asked, and given up.
    let (mut later, mut out) = (now, Outbox::default());
    while let Some(due) = hosts.poll(later, &mut out) {
        later = due.max(later + Duration::from_millis(1));
        assert!(
            later < now + Duration::from_secs(600),
            "{} are left",
            hosts.connections()
        );
        out.clear();
    }
    connect(&mut hosts, later, 999, HTTP_PORT);
}

#[test]
fn a_damaged_segment_and_a_connection_that_was_forgotten_come_to_nothing() {
    let now = epoch();
    let mut hosts = simulated(now, 1);
    let mut damaged = syn(1000, HTTP_PORT);
    *damaged.last_mut().unwrap() ^= 1;
    assert!(ask(&mut hosts, now, &damaged).is_empty());
    assert_eq!(hosts.connections(), 0);
    let number = connect(&mut hosts, now, 1000, HTTP_PORT);
    hosts.forget_connections();
    let frames = ask(
        &mut hosts,
        now,
        &segment(
            1000,
            HTTP_PORT,
            TcpControl::Psh,
            (101, Some(number)),
            b"GET",
        ),
    );
    let (control, ..) = answer_of(&frames[0]);
    assert_eq!(control, TcpControl::Rst);
}

proptest! {
    #[test]
    fn an_address_belongs_to_the_host_that_has_it(count in 1..=HOSTS_MAX, index in 0..HOSTS_MAX, first in 0x0100_0000..0xdf00_0000_u32) {
        let profile = Profile { first: Ipv4Addr::from_bits(first), ..profile(count) };
        let host = profile.host(index);
        prop_assert_eq!(host.is_some(), index < count);
        let number = first + index;
        let owner = host.map(|host| host.mac);
        prop_assert_eq!(profile.owner(Ipv4Addr::from_bits(number).into()), owner);
        prop_assert_eq!(profile.owner(with_low_bits(profile.prefix, number).into()), owner);
    }
}
