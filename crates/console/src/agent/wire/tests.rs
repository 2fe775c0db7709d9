//! Frames: there and back, in pieces, and what is none.

use super::*;
use proptest::prelude::*;

const SESSION: u64 = 0x0123_4567_89ab_cdef;

fn session(messages: &[(Event, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_preamble(SESSION, &mut bytes);
    for (message, payload) in messages {
        encode_frame(message, payload, &mut bytes).unwrap();
    }
    bytes
}

/// A message, or none for a preamble, and its payload or number.
type Found = (Option<Event>, Vec<u8>);

/// All that a decoder finds in these bytes when it gets so many at a time.
fn decode(mut bytes: &[u8], piece: usize) -> Result<Vec<Found>, WireError> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let len = decoder.feed(&bytes[..piece.min(bytes.len())]);
        bytes = &bytes[len..];
        while let Some(item) = decoder.poll::<Event>()? {
            found.push(match item {
                Item::Preamble { session } => (None, session.to_le_bytes().to_vec()),
                Item::Message { message, payload } => (Some(message), payload.to_vec()),
            });
        }
    }
    Ok(found)
}

fn done(id: Id) -> Event {
    Event::Done {
        id,
        found: String::new(),
    }
}

fn output(id: Id) -> Event {
    Event::Output {
        id,
        stream: Stream::Stderr,
        offset: 7,
    }
}

#[test]
fn messages_and_payloads_come_back() {
    let large = vec![0xf5; PAYLOAD_MAX];
    let bytes = session(&[(done(1), b""), (output(2), &large), (done(3), b"x")]);
    for piece in [1, 7, 4096, bytes.len()] {
        let found = decode(&bytes, piece).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], (None, SESSION.to_le_bytes().to_vec()));
        assert_eq!(found[1], (Some(done(1)), Vec::new()));
        assert_eq!(found[2], (Some(output(2)), large.clone()));
        assert_eq!(found[3], (Some(done(3)), b"x".to_vec()));
    }
}

#[test]
fn what_comes_before_a_preamble_is_skipped() {
    let mut bytes = b"Linux version \0\x01hotbed-age \xf5hB1 and the end of a frame".to_vec();
    bytes.extend_from_slice(&PREAMBLE[..9]);
    bytes.extend(session(&[(done(5), b"")]));
    for piece in 1..64 {
        assert_eq!(decode(&bytes, piece).unwrap()[1], (Some(done(5)), vec![]));
    }
}

#[test]
fn a_preamble_may_stand_where_a_frame_may() {
    let mut bytes = session(&[(done(1), b"")]);
    bytes.extend(session(&[(done(2), b"")]));
    assert_eq!(decode(&bytes, 3).unwrap()[3], (Some(done(2)), vec![]));
}

#[test]
fn garbage_within_a_session_is_an_error() {
    let mut bytes = session(&[]);
    bytes.extend_from_slice(b"login: ");
    assert!(matches!(decode(&bytes, 64), Err(WireError::NotAFrame(found)) if found == b"login: "));
}

#[test]
fn lengths_beyond_the_bounds_are_errors_at_once() {
    for (header, payload) in [
        (HEADER_MAX + 1, 0),
        (0, PAYLOAD_MAX + 1),
        (u32::MAX as usize, 0),
    ] {
        let mut bytes = session(&[]);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&u32::try_from(header).unwrap().to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(payload).unwrap().to_le_bytes());
        let error = decode(&bytes, 1).unwrap_err();
        assert!(matches!(
            error,
            WireError::HeaderTooLong(_) | WireError::PayloadTooLong(_)
        ));
    }
}

#[test]
fn a_header_that_is_no_message_is_an_error() {
    let mut bytes = session(&[]);
    encode_frame(&u64::MAX, b"", &mut bytes).unwrap();
    assert!(matches!(decode(&bytes, 99), Err(WireError::NotAMessage(_))));
    // A message and something more.
    let mut bytes = session(&[]);
    encode_frame(&(done(1), 1_u8), b"", &mut bytes).unwrap();
    assert!(matches!(decode(&bytes, 99), Err(WireError::NotAMessage(_))));
}

#[test]
fn too_much_to_send_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let payload = vec![0; PAYLOAD_MAX + 1];
    assert!(encode_frame(&done(1), &payload, &mut out).is_err());
    let found = "x".repeat(HEADER_MAX);
    assert!(encode_frame(&Event::Done { id: 1, found }, b"", &mut out).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn a_session_that_begins_within_a_frame_is_found_when_nothing_follows() {
    let greeting = Request::Hello { version: VERSION };
    for with_hello in [false, true] {
        let mut bytes = session(&[(output(1), &[b'x'; 1000])]);
        bytes.truncate(bytes.len() - 100);
        let mut tail = Vec::new();
        encode_preamble(9, &mut tail);
        if with_hello {
            encode_frame(&greeting, b"", &mut tail).unwrap();
        }
        bytes.extend_from_slice(&tail);
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        assert!(matches!(
            decoder.poll::<Event>(),
            Ok(Some(Item::Preamble { session: SESSION }))
        ));
        assert_eq!(decoder.poll::<Event>(), Ok(None));
        assert!(decoder.handle_quiet());
        assert_eq!(
            decoder.poll::<Event>(),
            Ok(Some(Item::Preamble { session: 9 }))
        );
        assert!(!decoder.handle_quiet());
    }
}

#[test]
fn a_frame_that_goes_on_is_not_given_up() {
    let mut payload = vec![b'x'; 500];
    payload.extend_from_slice(&PREAMBLE);
    payload.extend_from_slice(&[b'y'; 500]);
    let bytes = session(&[(output(1), &payload)]);
    for cut in 1..bytes.len() {
        let mut decoder = Decoder::new();
        decoder.feed(&bytes[..cut]);
        while let Ok(Some(_)) = decoder.poll::<Event>() {}
        let alone = cut == bytes.len() - 500 + 8; // As if the eight bytes were a session's number.
        assert_eq!(decoder.handle_quiet(), alone, "after {cut} bytes");
    }
}

#[test]
fn a_decoder_holds_a_bounded_part_of_the_stream() {
    let mut decoder = Decoder::new();
    let capacity = decoder.space().len();
    for _ in 0..100 {
        let len = decoder.space().len();
        decoder.handle_read(len);
        assert_eq!(decoder.poll::<Event>(), Ok(None));
        assert!(decoder.space().len() > capacity / 2);
    }
}

#[test]
fn the_corpora_of_the_fuzz_targets_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    let mut count = 0;
    for (target, body) in [
        ("agent_requests", fuzz_requests as fn(&[u8])),
        ("agent_events", fuzz_events),
    ] {
        for entry in std::fs::read_dir(format!("{folder}/{target}")).unwrap() {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} inputs");
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_no_panic(data: Vec<u8>) {
        fuzz_requests(&data);
        fuzz_events(&data);
    }

    #[test]
    fn any_payloads_come_back(payloads: Vec<Vec<u8>>, piece in 1_usize..300) {
        let messages: Vec<_> = payloads.iter().map(|payload| (output(1), payload.as_slice())).collect();
        let found = decode(&session(&messages), piece).unwrap();
        prop_assert_eq!(found.len(), payloads.len() + 1);
        for (found, payload) in found[1..].iter().zip(&payloads) {
            prop_assert_eq!(&found.1, payload);
        }
    }
}
