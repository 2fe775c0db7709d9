use std::time::Duration;

use smoltcp::wire::{DhcpMessageType, NdiscPrefixInfoFlags, NdiscRouterFlags};

use super::*;
use crate::hosts::packet::multicast;
use crate::hosts::tests::{
    MACHINE, MACHINE_V4, MACHINE_V6, advert, arp_answer, arp_request, ask, check_pong, epoch,
    frame_of, packet_in, ping, solicitation,
};

fn gateway(now: Instant) -> Gateway {
    Gateway::new(now, &fuzz_config())
}

fn udp(target: IpAddr, station: MacAddr, port: u16, message: &[u8]) -> Vec<u8> {
    let stations = Stations {
        source: MACHINE,
        target: station,
    };
    let source = match target {
        IpAddr::V4(_) => MACHINE_V4.into(),
        IpAddr::V6(_) => MACHINE_V6.into(),
    };
    frame_of(|out| {
        push_udp(
            out,
            stations,
            [source, target],
            UdpRepr {
                src_port: 5000,
                dst_port: port,
            },
            message,
        )
    })
}

#[test]
fn it_answers_for_its_own_addresses() {
    let (config, now) = (fuzz_config(), epoch());
    let mut gateway = gateway(now);
    assert_eq!(
        arp_answer(
            &ask(&mut gateway, now, &arp_request(config.ipv4)),
            config.ipv4
        ),
        config.mac
    );
    assert!(ask(&mut gateway, now, &arp_request(MACHINE_V4)).is_empty());
    let link_local: Ipv6Addr = "fe80::5054:ff:fe12:1fe".parse().unwrap();
    for own in [config.ipv6, link_local] {
        let (station, ..) = advert(&ask(&mut gateway, now, &solicitation(MACHINE_V6, own)), own);
        assert_eq!(station, config.mac);
        check_pong(
            &ask(&mut gateway, now, &ping(config.mac, own.into(), b"six")),
            own.into(),
            b"six",
        );
    }
    check_pong(
        &ask(
            &mut gateway,
            now,
            &ping(config.mac, config.ipv4.into(), b"four"),
        ),
        config.ipv4.into(),
        b"four",
    );
}

#[test]
fn the_prefix_is_told_at_once_on_request_and_from_time_to_time() {
    let now = epoch();
    let mut gateway = gateway(now);
    let mut out = Outbox::default();
    assert_eq!(
        gateway.poll(now, &mut out),
        Some(now + ADVERTISEMENT_INTERVAL)
    );
    assert_eq!(
        gateway.poll(now + Duration::from_secs(1), &mut out),
        Some(now + ADVERTISEMENT_INTERVAL)
    );
    assert_eq!(out.frames().count(), 1);
    gateway.poll(now + ADVERTISEMENT_INTERVAL, &mut out);
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let stations = Stations {
        source: MACHINE,
        target: multicast(routers),
    };
    let question = Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr: None });
    let asked = ask(
        &mut gateway,
        now,
        &frame_of(|out| push_icmpv6(out, stations, MACHINE_V6, routers, &question)),
    );
    for frame in out.frames().chain(asked.iter().map(Vec::as_slice)) {
        let packet = packet_in(frame);
        let Some(Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
            flags,
            prefix_info: Some(prefix),
            ..
        })) = parse_icmpv6(&packet)
        else {
            panic!("no advertisement");
        };
        assert_eq!(
            (flags, prefix.prefix_len, prefix.prefix),
            (
                NdiscRouterFlags::empty(),
                64,
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0)
            )
        );
        assert_eq!(
            prefix.flags,
            NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF
        );
        assert_eq!(packet.stations.target, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    }
    assert_eq!((out.frames().count(), asked.len()), (2, 1));
}

#[test]
fn names_are_told_to_whoever_asks_by_either_protocol() {
    let now = epoch();
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05alice\x00\x00\x01\x00\x01";
    for own in [IpAddr::from(fuzz_config().ipv4), fuzz_config().ipv6.into()] {
        let frames = ask(
            &mut gateway(now),
            now,
            &udp(own, fuzz_config().mac, DNS_PORT, query),
        );
        let packet = packet_in(&frames[0]);
        assert_eq!((packet.source(), packet.stations.target), (own, MACHINE));
        let datagram = UdpPacket::new_checked(packet.payload).unwrap();
        assert_eq!((datagram.src_port(), datagram.dst_port()), (DNS_PORT, 5000));
        assert!(datagram.payload().ends_with(&MACHINE_V4.octets()));
    }
}

#[test]
fn what_is_for_elsewhere_or_for_no_service_is_refused_at_once() {
    let (config, now) = (fuzz_config(), epoch());
    let (far_v4, far_v6) = (
        IpAddr::from([8, 8, 8, 8]),
        IpAddr::from([0x2606, 0, 0, 0, 0, 0, 0, 1]),
    );
    let refused = |frame: &[u8]| {
        let frames = ask(&mut gateway(now), now, frame);
        let [frame] = &frames[..] else { return None };
        let packet = packet_in(frame);
        assert_eq!(packet.stations.target, MACHINE);
        Some((packet.payload[0], packet.payload[1]))
    };
    assert_eq!(
        refused(&ping(config.mac, far_v4, b"data")),
        Some((3, 0)),
        "no network"
    );
    assert_eq!(
        refused(&ping(config.mac, far_v6, b"data")),
        Some((1, 0)),
        "no route"
    );
    assert_eq!(refused(&udp(far_v4, config.mac, 53, b"data")), Some((3, 0)));
    assert_eq!(
        refused(&udp(config.ipv4.into(), config.mac, 9, b"data")),
        Some((3, 3)),
        "no port"
    );
    assert_eq!(
        refused(&udp(config.ipv6.into(), config.mac, 9, b"data")),
        Some((1, 4)),
        "no port"
    );
    assert_eq!(
        refused(&ping(MACHINE, far_v4, b"data")),
        None,
        "it is not for the gateway"
    );
}

#[test]
fn addresses_are_given_to_clients_that_have_none() {
    let now = epoch();
    let mut message = vec![0; 300];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&MACHINE.0);
    message[236..244].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let stations = Stations {
        source: MACHINE,
        target: MacAddr([0xff; 6]),
    };
    let ends = [Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()];
    let ports = UdpRepr {
        src_port: DHCP_CLIENT_PORT,
        dst_port: DHCP_SERVER_PORT,
    };
    let frames = ask(
        &mut gateway(now),
        now,
        &frame_of(|out| push_udp(out, stations, ends, ports, &message)),
    );
    let packet = packet_in(&frames[0]);
    assert_eq!(
        (packet.target(), packet.stations.target),
        (MACHINE_V4.into(), MACHINE)
    );
    let datagram = UdpPacket::new_checked(packet.payload).unwrap();
    let offer = smoltcp::wire::DhcpPacket::new_checked(datagram.payload()).unwrap();
    let kind = smoltcp::wire::DhcpRepr::parse(&offer).unwrap().message_type;
    assert_eq!(
        (datagram.dst_port(), kind),
        (DHCP_CLIENT_PORT, DhcpMessageType::Offer)
    );
}
