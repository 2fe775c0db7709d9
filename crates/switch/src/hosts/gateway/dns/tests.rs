use proptest::prelude::*;
use smoltcp::wire::{DnsRecord, DnsRecordData};

use super::*;
use crate::hosts::gateway::fuzz_config;
use crate::hosts::tests::{MACHINE_V4, MACHINE_V6};

fn query(name: &str, kind: DnsQueryType) -> Vec<u8> {
    let name = encode_name(name);
    let question = DnsQuestion {
        name: &name,
        type_: kind,
    };
    let repr = DnsRepr {
        transaction_id: 0x1234,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DnsPacket::new_unchecked(&mut bytes[..]));
    bytes
}

/// What comes back: the code, and the records' data as text.
fn ask(query: &[u8]) -> (DnsRcode, Vec<String>) {
    let answer = Names::new(&fuzz_config()).answer(query).unwrap();
    let packet = DnsPacket::new_checked(&answer[..]).unwrap();
    assert_eq!(packet.transaction_id(), 0x1234);
    assert_eq!(
        packet.flags(),
        DnsFlags::RESPONSE | DnsFlags::AUTHORITATIVE | DnsFlags::RECURSION_DESIRED
    );
    let mut rest = packet.payload();
    for _ in 0..packet.question_count() {
        rest = DnsQuestion::parse(rest).unwrap().0;
    }
    let mut records = Vec::new();
    for _ in 0..packet.answer_record_count() {
        let (behind, record) = DnsRecord::parse(rest).unwrap();
        rest = behind;
        records.push(match record.data {
            DnsRecordData::A(address) => address.to_string(),
            DnsRecordData::Aaaa(address) => address.to_string(),
            DnsRecordData::Other(POINTER, name) => name_of(&packet, name).unwrap(),
            other => panic!("{other:?}"),
        });
    }
    assert!(rest.is_empty());
    (packet.rcode(), records)
}

#[test]
fn machines_have_their_names_and_addresses_both_ways() {
    let (v4, v6) = (MACHINE_V4.to_string(), MACHINE_V6.to_string());
    assert_eq!(
        ask(&query("alice", DnsQueryType::A)),
        (DnsRcode::NoError, vec![v4.clone()])
    );
    assert_eq!(
        ask(&query("ALICE", DnsQueryType::Aaaa)),
        (DnsRcode::NoError, vec![v6.clone()])
    );
    assert_eq!(ask(&query("alice", ANY)), (DnsRcode::NoError, vec![v4, v6]));
    let back = |name| ask(&query(name, POINTER));
    assert_eq!(
        back("1.1.168.192.in-addr.arpa"),
        (DnsRcode::NoError, vec!["alice".to_owned()])
    );
    let digits = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(back(digits), (DnsRcode::NoError, vec!["alice".to_owned()]));
    assert_eq!(
        ask(&query(GATEWAY_NAME, DnsQueryType::A)),
        (DnsRcode::NoError, vec!["192.168.1.254".to_owned()])
    );
}

#[test]
fn other_names_are_nobodys_and_other_records_are_not_there() {
    for name in [
        "bob",
        "alice.example.org",
        "example.org",
        "2.1.168.192.in-addr.arpa",
    ] {
        assert_eq!(
            ask(&query(name, DnsQueryType::A)),
            (DnsRcode::NXDomain, vec![]),
            "{name}"
        );
    }
    assert_eq!(
        ask(&query("alice", DnsQueryType::Soa)),
        (DnsRcode::NoError, vec![])
    );
    assert_eq!(
        ask(&query("1.1.168.192.in-addr.arpa", DnsQueryType::A)),
        (DnsRcode::NoError, vec![])
    );
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let names = Names::new(&fuzz_config());
    let good = query("alice", DnsQueryType::A);
    let changed = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert!(names.answer(&good[..11]).is_none(), "no whole header");
    assert!(names.answer(&changed(2, 0x81)).is_none(), "an answer");
    assert_eq!(ask(&changed(2, 0x29)).0, DnsRcode::NotImp);
    assert_eq!(ask(&changed(5, 2)).0, DnsRcode::FormErr, "two questions");
    assert_eq!(ask(&good[..good.len() - 1]).0, DnsRcode::FormErr);
    assert_eq!(
        ask(&changed(good.len() - 1, 3)).0,
        DnsRcode::FormErr,
        "another class"
    );
    let to_itself = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(
        ask(&to_itself).0,
        DnsRcode::FormErr,
        "a name that goes on in itself"
    );
}

proptest! {
    #[test]
    fn any_message_is_answered_well_or_not_at_all(
        name in proptest::sample::select(vec!["alice", "gateway", "1.1.168.192.in-addr.arpa", "bob"]),
        kind in proptest::sample::select(vec![1_u16, 6, 12, 28, 255]),
        change in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut message = [query(name, kind.into()), behind].concat();
        if let Some((at, byte)) = change {
            let at = at.index(message.len());
            message[at] = byte;
        }
        fuzz(&message);
    }

    #[test]
    fn a_pointer_names_the_address_that_it_is_for(bits in any::<u128>()) {
        let name = pointer_name(Ipv6Addr::from_bits(bits).into());
        let digits: String = name.trim_end_matches(".ip6.arpa").split('.').rev().collect();
        prop_assert_eq!(u128::from_str_radix(&digits, 16).unwrap(), bits);
    }
}
