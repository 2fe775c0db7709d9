//! A frame in a line, for people: `TCP 10.0.0.1:1000 > 10.0.0.2:80 SYN`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::decode::{
    ARP, Decoded, FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN, ICMP, ICMP6, IPV4, IPV6, TCP, UDP,
};

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

/// Says what a frame is, as far as its first bytes tell.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(pub &'a [u8]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoded = Decoded::new(self.0);
        let Some((source, target)) = decoded.stations else {
            return f.write_str("less than a header");
        };
        match (decoded.ether_type, decoded.ips) {
            (Some(ARP), Some((asks, asked))) => match decoded.arp_operation {
                Some(ARP_REQUEST) => write!(f, "ARP who-has {asked} tell {asks}")?,
                Some(ARP_REPLY) => write!(f, "ARP {asks} is-at {source}")?,
                _ => write!(f, "ARP {asks} > {asked}")?,
            },
            (Some(IPV4 | IPV6), Some(ips)) => write_packet(f, &decoded, ips)?,
            (Some(kind), _) => write!(f, "{source} > {target} type 0x{kind:04x}")?,
            (None, _) => write!(f, "{source} > {target}")?,
        }
        match decoded.tag {
            Some(tag) => write!(f, ", vlan {tag}"),
            None => Ok(()),
        }
    }
}

fn write_packet(
    f: &mut fmt::Formatter<'_>,
    decoded: &Decoded,
    (source, target): (IpAddr, IpAddr),
) -> fmt::Result {
    match decoded.protocol {
        Some(ICMP) => f.write_str("ICMP")?,
        Some(ICMP6) => f.write_str("ICMPv6")?,
        Some(TCP) => f.write_str("TCP")?,
        Some(UDP) => f.write_str("UDP")?,
        Some(protocol) => write!(f, "IP protocol {protocol}")?,
        None => f.write_str("IP")?,
    }
    match decoded.ports {
        Some((from, to)) => {
            let (from, to) = (SocketAddr::new(source, from), SocketAddr::new(target, to));
            write!(f, " {from} > {to}")?;
        }
        None => write!(f, " {source} > {target}")?,
    }
    for (flag, name) in [
        (FLAG_SYN, " SYN"),
        (FLAG_FIN, " FIN"),
        (FLAG_RST, " RST"),
        (FLAG_ACK, " ACK"),
    ] {
        if decoded.tcp_flags.is_some_and(|flags| flags & flag != 0) {
            f.write_str(name)?;
        }
    }
    match (decoded.protocol, decoded.icmp_type) {
        (Some(ICMP), Some(8)) | (Some(ICMP6), Some(128)) => f.write_str(" echo request"),
        (Some(ICMP), Some(0)) | (Some(ICMP6), Some(129)) => f.write_str(" echo reply"),
        (_, Some(kind)) => write!(f, " type {kind}"),
        (_, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
