//! Frames taken apart and put together, by smoltcp's `wire`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use crate::wire::{MacAddr, Span};

/// Frames that hosts send.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    frames: Vec<Span>,
}

impl Outbox {
    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().map(|frame| frame.of(&self.bytes))
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// Adds a frame; `fill` writes `len` bytes behind the header.
    pub(super) fn push(
        &mut self,
        stations: Stations,
        ethertype: EthernetProtocol,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let (start, whole) = (self.bytes.len(), ETHERNET_HEADER_LEN + len);
        self.bytes.resize(start + whole, 0);
        let mut frame = EthernetFrame::new_unchecked(&mut self.bytes[start..]);
        let header = EthernetRepr {
            src_addr: EthernetAddress(stations.source.0),
            dst_addr: EthernetAddress(stations.target.0),
            ethertype,
        };
        header.emit(&mut frame);
        fill(frame.payload_mut());
        self.frames.push(Span::new(start, whole));
    }

    /// Adds a frame with an IP packet; `fill` writes what is behind its header.
    pub(super) fn push_ip(&mut self, stations: Stations, ip: IpRepr, fill: impl FnOnce(&mut [u8])) {
        let ethertype = match ip {
            IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
            IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
        };
        self.push(stations, ethertype, ip.buffer_len(), |packet| {
            ip.emit(&mut *packet, &ChecksumCapabilities::default());
            fill(&mut packet[ip.header_len()..]);
        });
    }
}

/// Who a frame is from, and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stations {
    pub(super) source: MacAddr,
    pub(super) target: MacAddr,
}

/// An IP packet in a frame.
#[derive(Debug)]
pub(super) struct Packet<'f> {
    pub(super) stations: Stations,
    pub(super) ip: IpRepr,
    /// The packet from its IP header on, without what pads the frame.
    pub(super) whole: &'f [u8],
    pub(super) payload: &'f [u8],
}

impl<'f> Packet<'f> {
    /// Takes an IP packet that is whole, and from one host.
    pub(super) fn parse(
        stations: Stations,
        ethertype: EthernetProtocol,
        bytes: &'f [u8],
    ) -> Option<Self> {
        let (ip, whole, payload) = match ethertype {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
                if packet.more_frags()
                    || packet.frag_offset() != 0
                    || !is_one_host(ip.src_addr.into())
                {
                    return None;
                }
                let whole = bytes.get(..usize::from(packet.total_len()))?;
                (IpRepr::Ipv4(ip), whole, packet.payload())
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                let ip = Ipv6Repr::parse(&packet).ok()?;
                if !is_one_host(ip.src_addr.into()) {
                    return None;
                }
                (
                    IpRepr::Ipv6(ip),
                    bytes.get(..packet.total_len())?,
                    packet.payload(),
                )
            }
            _ => return None,
        };
        Some(Packet {
            stations,
            ip,
            whole,
            payload,
        })
    }

    /// Where it is from.
    pub(super) fn source(&self) -> IpAddr {
        self.ip.src_addr().into()
    }

    /// Where it is for.
    pub(super) fn target(&self) -> IpAddr {
        self.ip.dst_addr().into()
    }

    /// Adds an answer to it, from the address and the station that it is for.
    pub(super) fn reply(
        &self,
        out: &mut Outbox,
        protocol: IpProtocol,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let stations = Stations {
            source: self.stations.target,
            target: self.stations.source,
        };
        let ip = IpRepr::new(
            self.ip.dst_addr(),
            self.ip.src_addr(),
            protocol,
            len,
            HOP_LIMIT,
        );
        out.push_ip(stations, ip, fill);
    }
}

/// Takes the addresses and the type of a frame from one station; gives them with what is behind.
pub(super) fn parse_frame(frame: &[u8]) -> Option<(Stations, EthernetProtocol, &[u8])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let source = MacAddr(frame.src_addr().0);
    let target = MacAddr(frame.dst_addr().0);
    let stations = Stations { source, target };
    (!source.is_group()).then(|| (stations, frame.ethertype(), frame.payload()))
}

/// Hops that packets of these hosts may take.
pub(super) const HOP_LIMIT: u8 = 64;

/// Tells whether an address may be a sender's; unspecified is one, too.
fn is_one_host(address: IpAddr) -> bool {
    !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The station that multicast packets go to.
pub(super) fn multicast(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}
