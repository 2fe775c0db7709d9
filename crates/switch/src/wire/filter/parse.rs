//! From an expression to steps.

use std::net::IpAddr;
use std::str::FromStr;

use super::{BadFilter, DEPTH_MAX, EXPRESSION_MAX, Side, Step, TESTS_MAX, Test};
use crate::wire::MacAddr;
use crate::wire::decode::{
    ARP, FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN, ICMP, ICMP6, IPV4, IPV6, TCP, UDP,
};

pub(super) fn parse(text: &str) -> Result<Vec<Step>, BadFilter> {
    if text.len() > EXPRESSION_MAX {
        return Err(BadFilter::TooLong);
    }
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut parser = Parser {
        words: spaced.split_whitespace().collect(),
        at: 0,
        tests: 0,
        steps: Vec::new(),
    };
    if !parser.words.is_empty() {
        parser.read_either(0)?;
    }
    match parser.words.get(parser.at) {
        Some(word) => Err(BadFilter::Unexpected((*word).to_owned())),
        None => Ok(parser.steps),
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    tests: usize,
    steps: Vec<Step>,
}

impl<'a> Parser<'a> {
    fn read_either(&mut self, depth: usize) -> Result<(), BadFilter> {
        self.read_both(depth)?;
        while self.take("or") {
            self.read_both(depth)?;
            self.steps.push(Step::Or);
        }
        Ok(())
    }

    fn read_both(&mut self, depth: usize) -> Result<(), BadFilter> {
        self.read_one(depth)?;
        while self.take("and") {
            self.read_one(depth)?;
            self.steps.push(Step::And);
        }
        Ok(())
    }

    fn read_one(&mut self, depth: usize) -> Result<(), BadFilter> {
        if depth > DEPTH_MAX {
            return Err(BadFilter::TooLong);
        }
        if self.take("not") {
            self.read_one(depth + 1)?;
            self.steps.push(Step::Not);
            return Ok(());
        }
        if self.take("(") {
            self.read_either(depth + 1)?;
            return match self.word()? {
                ")" => Ok(()),
                other => Err(BadFilter::Unexpected(other.to_owned())),
            };
        }
        let test = self.read_test()?;
        self.tests += 1;
        if self.tests > TESTS_MAX {
            return Err(BadFilter::TooLong);
        }
        self.steps.push(Step::Test(test));
        Ok(())
    }

    fn read_test(&mut self) -> Result<Test, BadFilter> {
        let side = self.side();
        Ok(match (self.word()?, side) {
            ("host", side) => {
                let ip: IpAddr = self.value("an IP address")?;
                Test::Ip(side, ip, if ip.is_ipv4() { 32 } else { 128 })
            }
            ("net", side) => self.read_net(side)?,
            ("port", side) => Test::Port(side, self.value("a port")?),
            (word, side) if side != Side::Either => {
                return Err(BadFilter::Unexpected(word.to_owned()));
            }
            ("arp", _) => Test::EtherType(ARP),
            ("ip", _) => Test::EtherType(IPV4),
            ("ip6", _) => Test::EtherType(IPV6),
            ("icmp", _) => Test::Protocol(ICMP),
            ("icmp6", _) => Test::Protocol(ICMP6),
            ("tcp", _) => Test::Protocol(TCP),
            ("udp", _) => Test::Protocol(UDP),
            ("syn", _) => Test::TcpFlag(FLAG_SYN),
            ("ack", _) => Test::TcpFlag(FLAG_ACK),
            ("fin", _) => Test::TcpFlag(FLAG_FIN),
            ("rst", _) => Test::TcpFlag(FLAG_RST),
            ("broadcast", _) => Test::Broadcast,
            ("multicast", _) => Test::Multicast,
            ("less", _) => Test::Less(self.value("a length")?),
            ("greater", _) => Test::Greater(self.value("a length")?),
            ("vlan", _) => {
                let number = self.words.get(self.at).and_then(|word| word.parse().ok());
                self.at += usize::from(number.is_some());
                Test::Tagged(number)
            }
            ("ether", _) => {
                let side = self.side();
                // `ether src host X` is `ether src X`.
                let is_host = self.take("host");
                if side == Side::Either && !is_host {
                    return Err(BadFilter::Unexpected(self.word()?.to_owned()));
                }
                Test::Station(side, self.value("an Ethernet address")?)
            }
            (word, _) => return Err(BadFilter::Unexpected(word.to_owned())),
        })
    }

    fn read_net(&mut self, side: Side) -> Result<Test, BadFilter> {
        let word = self.word()?;
        let bad = || BadFilter::Value(word.to_owned(), "a network, as 10.0.0.0/8");
        let (address, bits) = word.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits = bits.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(bad());
        }
        Ok(Test::Ip(side, address, bits))
    }

    fn side(&mut self) -> Side {
        if self.take("src") {
            Side::Source
        } else if self.take("dst") {
            Side::Target
        } else {
            Side::Either
        }
    }

    fn value<T: FromStr>(&mut self, what: &'static str) -> Result<T, BadFilter> {
        let word = self.word()?;
        let bad = |_| BadFilter::Value(word.to_owned(), what);
        word.parse().map_err(bad)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_it = self.words.get(self.at) == Some(&wanted);
        self.at += usize::from(is_it);
        is_it
    }

    fn word(&mut self) -> Result<&'a str, BadFilter> {
        let word = self.words.get(self.at).ok_or(BadFilter::Unfinished)?;
        self.at += 1;
        Ok(word)
    }
}

/// Why a text is no Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address has six bytes in hexadecimal with colons between them")]
pub struct NoAddress;

impl FromStr for MacAddr {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<MacAddr, NoAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(NoAddress)?;
            let is_hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            if part.len() > 2 || !is_hex {
                return Err(NoAddress);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoAddress)?;
        }
        parts
            .next()
            .is_none()
            .then_some(MacAddr(bytes))
            .ok_or(NoAddress)
    }
}
