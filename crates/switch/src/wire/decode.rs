//! What can be asked about a frame, or said of it. What is cut off or damaged is just not there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{Frame, HEADER_LEN, MacAddr};

pub(in crate::wire) const ARP: u16 = 0x0806;
pub(in crate::wire) const IPV4: u16 = 0x0800;
pub(in crate::wire) const IPV6: u16 = 0x86dd;
pub(in crate::wire) const ICMP: u8 = 1;
pub(in crate::wire) const TCP: u8 = 6;
pub(in crate::wire) const UDP: u8 = 17;
pub(in crate::wire) const ICMP6: u8 = 58;

pub(in crate::wire) const FLAG_FIN: u8 = 0x01;
pub(in crate::wire) const FLAG_SYN: u8 = 0x02;
pub(in crate::wire) const FLAG_RST: u8 = 0x04;
pub(in crate::wire) const FLAG_ACK: u8 = 0x10;

const TAG_TYPES: [u16; 2] = [0x8100, 0x88a8];
/// Tags that are looked behind at most.
const TAGS_MAX: usize = 4;
/// Extension headers of IPv6 that are looked behind at most.
const EXTENSIONS_MAX: usize = 8;
/// Extension headers that say their length: hop-by-hop options, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;

/// The parts of a frame; pairs are of source and target.
#[derive(Debug, Default)]
pub(in crate::wire) struct Decoded {
    pub(in crate::wire) stations: Option<(MacAddr, MacAddr)>,
    pub(in crate::wire) tag: Option<u16>,
    pub(in crate::wire) ether_type: Option<u16>,
    pub(in crate::wire) ips: Option<(IpAddr, IpAddr)>,
    pub(in crate::wire) protocol: Option<u8>,
    pub(in crate::wire) ports: Option<(u16, u16)>,
    pub(in crate::wire) tcp_flags: Option<u8>,
    pub(in crate::wire) icmp_type: Option<u8>,
    pub(in crate::wire) arp_operation: Option<u16>,
}

impl Decoded {
    pub(in crate::wire) fn new(bytes: &[u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let Some(frame) = Frame::parse(bytes) else {
            return decoded;
        };
        decoded.stations = Some((frame.source(), frame.target()));
        let mut rest = &bytes[HEADER_LEN - 2..];
        for _ in 0..TAGS_MAX {
            match (u16_at(rest, 0), u16_at(rest, 2)) {
                (Some(kind), Some(control)) if TAG_TYPES.contains(&kind) => {
                    decoded.tag.get_or_insert(control & 0x0fff);
                    rest = &rest[4..];
                }
                _ => break,
            }
        }
        decoded.ether_type = u16_at(rest, 0);
        let packet = rest.get(2..).unwrap_or_default();
        match decoded.ether_type {
            Some(ARP) => {
                decoded.ips = ipv4_pair(packet, 14, 24);
                decoded.arp_operation = u16_at(packet, 6);
            }
            Some(IPV4) => decoded.read_ipv4(packet),
            Some(IPV6) => decoded.read_ipv6(packet),
            _ => {}
        }
        decoded
    }

    fn read_ipv4(&mut self, packet: &[u8]) {
        self.ips = ipv4_pair(packet, 12, 16);
        if self.ips.is_none() {
            return;
        }
        self.protocol = packet.get(9).copied();
        let is_first = u16_at(packet, 6).is_some_and(|fragment| fragment & 0x1fff == 0);
        let header_len = packet
            .first()
            .map_or(0, |first| usize::from(first & 0x0f) * 4);
        if is_first && header_len >= 20 {
            self.read_transport(packet.get(header_len..).unwrap_or_default());
        }
    }

    fn read_ipv6(&mut self, packet: &[u8]) {
        let address = |at: usize| {
            let bytes: [u8; 16] = *packet.get(at..)?.first_chunk()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        };
        self.ips = address(8).zip(address(24));
        let (Some(mut next), Some(mut rest)) = (packet.get(6).copied(), packet.get(40..)) else {
            return;
        };
        for _ in 0..EXTENSIONS_MAX {
            let (Some(&following), Some(&len)) = (rest.first(), rest.get(1)) else {
                break;
            };
            let len = match next {
                FRAGMENT if u16_at(rest, 2).is_some_and(|offset| offset & 0xfff8 == 0) => 8,
                FRAGMENT => {
                    self.protocol = Some(following);
                    return; // Ports are in the first fragment alone.
                }
                next if EXTENSIONS.contains(&next) => (usize::from(len) + 1) * 8,
                _ => break,
            };
            next = following;
            rest = rest.get(len..).unwrap_or_default();
        }
        self.protocol = Some(next);
        self.read_transport(rest);
    }

    fn read_transport(&mut self, segment: &[u8]) {
        if matches!(self.protocol, Some(TCP | UDP)) {
            self.ports = u16_at(segment, 0).zip(u16_at(segment, 2));
        }
        if self.protocol == Some(TCP) {
            self.tcp_flags = segment.get(13).copied();
        }
        if matches!(self.protocol, Some(ICMP | ICMP6)) {
            self.icmp_type = segment.first().copied();
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

fn ipv4_pair(packet: &[u8], source: usize, target: usize) -> Option<(IpAddr, IpAddr)> {
    let address = |at: usize| {
        let bytes: [u8; 4] = *packet.get(at..)?.first_chunk()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    address(source).zip(address(target))
}
