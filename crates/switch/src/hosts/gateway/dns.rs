//! DNS for the names of a LAN's machines (RFC 1035): A, AAAA, and PTR for their addresses. Nobody else is asked.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRepr};

use super::{GatewayConfig, Known};

/// The gateway's own name.
pub const GATEWAY_NAME: &str = "gateway";

/// How long an answer may be remembered.
const ANSWER_TTL_SECONDS: u32 = 60;

/// Most bytes of a name, and most labels: RFC 1035's 255 bytes.
const NAME_MAX: usize = 255;

/// Most bytes of a label.
const LABEL_MAX: usize = 63;

const HEADER_LEN: usize = 12;

/// The record type of a name for an address, which smoltcp has no name for.
const POINTER: DnsQueryType = DnsQueryType::Unknown(12);

/// Any record type.
const ANY: DnsQueryType = DnsQueryType::Unknown(255);

/// Names and addresses.
#[derive(Debug)]
pub(crate) struct Names {
    /// By name in lower case.
    addresses: HashMap<String, (Ipv4Addr, Ipv6Addr)>,
    /// By the name that stands for the address.
    pointers: HashMap<String, String>,
}

impl Names {
    pub(crate) fn new(config: &GatewayConfig) -> Names {
        let gateway = Known {
            name: GATEWAY_NAME.to_owned(),
            mac: config.mac,
            ipv4: config.ipv4,
            ipv6: config.ipv6,
        };
        let mut names = Names {
            addresses: HashMap::new(),
            pointers: HashMap::new(),
        };
        for machine in std::iter::once(&gateway).chain(&config.machines) {
            let name = machine.name.to_ascii_lowercase();
            for address in [machine.ipv4.into(), machine.ipv6.into()] {
                names.pointers.insert(pointer_name(address), name.clone());
            }
            names.addresses.insert(name, (machine.ipv4, machine.ipv6));
        }
        names
    }

    /// Answers a message; what is not a query gets no answer.
    pub(crate) fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let query = DnsPacket::new_checked(message).ok()?;
        if query.flags().contains(DnsFlags::RESPONSE) {
            return None;
        }
        if query.opcode() != DnsOpcode::Query {
            return Some(failure(&query, DnsRcode::NotImp));
        }
        let question = DnsQuestion::parse(query.payload())
            .ok()
            .filter(|_| query.question_count() == 1);
        let Some((_, question)) = question else {
            return Some(failure(&query, DnsRcode::FormErr));
        };
        let Some(name) = name_of(&query, question.name) else {
            return Some(failure(&query, DnsRcode::FormErr));
        };
        let records = self.records(&name, question.type_);
        let rcode = if records.is_some() {
            DnsRcode::NoError
        } else {
            DnsRcode::NXDomain
        };
        let records = records.unwrap_or_default();
        let repr = DnsRepr {
            transaction_id: query.transaction_id(),
            opcode: DnsOpcode::Query,
            flags: answer_flags(&query),
            question,
        };
        let mut answer = vec![0; repr.buffer_len()];
        let mut packet = DnsPacket::new_unchecked(&mut answer[..]);
        repr.emit(&mut packet);
        packet.set_answer_record_count(u16::try_from(records.len()).unwrap_or(0));
        set_rcode(&mut answer, rcode);
        for (kind, data) in &records {
            push_record(&mut answer, *kind, data);
        }
        Some(answer)
    }

    /// The records of a name; `None` if there is no such name.
    fn records(&self, name: &str, wanted: DnsQueryType) -> Option<Vec<(DnsQueryType, Vec<u8>)>> {
        let is_wanted = |kind| [kind, ANY].contains(&wanted);
        let mut records = Vec::new();
        if let Some(target) = self.pointers.get(name) {
            if is_wanted(POINTER) {
                records.push((POINTER, encode_name(target)));
            }
            return Some(records);
        }
        let (ipv4, ipv6) = self.addresses.get(name)?;
        if is_wanted(DnsQueryType::A) {
            records.push((DnsQueryType::A, ipv4.octets().to_vec()));
        }
        if is_wanted(DnsQueryType::Aaaa) {
            records.push((DnsQueryType::Aaaa, ipv6.octets().to_vec()));
        }
        Some(records)
    }
}

/// The name in lower case, its labels joined by dots. A name that goes on elsewhere in the message is none that anybody asks for.
fn name_of(query: &DnsPacket<&[u8]>, bytes: &[u8]) -> Option<String> {
    let mut name = String::new();
    for label in query.parse_name(bytes) {
        let label = std::str::from_utf8(label.ok()?).ok()?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&label.to_ascii_lowercase());
        if name.len() > NAME_MAX {
            return None;
        }
    }
    (bytes.last() == Some(&0)).then_some(name)
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(LABEL_MAX)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// The name that stands for an address (RFC 1035, 3596).
fn pointer_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address
                .octets()
                .into_iter()
                .rev()
                .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            format!("{}ip6.arpa", digits.collect::<String>())
        }
    }
}

/// Adds a record for the name in the question.
fn push_record(answer: &mut Vec<u8>, kind: DnsQueryType, data: &[u8]) {
    let (name, class_in) = (0xc000 | HEADER_LEN as u16, 1_u16);
    for field in [name, kind.into(), class_in] {
        answer.extend(field.to_be_bytes());
    }
    answer.extend(ANSWER_TTL_SECONDS.to_be_bytes());
    answer.extend((data.len() as u16).to_be_bytes());
    answer.extend(data);
}

fn answer_flags(query: &DnsPacket<&[u8]>) -> DnsFlags {
    DnsFlags::RESPONSE | DnsFlags::AUTHORITATIVE | query.flags() & DnsFlags::RECURSION_DESIRED
}

/// An answer without the question.
fn failure(query: &DnsPacket<&[u8]>, rcode: DnsRcode) -> Vec<u8> {
    let mut answer = vec![0; HEADER_LEN];
    let mut packet = DnsPacket::new_unchecked(&mut answer[..]);
    packet.set_transaction_id(query.transaction_id());
    packet.set_opcode(query.opcode());
    packet.set_flags(answer_flags(query));
    set_rcode(&mut answer, rcode);
    answer
}

/// The code has the low four bits of the fourth byte to itself.
fn set_rcode(answer: &mut [u8], rcode: DnsRcode) {
    answer[3] |= u8::from(rcode);
}

/// What a fuzzer throws at DNS: a query is answered with a whole message of the same number, or not at all.
pub fn fuzz(data: &[u8]) {
    let names = Names::new(&super::fuzz_config());
    let Some(answer) = names.answer(data) else {
        return;
    };
    let packet = DnsPacket::new_checked(&answer[..]).expect("a whole header");
    assert_eq!(
        packet.transaction_id().to_be_bytes(),
        data[..2],
        "the number of the query"
    );
    assert!(packet.flags().contains(DnsFlags::RESPONSE));
    let mut rest = packet.payload();
    for _ in 0..packet.question_count() {
        rest = DnsQuestion::parse(rest).expect("the question").0;
    }
    for _ in 0..packet.answer_record_count() {
        rest = smoltcp::wire::DnsRecord::parse(rest).expect("a record").0;
    }
    assert!(rest.is_empty(), "nothing behind the last record");
}

#[cfg(test)]
mod tests;
