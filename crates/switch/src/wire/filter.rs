//! A small language that says which frames are meant: a part of that of tcpdump, `pcap-filter(7)`.
//!
//! ```text
//! arp                     ip, ip6, icmp, icmp6, tcp, udp: by protocol
//! host 10.0.0.1           also src host, dst host, src, dst; IPv4, IPv6, and the addresses in ARP
//! net 10.0.0.0/8          also src net, dst net; arp, ip or ip6 before these
//! port 80                 also src port, dst port, and portrange 1-1023; of TCP and UDP, or tcp or udp before it
//! ether host 02:00:…      also ether src, ether dst; broadcast, multicast; ether proto 0x88cc
//! vlan, vlan 10           that have a tag; that have this one, the outermost counts
//! syn, ack, fin, rst      TCP flags
//! less 100, greater 100   by length of the frame, the number included
//! not, and, or, ( )       `not` binds tighter than `and`, and that tighter than `or`; also !, &&, ||
//! ```
//!
//! The words for TCP flags are not tcpdump's, which has no words for them; all else means there what it means here, but that a
//! word is as good behind a tag as without one.

use std::net::IpAddr;

use super::MacAddr;
use super::decode::Decoded;
use super::summary::Summary;

mod parse;

/// Most bytes of an expression.
pub const EXPRESSION_MAX: usize = 4096;

/// Most tests in an expression.
pub const TESTS_MAX: usize = 64;

/// How deep parentheses and `not`s can be nested.
pub const DEPTH_MAX: usize = 32;

/// Says which frames are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    /// In the order in which a pocket calculator with a stack would want them. Empty: every frame is meant.
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Test(Test),
    Not,
    And,
    Or,
}

/// Something that a frame is or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    Protocol(u8),
    Ip(Side, IpAddr, u8),
    /// From the first to the last.
    Port(Side, u16, u16),
    Station(Side, MacAddr),
    Broadcast,
    Multicast,
    Tagged(Option<u16>),
    TcpFlag(u8),
    Less(usize),
    Greater(usize),
}

/// Whose address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Either,
    Source,
    Target,
}

/// Why an expression says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFilter {
    /// A word that does not belong there, or is not known.
    #[error("`{word}` at character {at} is not expected there", at = at + 1)]
    Unexpected {
        /// The word.
        word: String,
        /// The characters before it.
        at: usize,
    },
    /// The end came too early.
    #[error("something is missing at the end")]
    Unfinished,
    /// Not an address, or not a number, or too high a one.
    #[error("`{word}` at character {at} is not {what}", at = at + 1)]
    Value {
        /// The word.
        word: String,
        /// The characters before it.
        at: usize,
        /// What it should be.
        what: &'static str,
    },
    /// It is above one of the bounds.
    #[error("the expression is too long or too deeply nested")]
    TooLong,
}

impl Filter {
    /// Reads an expression; the empty one means every frame.
    ///
    /// # Errors
    ///
    /// [`BadFilter`].
    pub fn parse(text: &str) -> Result<Filter, BadFilter> {
        let steps = parse::parse(text)?;
        Ok(Filter {
            text: text.to_owned(),
            steps,
        })
    }

    /// Gives the expression that it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether a frame is meant.
    pub fn matches(&self, frame: &[u8]) -> bool {
        if self.steps.is_empty() {
            return true;
        }
        let decoded = Decoded::new(frame);
        // A stack of bits: each test pushes one, and there are fewer tests than bits.
        let mut stack = 0_u128;
        for step in &self.steps {
            stack = match step {
                Step::Test(test) => stack << 1 | u128::from(test.holds(frame, &decoded)),
                Step::Not => stack ^ 1,
                Step::And => (stack >> 1) & (stack | !1),
                Step::Or => (stack >> 1) | (stack & 1),
            };
        }
        stack & 1 == 1
    }
}

impl Test {
    fn holds(&self, frame: &[u8], decoded: &Decoded) -> bool {
        match self {
            Test::EtherType(kind) => decoded.ether_type == Some(*kind),
            Test::Protocol(protocol) => decoded.protocol == Some(*protocol),
            Test::Ip(side, address, bits) => {
                side.any(decoded.ips, |ip| is_in_net(ip, *address, *bits))
            }
            Test::Port(side, first, last) => {
                side.any(decoded.ports, |port| (*first..=*last).contains(&port))
            }
            Test::Station(side, station) => side.any(decoded.stations, |one| one == *station),
            Test::Broadcast => decoded.stations.is_some_and(|(_, to)| to.0 == [0xff; 6]),
            Test::Multicast => decoded.stations.is_some_and(|(_, to)| to.is_group()),
            Test::Tagged(None) => decoded.tag.is_some(),
            Test::Tagged(tag) => decoded.tag == *tag,
            Test::TcpFlag(flag) => decoded.tcp_flags.is_some_and(|flags| flags & flag != 0),
            Test::Less(len) => frame.len() <= *len,
            Test::Greater(len) => frame.len() >= *len,
        }
    }
}

impl Side {
    /// Tells whether the source, or the target, or one of them is it.
    fn any<T>(self, ends: Option<(T, T)>, is_it: impl Fn(T) -> bool) -> bool {
        let Some((source, target)) = ends else {
            return false;
        };
        match self {
            Side::Source => is_it(source),
            Side::Target => is_it(target),
            Side::Either => is_it(source) || is_it(target),
        }
    }
}

fn is_in_net(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (ip, net, len) = match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => (u32::from(ip).into(), u32::from(net).into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => (u128::from(ip), u128::from(net), 128),
        _ => return false,
    };
    let differing: u128 = ip ^ net;
    differing.checked_shr(len - u32::from(bits)).unwrap_or(0) == 0
}

/// What the fuzzer does with its bytes: the first line is an expression, the rest a frame. An expression means a frame or
/// its opposite does.
pub fn fuzz(bytes: &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (line, frame) = bytes.split_at(end);
    let Ok(filter) = Filter::parse(&String::from_utf8_lossy(line)) else {
        return;
    };
    let meant = filter.matches(frame);
    let _ = Summary(frame).to_string();
    match Filter::parse(&format!("not ({})", filter.as_str())) {
        Ok(opposite) => assert_ne!(meant, opposite.matches(frame)),
        // The parentheses made it too long, or there is nothing in them.
        Err(error) => assert!(error == BadFilter::TooLong || filter.steps.is_empty()),
    }
}

#[cfg(test)]
pub(in crate::wire) mod tests;
