use super::*;
use proptest::prelude::*;

fn message(code: u32, flags: u32, body: &[u32]) -> Vec<u8> {
    let size = u32::try_from(body.len() * 4).expect("a short body");
    [code, flags, size]
        .iter()
        .chain(body)
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

#[test]
fn head_is_read_when_it_is_all_there() {
    let bytes = message(18, 0x9, &[3, 1]);
    for len in 0..HEADER_LEN {
        assert!(matches!(Header::parse(&bytes[..len]), Ok(None)), "{len}");
    }
    let header = Header::parse(&bytes).expect("a head").expect("all of it");
    assert_eq!((header.code, header.message_len()), (18, 20));
    assert!(header.needs_reply());
}

#[test]
fn head_of_another_version_an_answer_and_a_long_body_are_refused() {
    assert!(Header::parse(&message(1, 2, &[])).is_err());
    assert!(Header::parse(&message(1, 5, &[])).is_err());
    let mut long = message(1, 1, &[]);
    long[8..12].copy_from_slice(&(BODY_MAX + 1).to_ne_bytes());
    assert!(Header::parse(&long).is_err());
}

#[test]
fn enable_wants_on_or_off_and_nothing_else() {
    let parse = |body: &[u32]| {
        let bytes = message(18, 1, body);
        let header = Header::parse(&bytes).expect("a head").expect("all of it");
        Enable::parse(&header, &bytes)
    };
    let on = parse(&[7, 1]).expect("on");
    assert_eq!((on.index, on.is_on), (7, true));
    assert!(!parse(&[7, 0]).expect("off").is_on);
    assert!(parse(&[7, 2]).is_err());
    assert!(parse(&[7]).is_err());
    assert!(parse(&[7, 1, 1]).is_err());
}

#[test]
fn acknowledgement_is_an_answer_of_zero_to_the_same_request() {
    let header = Header::parse(&message(18, 9, &[0, 1])).expect("a head");
    let reply = header.expect("all of it").acknowledge();
    assert_eq!(reply.as_slice(), message(18, 5, &[0, 0]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(prop_oneof![0..48_u8, any::<u8>()], 0..64)) {
        crate::io::fuzz(&bytes);
    }

    #[test]
    fn chains_of_any_memory_come_to_an_end(
        descriptors in prop::collection::vec((0..0x2200_u64, 0..200_u32, 0..8_u16, 0..18_u16), 0..60),
        available in prop::collection::vec(0..18_u16, 0..18),
    ) {
        let mut memory = vec![0; 0x600];
        for (place, (address, len, flags, next)) in descriptors.into_iter().enumerate() {
            // Behind the first 16, which are the queue's, are tables of their own.
            let at = 16 * place + if place < 16 { 0 } else { 0x200 };
            memory[at..at + 8].copy_from_slice(&address.to_le_bytes());
            memory[at + 8..at + 12].copy_from_slice(&len.to_le_bytes());
            memory[at + 12..at + 14].copy_from_slice(&flags.to_le_bytes());
            memory[at + 14..at + 16].copy_from_slice(&next.to_le_bytes());
        }
        memory[0x102..0x104].copy_from_slice(&(available.len() as u16).to_le_bytes());
        for (place, head) in available.into_iter().enumerate() {
            memory[0x104 + 2 * place..][..2].copy_from_slice(&head.to_le_bytes());
        }
        crate::batch::fuzz(&memory);
    }
}

#[test]
fn the_corpora_of_sessions_and_chains_are_digested() {
    for target in ["vhost_user_session", "queue_chains"] {
        let corpus = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).expect("a corpus") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
            match target {
                "queue_chains" => crate::batch::fuzz(&bytes),
                _ => crate::io::fuzz(&bytes),
            }
            count += 1;
        }
        assert!(count > 0, "{corpus} is empty");
    }
}
