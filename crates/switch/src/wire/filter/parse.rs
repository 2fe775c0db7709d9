//! From an expression to steps.

use std::net::IpAddr;
use std::str::FromStr;

use super::{BadFilter, DEPTH_MAX, EXPRESSION_MAX, Side, Step, TESTS_MAX, Test};
use crate::wire::MacAddr;
use crate::wire::decode::{
    ARP, FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN, ICMP, ICMP6, IPV4, IPV6, TCP, UDP,
};

/// Words that stand for others.
const SIGNS: [(&str, &str); 3] = [("!", "not"), ("&&", "and"), ("||", "or")];

/// What can be asked about addresses, and about ports.
const ADDRESSES: [&str; 2] = ["host", "net"];
const PORTS: [&str; 2] = ["port", "portrange"];

pub(super) fn parse(text: &str) -> Result<Vec<Step>, BadFilter> {
    if text.len() > EXPRESSION_MAX {
        return Err(BadFilter::TooLong);
    }
    let mut parser = Parser {
        words: words(text),
        at: 0,
        tests: 0,
        steps: Vec::new(),
    };
    if !parser.words.is_empty() {
        parser.read_either(0)?;
    }
    match parser.words.get(parser.at) {
        Some(word) => Err(word.unexpected()),
        None => Ok(parser.steps),
    }
}

/// A word, and how many characters are before it.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

impl Word<'_> {
    fn unexpected(self) -> BadFilter {
        BadFilter::Unexpected {
            word: self.text.to_owned(),
            at: self.at,
        }
    }

    fn is_no(self, what: &'static str) -> BadFilter {
        BadFilter::Value {
            word: self.text.to_owned(),
            at: self.at,
            what,
        }
    }

    fn parse<T: FromStr>(self, what: &'static str) -> Result<T, BadFilter> {
        self.text.parse().map_err(|_| self.is_no(what))
    }
}

/// Parentheses and `!` are words by themselves; white space is between the others.
fn words(text: &str) -> Vec<Word<'_>> {
    let (mut words, mut start) = (Vec::new(), None);
    let end = text.chars().count();
    let ends = std::iter::once((end, (text.len(), ' ')));
    for (at, (byte, char)) in text.char_indices().enumerate().chain(ends) {
        let stands_alone = matches!(char, '(' | ')' | '!');
        if !stands_alone && !char.is_whitespace() {
            start.get_or_insert((at, byte));
            continue;
        }
        if let Some((at, first)) = start.take() {
            let text = &text[first..byte];
            words.push(Word { text, at });
        }
        if stands_alone {
            let text = &text[byte..=byte];
            words.push(Word { text, at });
        }
    }
    for word in &mut words {
        let sign = SIGNS.iter().find(|(sign, _)| *sign == word.text);
        word.text = sign.map_or(word.text, |(_, meaning)| meaning);
    }
    words
}

struct Parser<'a> {
    words: Vec<Word<'a>>,
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
            let word = self.word()?;
            return match word.text {
                ")" => Ok(()),
                _ => Err(word.unexpected()),
            };
        }
        self.read_primitive()
    }

    fn push(&mut self, test: Test) -> Result<(), BadFilter> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            return Err(BadFilter::TooLong);
        }
        self.steps.push(Step::Test(test));
        Ok(())
    }

    /// Reads a test, maybe with a protocol before it: `tcp port 80` is `tcp and port 80`.
    fn read_primitive(&mut self) -> Result<(), BadFilter> {
        let (protocol, ends) = match self.peek() {
            Some("arp") => (Test::EtherType(ARP), &ADDRESSES[..]),
            Some("ip") => (Test::EtherType(IPV4), &ADDRESSES[..]),
            Some("ip6") => (Test::EtherType(IPV6), &ADDRESSES[..]),
            Some("tcp") => (Test::Protocol(TCP), &PORTS[..]),
            Some("udp") => (Test::Protocol(UDP), &PORTS[..]),
            Some("icmp") => (Test::Protocol(ICMP), &[][..]),
            Some("icmp6") => (Test::Protocol(ICMP6), &[][..]),
            Some("src" | "dst" | "host" | "net" | "port" | "portrange") => {
                let test = self.read_ends(&[&ADDRESSES[..], &PORTS[..]].concat())?;
                return self.push(test);
            }
            _ => {
                let test = self.read_word()?;
                return self.push(test);
            }
        };
        self.at += 1;
        self.push(protocol)?;
        let follows = |word| word == "src" || word == "dst" || ends.contains(&word);
        if !ends.is_empty() && self.peek().is_some_and(follows) {
            let test = self.read_ends(ends)?;
            self.push(test)?;
            self.steps.push(Step::And);
        }
        Ok(())
    }

    /// Reads what is asked about the ends of a frame: one of the kinds of `allowed`.
    fn read_ends(&mut self, allowed: &[&str]) -> Result<Test, BadFilter> {
        let side = self.side();
        let kind = self.word()?;
        if side != Side::Either && allowed.contains(&"host") && kind.text.parse::<IpAddr>().is_ok()
        {
            return host(side, kind); // `src 10.0.0.1` is `src host 10.0.0.1`.
        }
        if !allowed.contains(&kind.text) {
            return Err(kind.unexpected());
        }
        let value = self.word()?;
        match kind.text {
            "host" => host(side, value),
            "net" => net(side, value),
            "port" => {
                let port = value.parse("a port")?;
                Ok(Test::Port(side, port, port))
            }
            _ => {
                let what = "a range of ports, as 1-1023";
                let (first, last) = value.text.split_once('-').ok_or(value.is_no(what))?;
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) if first <= last => Ok(Test::Port(side, first, last)),
                    _ => Err(value.is_no(what)),
                }
            }
        }
    }

    fn read_word(&mut self) -> Result<Test, BadFilter> {
        let word = self.word()?;
        Ok(match word.text {
            "syn" => Test::TcpFlag(FLAG_SYN),
            "ack" => Test::TcpFlag(FLAG_ACK),
            "fin" => Test::TcpFlag(FLAG_FIN),
            "rst" => Test::TcpFlag(FLAG_RST),
            "broadcast" => Test::Broadcast,
            "multicast" => Test::Multicast,
            "less" => Test::Less(self.word()?.parse("a length")?),
            "greater" => Test::Greater(self.word()?.parse("a length")?),
            "vlan" => {
                let number = self.peek().and_then(|word| word.parse().ok());
                self.at += usize::from(number.is_some());
                Test::Tagged(number)
            }
            "ether" => self.read_ether()?,
            _ => return Err(word.unexpected()),
        })
    }

    fn read_ether(&mut self) -> Result<Test, BadFilter> {
        if self.take("proto") {
            let word = self.word()?;
            let hexadecimal = word.text.strip_prefix("0x");
            let kind = match hexadecimal {
                Some(digits) => u16::from_str_radix(digits, 16),
                None => word.text.parse(),
            };
            let kind = kind.map_err(|_| word.is_no("a type of frames, as 0x88cc"))?;
            return Ok(Test::EtherType(kind));
        }
        let side = self.side();
        // `ether src host X` is `ether src X`.
        let is_host = self.take("host");
        let word = self.word()?;
        match word.text {
            "broadcast" if side == Side::Either && !is_host => Ok(Test::Broadcast),
            "multicast" if side == Side::Either && !is_host => Ok(Test::Multicast),
            _ if side == Side::Either && !is_host => Err(word.unexpected()),
            _ => Ok(Test::Station(side, word.parse("an Ethernet address")?)),
        }
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

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|word| word.text)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_it = self.peek() == Some(wanted);
        self.at += usize::from(is_it);
        is_it
    }

    fn word(&mut self) -> Result<Word<'a>, BadFilter> {
        let word = self.words.get(self.at).ok_or(BadFilter::Unfinished)?;
        self.at += 1;
        Ok(*word)
    }
}

fn host(side: Side, word: Word<'_>) -> Result<Test, BadFilter> {
    let ip: IpAddr = word.parse("an IP address")?;
    Ok(Test::Ip(side, ip, if ip.is_ipv4() { 32 } else { 128 }))
}

fn net(side: Side, word: Word<'_>) -> Result<Test, BadFilter> {
    let bad = || word.is_no("a network, as 10.0.0.0/8");
    let (address, bits) = word.text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let bits = bits.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits > most {
        return Err(bad());
    }
    Ok(Test::Ip(side, address, bits))
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
