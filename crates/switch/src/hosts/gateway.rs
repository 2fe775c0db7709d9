//! A gateway: the host that gives a LAN's machines their addresses, and knows their names.
//!
//! - `dhcp`: IPv4 addresses (RFC 2131), of a table for known machines and of a pool for others.
//! - `router`: IPv6 prefixes (RFC 4861, 4862).
//! - `dns`: names and addresses of the known machines.
//!
//! Nothing is behind it: what is for elsewhere is answered with "no route", and names that it does not know are nobody's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr,
    Icmpv6DstUnreachable, Icmpv6Repr, IpProtocol, IpRepr, NdiscRepr, UDP_HEADER_LEN, UdpPacket,
    UdpRepr,
};

use self::dhcp::Dhcp;
use self::dns::Names;
use super::Hosts;
use super::answer::{Owners, answer, parse_icmpv6, push_icmpv6};
use super::packet::{HOP_LIMIT, Outbox, Packet, Stations};
use crate::wire::MacAddr;

pub mod dhcp;
pub mod dns;
mod router;

pub use dhcp::Leases;

/// Where names are asked for.
pub const DNS_PORT: u16 = 53;

/// How often the prefix is told to all, unasked.
pub const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(600);

/// A gateway's addresses, and what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Its station.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The network mask of the LAN.
    pub mask: Ipv4Addr,
    /// Its IPv6 address; the first 64 bits are the LAN's prefix.
    pub ipv6: Ipv6Addr,
    /// The machines that it knows.
    pub machines: Vec<Known>,
    /// The first and the last address for machines that it does not know; at most [`dhcp::POOL_MAX`] are used.
    pub pool: [Ipv4Addr; 2],
}

/// A machine that a gateway knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name, in DNS and for itself.
    pub name: String,
    /// Its station.
    pub mac: MacAddr,
    /// The address that it gets.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, for DNS.
    pub ipv6: Ipv6Addr,
}

/// A host that gives addresses and knows names.
#[derive(Debug)]
pub struct Gateway {
    own: Own,
    dhcp: Dhcp,
    names: Names,
    next_advertisement: Instant,
}

/// The gateway's own addresses.
#[derive(Debug, Clone, Copy)]
struct Own {
    mac: MacAddr,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    link_local: Ipv6Addr,
}

impl Owners for Own {
    fn owner(&self, address: IpAddr) -> Option<MacAddr> {
        let own = [self.ipv4.into(), self.ipv6.into(), self.link_local.into()];
        own.contains(&address).then_some(self.mac)
    }
}

impl Gateway {
    /// Makes a gateway; it tells the prefix to all at once.
    #[must_use]
    pub fn new(now: Instant, config: &GatewayConfig) -> Gateway {
        let own = Own {
            mac: config.mac,
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            link_local: router::link_local(config.mac),
        };
        Gateway {
            own,
            dhcp: Dhcp::new(config),
            names: Names::new(config),
            next_advertisement: now,
        }
    }

    /// The addresses that were given to machines that it does not know.
    #[must_use]
    pub fn leases(&self) -> Leases {
        self.dhcp.leases().clone()
    }

    /// Goes back to addresses that were given by then.
    pub fn restore_leases(&mut self, leases: Leases) {
        self.dhcp.restore(leases);
    }

    fn handle_udp(&mut self, now: Instant, packet: &Packet<'_>, out: &mut Outbox) -> Option<()> {
        let (source, target) = (packet.ip.src_addr(), packet.ip.dst_addr());
        let datagram = UdpPacket::new_checked(packet.payload).ok()?;
        let ports = UdpRepr::parse(
            &datagram,
            &source,
            &target,
            &ChecksumCapabilities::default(),
        )
        .ok()?;
        let is_ours = self.own.owner(packet.target()).is_some();
        match ports.dst_port {
            DHCP_SERVER_PORT if is_ours || packet.target() == IpAddr::V4(Ipv4Addr::BROADCAST) => {
                let answer = self.dhcp.handle(now, datagram.payload())?;
                let stations = Stations {
                    source: self.own.mac,
                    target: answer.station,
                };
                let ports = UdpRepr {
                    src_port: DHCP_SERVER_PORT,
                    dst_port: DHCP_CLIENT_PORT,
                };
                let ends = [self.own.ipv4.into(), answer.address.into()];
                push_udp(out, stations, ends, ports, &answer.message);
            }
            DNS_PORT if is_ours => {
                let message = self.names.answer(datagram.payload())?;
                let stations = Stations {
                    source: self.own.mac,
                    target: packet.stations.source,
                };
                let back = UdpRepr {
                    src_port: ports.dst_port,
                    dst_port: ports.src_port,
                };
                push_udp(
                    out,
                    stations,
                    [packet.target(), packet.source()],
                    back,
                    &message,
                );
            }
            _ if is_ours => refuse(packet, self.own, Unreachable::Port, out),
            _ => {}
        }
        Some(())
    }

    fn handle_solicitation(&mut self, packet: &Packet<'_>, out: &mut Outbox) {
        let is_solicitation = matches!(
            parse_icmpv6(packet),
            Some(Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { .. }))
        );
        if is_solicitation && packet.ip.hop_limit() == super::answer::ON_LINK {
            self.advertise(out);
        }
    }

    fn advertise(&self, out: &mut Outbox) {
        let (stations, target, advert) = router::advertisement(&self.own);
        push_icmpv6(out, stations, self.own.link_local, target, &advert);
    }
}

impl Hosts for Gateway {
    fn handle_frame(&mut self, now: Instant, frame: &[u8], out: &mut Outbox) {
        let Some(packet) = answer(&self.own, frame, out) else {
            return;
        };
        let is_to_us = packet.stations.target == self.own.mac;
        if !is_to_us && !packet.stations.target.is_group() {
            return;
        }
        match packet.ip.next_header() {
            _ if is_to_us && self.own.owner(packet.target()).is_none() => {
                refuse(&packet, self.own, Unreachable::Network, out);
            }
            IpProtocol::Udp => drop(self.handle_udp(now, &packet, out)),
            IpProtocol::Icmpv6 => self.handle_solicitation(&packet, out),
            IpProtocol::Tcp if is_to_us => refuse(&packet, self.own, Unreachable::Port, out),
            _ => {}
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant> {
        if self.next_advertisement <= now {
            self.advertise(out);
            self.next_advertisement = now + ADVERTISEMENT_INTERVAL;
        }
        Some(self.next_advertisement)
    }
}

fn push_udp(
    out: &mut Outbox,
    stations: Stations,
    [source, target]: [IpAddr; 2],
    ports: UdpRepr,
    message: &[u8],
) {
    let (source, target) = (source.into(), target.into());
    let ip = IpRepr::new(
        source,
        target,
        IpProtocol::Udp,
        UDP_HEADER_LEN + message.len(),
        HOP_LIMIT,
    );
    out.push_ip(stations, ip, |bytes| {
        let mut datagram = UdpPacket::new_unchecked(bytes);
        let fill = |payload: &mut [u8]| payload.copy_from_slice(message);
        ports.emit(
            &mut datagram,
            &source,
            &target,
            message.len(),
            fill,
            &ChecksumCapabilities::default(),
        );
    });
}

/// What there is not.
#[derive(Clone, Copy)]
enum Unreachable {
    Network,
    Port,
}

/// Bytes of a refused packet that are sent back: the ports are in there.
const QUOTE_MAX: usize = 64;

/// Says that a packet came to nothing; nobody is told so of an ICMP message or of a packet for many.
fn refuse(packet: &Packet<'_>, own: Own, why: Unreachable, out: &mut Outbox) {
    let is_message = matches!(
        packet.ip.next_header(),
        IpProtocol::Icmp | IpProtocol::Icmpv6
    );
    if (is_message && !is_echo_request(packet))
        || packet.source().is_unspecified()
        || packet.target().is_multicast()
    {
        return;
    }
    let data = packet.payload.get(..QUOTE_MAX).unwrap_or(packet.payload);
    let stations = Stations {
        source: own.mac,
        target: packet.stations.source,
    };
    match packet.ip {
        IpRepr::Ipv4(header) => {
            let reason = match why {
                Unreachable::Network => Icmpv4DstUnreachable::NetUnreachable,
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
            };
            let message = Icmpv4Repr::DstUnreachable {
                reason,
                header,
                data,
            };
            let ip = IpRepr::new(
                own.ipv4.into(),
                header.src_addr.into(),
                IpProtocol::Icmp,
                message.buffer_len(),
                HOP_LIMIT,
            );
            out.push_ip(stations, ip, |bytes| {
                message.emit(
                    &mut Icmpv4Packet::new_unchecked(bytes),
                    &ChecksumCapabilities::default(),
                );
            });
        }
        IpRepr::Ipv6(header) => {
            let reason = match why {
                Unreachable::Network => Icmpv6DstUnreachable::NoRoute,
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
            };
            let message = Icmpv6Repr::DstUnreachable {
                reason,
                header,
                data,
            };
            push_icmpv6(out, stations, own.ipv6, header.src_addr, &message);
        }
    }
}

fn is_echo_request(packet: &Packet<'_>) -> bool {
    let (echo_request, echo_request_v6) = (8, 128);
    let kind = packet.payload.first().copied();
    match packet.ip {
        IpRepr::Ipv4(_) => kind == Some(echo_request),
        IpRepr::Ipv6(_) => kind == Some(echo_request_v6),
    }
}

/// The gateway that fuzzers talk to: one machine is known, and there are two addresses for others.
pub(super) fn fuzz_config() -> GatewayConfig {
    let ipv6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last);
    GatewayConfig {
        mac: MacAddr([0x52, 0x54, 0, 0x12, 1, 254]),
        ipv4: Ipv4Addr::new(192, 168, 1, 254),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        ipv6: ipv6(0x254),
        machines: vec![Known {
            name: "alice".to_owned(),
            mac: MacAddr([0x52, 0x54, 0, 0x12, 1, 1]),
            ipv4: Ipv4Addr::new(192, 168, 1, 1),
            ipv6: ipv6(1),
        }],
        pool: [100, 101].map(|last| Ipv4Addr::new(192, 168, 1, last)),
    }
}

#[cfg(test)]
mod tests;
