//! What every host says to ARP, neighbour solicitations and ping.

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol, IPV6_LINK_LOCAL_ALL_NODES,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, NdiscNeighborFlags,
    NdiscRepr,
};

use super::packet::{Outbox, Packet, Stations, multicast, parse_frame};
use crate::wire::MacAddr;

/// Who has which address.
pub(super) trait Owners {
    /// The station of the host that has this address.
    fn owner(&self, address: IpAddr) -> Option<MacAddr>;
}

/// Hops that neighbours' messages have left: they come from the same link.
pub(super) const ON_LINK: u8 = 255;

/// Answers ARP, neighbour solicitations and ping for the owners; gives back any other IP packet, whoever it is for.
pub(super) fn answer<'f>(
    owners: &impl Owners,
    frame: &'f [u8],
    out: &mut Outbox,
) -> Option<Packet<'f>> {
    let (stations, ethertype, bytes) = parse_frame(frame)?;
    if ethertype == EthernetProtocol::Arp {
        answer_arp(owners, stations, bytes, out);
        return None;
    }
    let packet = Packet::parse(stations, ethertype, bytes)?;
    let is_done = match packet.ip {
        IpRepr::Ipv4(_) => answer_ping(owners, &packet, out),
        IpRepr::Ipv6(_) => answer_icmpv6(owners, &packet, out),
    };
    (!is_done.unwrap_or(false)).then_some(packet)
}

/// Tells whether a packet is for an owner, and for its station.
pub(super) fn is_for_owner(owners: &impl Owners, packet: &Packet<'_>) -> bool {
    owners.owner(packet.target()) == Some(packet.stations.target)
}

fn answer_arp(
    owners: &impl Owners,
    stations: Stations,
    bytes: &[u8],
    out: &mut Outbox,
) -> Option<()> {
    let request = ArpRepr::parse(&ArpPacket::new_checked(bytes).ok()?).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_protocol_addr: asker,
        target_protocol_addr: wanted,
        ..
    } = request
    else {
        return None;
    };
    let owner = owners.owner(wanted.into())?;
    let target_is_owner = [owner, MacAddr([0xff; 6])].contains(&stations.target);
    if !target_is_owner {
        return None;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(owner.0),
        source_protocol_addr: wanted,
        target_hardware_addr: EthernetAddress(stations.source.0),
        target_protocol_addr: asker,
    };
    let stations = Stations {
        source: owner,
        target: stations.source,
    };
    out.push(
        stations,
        EthernetProtocol::Arp,
        reply.buffer_len(),
        |bytes| {
            reply.emit(&mut ArpPacket::new_unchecked(bytes));
        },
    );
    None
}

fn answer_ping(owners: &impl Owners, packet: &Packet<'_>, out: &mut Outbox) -> Option<bool> {
    if packet.ip.next_header() != IpProtocol::Icmp || !is_for_owner(owners, packet) {
        return None;
    }
    let capabilities = ChecksumCapabilities::default();
    let message = Icmpv4Packet::new_checked(packet.payload).ok()?;
    let Icmpv4Repr::EchoRequest {
        ident,
        seq_no,
        data,
    } = Icmpv4Repr::parse(&message, &capabilities).ok()?
    else {
        return None;
    };
    let reply = Icmpv4Repr::EchoReply {
        ident,
        seq_no,
        data,
    };
    packet.reply(out, IpProtocol::Icmp, reply.buffer_len(), |bytes| {
        reply.emit(&mut Icmpv4Packet::new_unchecked(bytes), &capabilities);
    });
    Some(true)
}

fn answer_icmpv6(owners: &impl Owners, packet: &Packet<'_>, out: &mut Outbox) -> Option<bool> {
    match parse_icmpv6(packet)? {
        Icmpv6Repr::EchoRequest {
            ident,
            seq_no,
            data,
        } if is_for_owner(owners, packet) => {
            let reply = Icmpv6Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            let (IpAddr::V6(source), IpAddr::V6(target)) = (packet.target(), packet.source())
            else {
                return None;
            };
            packet.reply(out, IpProtocol::Icmpv6, reply.buffer_len(), |bytes| {
                emit_icmpv6(&reply, source, target, bytes);
            });
            Some(true)
        }
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. })
            if packet.ip.hop_limit() == ON_LINK =>
        {
            advertise_neighbour(owners, packet, target_addr, out);
            Some(true)
        }
        _ => None,
    }
}

fn advertise_neighbour(
    owners: &impl Owners,
    packet: &Packet<'_>,
    wanted: Ipv6Addr,
    out: &mut Outbox,
) -> Option<()> {
    let owner = owners.owner(wanted.into())?;
    let IpAddr::V6(asker) = packet.source() else {
        return None;
    };
    if !packet.stations.target.is_group() && packet.stations.target != owner {
        return None;
    }
    // Who has no address yet asks whether this one is free: all are to hear that it is not.
    let is_probe = asker.is_unspecified();
    let (target, station, flags) = match is_probe {
        true => (
            IPV6_LINK_LOCAL_ALL_NODES,
            multicast(IPV6_LINK_LOCAL_ALL_NODES),
            NdiscNeighborFlags::OVERRIDE,
        ),
        false => (
            asker,
            packet.stations.source,
            NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::SOLICITED,
        ),
    };
    let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr: wanted,
        lladdr: Some(EthernetAddress(owner.0).into()),
    });
    let stations = Stations {
        source: owner,
        target: station,
    };
    push_icmpv6(out, stations, wanted, target, &advert);
    Some(())
}

/// Takes the ICMPv6 message that is in a packet, if its checksum is right.
pub(super) fn parse_icmpv6<'f>(packet: &Packet<'f>) -> Option<Icmpv6Repr<'f>> {
    let (IpAddr::V6(source), IpAddr::V6(target)) = (packet.source(), packet.target()) else {
        return None;
    };
    if packet.ip.next_header() != IpProtocol::Icmpv6 {
        return None;
    }
    let message = Icmpv6Packet::new_checked(packet.payload).ok()?;
    Icmpv6Repr::parse(&source, &target, &message, &ChecksumCapabilities::default()).ok()
}

/// Adds a frame with an ICMPv6 message of neighbours.
pub(super) fn push_icmpv6(
    out: &mut Outbox,
    stations: Stations,
    source: Ipv6Addr,
    target: Ipv6Addr,
    message: &Icmpv6Repr<'_>,
) {
    let (from, to) = (source.into(), target.into());
    let ip = IpRepr::new(from, to, IpProtocol::Icmpv6, message.buffer_len(), ON_LINK);
    out.push_ip(stations, ip, |bytes| {
        emit_icmpv6(message, source, target, bytes)
    });
}

fn emit_icmpv6(message: &Icmpv6Repr<'_>, source: Ipv6Addr, target: Ipv6Addr, bytes: &mut [u8]) {
    let mut packet = Icmpv6Packet::new_unchecked(bytes);
    message.emit(
        &source,
        &target,
        &mut packet,
        &ChecksumCapabilities::default(),
    );
}
