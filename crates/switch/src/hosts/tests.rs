use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol, Icmpv4Packet, Icmpv4Repr,
    Icmpv6Repr, IpProtocol, IpRepr, NdiscNeighborFlags, NdiscRepr,
};

use super::answer::{parse_icmpv6, push_icmpv6};
use super::packet::{Packet, Stations, multicast, parse_frame};
use super::*;
use crate::wire::MacAddr;

/// A machine on the LAN.
pub(super) const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 1, 1]);
pub(super) const MACHINE_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
pub(super) const MACHINE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

/// Gives the hosts a frame, and takes what they send.
pub(super) fn ask(hosts: &mut impl Hosts, now: Instant, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Outbox::default();
    hosts.handle_frame(now, frame, &mut out);
    out.frames().map(<[u8]>::to_vec).collect()
}

/// The only frame that `fill` makes.
pub(super) fn frame_of(fill: impl FnOnce(&mut Outbox)) -> Vec<u8> {
    let mut out = Outbox::default();
    fill(&mut out);
    out.frames().next().unwrap().to_vec()
}

pub(super) fn packet_in(frame: &[u8]) -> Packet<'_> {
    let (stations, ethertype, bytes) = parse_frame(frame).unwrap();
    Packet::parse(stations, ethertype, bytes).unwrap()
}

pub(super) fn arp_request(wanted: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(MACHINE.0),
        source_protocol_addr: MACHINE_V4,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: wanted,
    };
    let stations = Stations {
        source: MACHINE,
        target: MacAddr([0xff; 6]),
    };
    frame_of(|out| {
        out.push(
            stations,
            EthernetProtocol::Arp,
            request.buffer_len(),
            |bytes| {
                request.emit(&mut ArpPacket::new_unchecked(bytes));
            },
        );
    })
}

/// The station that an ARP answer names for an address.
pub(super) fn arp_answer(frames: &[Vec<u8>], wanted: Ipv4Addr) -> MacAddr {
    let [frame] = frames else {
        panic!("{} frames", frames.len())
    };
    let (stations, _, bytes) = parse_frame(frame).unwrap();
    let answer = ArpRepr::parse(&ArpPacket::new_checked(bytes).unwrap()).unwrap();
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (operation, source_protocol_addr, target_protocol_addr),
        (ArpOperation::Reply, wanted, MACHINE_V4)
    );
    assert_eq!(
        (stations.source.0, stations.target),
        (source_hardware_addr.0, MACHINE)
    );
    stations.source
}

pub(super) fn solicitation(source: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let group =
        wanted.to_bits() & 0xff_ffff | Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    let group = Ipv6Addr::from_bits(group);
    let lladdr = (!source.is_unspecified()).then(|| EthernetAddress(MACHINE.0).into());
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: wanted,
        lladdr,
    });
    let stations = Stations {
        source: MACHINE,
        target: multicast(group),
    };
    frame_of(|out| push_icmpv6(out, stations, source, group, &message))
}

/// A ping; answers have the same data.
pub(super) fn ping(station: MacAddr, target: IpAddr, data: &[u8]) -> Vec<u8> {
    let stations = Stations {
        source: MACHINE,
        target: station,
    };
    let (ident, seq_no) = (7, 1);
    match target {
        IpAddr::V4(target) => {
            let message = Icmpv4Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            let ip = IpRepr::new(
                MACHINE_V4.into(),
                target.into(),
                IpProtocol::Icmp,
                message.buffer_len(),
                64,
            );
            frame_of(|out| {
                out.push_ip(stations, ip, |bytes| {
                    message.emit(
                        &mut Icmpv4Packet::new_unchecked(bytes),
                        &ChecksumCapabilities::default(),
                    );
                });
            })
        }
        IpAddr::V6(target) => {
            let message = Icmpv6Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            frame_of(|out| push_icmpv6(out, stations, MACHINE_V6, target, &message))
        }
    }
}

/// Tells that the frames are one answer to a ping of `target`.
pub(super) fn check_pong(frames: &[Vec<u8>], target: IpAddr, wanted: &[u8]) {
    let [frame] = frames else {
        panic!("{} frames", frames.len())
    };
    let packet = packet_in(frame);
    assert_eq!(packet.source(), target);
    match target {
        IpAddr::V4(_) => {
            let message = Icmpv4Packet::new_checked(packet.payload).unwrap();
            let message = Icmpv4Repr::parse(&message, &ChecksumCapabilities::default());
            assert!(
                matches!(message, Ok(Icmpv4Repr::EchoReply { ident: 7, seq_no: 1, data }) if data == wanted)
            );
        }
        IpAddr::V6(_) => {
            let message = parse_icmpv6(&packet);
            assert!(
                matches!(message, Some(Icmpv6Repr::EchoReply { ident: 7, seq_no: 1, data }) if data == wanted)
            );
        }
    }
}

/// The station, the flags and the group (or machine) of an answer to a solicitation.
pub(super) fn advert(
    frames: &[Vec<u8>],
    wanted: Ipv6Addr,
) -> (MacAddr, NdiscNeighborFlags, IpAddr) {
    let [frame] = frames else {
        panic!("{} frames", frames.len())
    };
    let packet = packet_in(frame);
    let Some(Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr,
        lladdr,
    })) = parse_icmpv6(&packet)
    else {
        panic!("no advertisement");
    };
    assert_eq!(target_addr, wanted);
    assert_eq!(
        lladdr,
        Some(EthernetAddress(packet.stations.source.0).into())
    );
    (packet.stations.source, flags, packet.target())
}

#[test]
fn a_packet_in_pieces_or_from_many_is_none() {
    let mut frame = ping(MACHINE, MACHINE_V4.into(), b"data");
    let (stations, ethertype, bytes) = parse_frame(&frame).unwrap();
    assert!(Packet::parse(stations, ethertype, bytes).is_some());
    let mut first_piece = smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]);
    first_piece.set_dont_frag(false);
    first_piece.set_more_frags(true);
    first_piece.fill_checksum();
    let bytes = &frame[14..];
    assert!(Packet::parse(stations, ethertype, bytes).is_none());
    assert!(parse_frame(&[0xff; 60]).is_none(), "a group sends nothing");
}

proptest! {
    #[test]
    fn hosts_survive_any_frames(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..128), 0..8)) {
        let framed = frames.iter().flat_map(|frame| std::iter::once(frame.len() as u8).chain(frame.iter().copied()));
        fuzz(&framed.collect::<Vec<_>>());
    }

    #[test]
    fn hosts_survive_frames_that_are_nearly_right(which in 0_usize..4, at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()) {
        let station = MacAddr([2, 0x48, 10, 1, 0, 1]);
        let host = Ipv4Addr::new(10, 1, 0, 1);
        let mut frame = match which {
            0 => arp_request(host),
            1 => ping(station, host.into(), b"data"),
            2 => solicitation(MACHINE_V6, Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x254)),
            _ => simulated::tests::syn(1000, 80),
        };
        let at = at.index(frame.len());
        frame[at] = byte;
        frame.truncate(cut.index(frame.len()) + 1);
        fuzz(&[&[frame.len() as u8][..], &frame].concat());
    }
}
