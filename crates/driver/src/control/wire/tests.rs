use proptest::prelude::*;

use super::{Decoder, Garbled, Message, Open, PAYLOAD_MAX, fuzz};
use crate::machine::program::TerminalSize;

fn messages() -> Vec<Message> {
    let size = TerminalSize {
        columns: 300,
        rows: 50,
    };
    vec![
        Message::Open(Open {
            machine: "alice".to_owned(),
            terminal: Some((80, 24, "xterm".to_owned())),
        }),
        Message::Opened { is_terminal: true },
        Message::Input(b"ls\n".to_vec()),
        Message::InputEnd,
        Message::Resize(size),
        Message::Output(vec![0, 255]),
        Message::Errors(b"no".to_vec()),
        Message::Ended(-9),
        Message::Failed {
            is_usage: true,
            text: "why".to_owned(),
        },
    ]
}

/// All messages that come of these bytes, given in pieces of that size.
fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Garbled> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.handle_read(piece);
        while let Some(message) = decoder.poll()? {
            found.push(message);
        }
    }
    Ok(found)
}

#[test]
fn messages_come_back_whatever_pieces_they_come_in() {
    let mut bytes = Vec::new();
    for message in messages() {
        message.encode(&mut bytes);
    }
    for piece in [1, 3, 7, bytes.len()] {
        assert_eq!(decode(&bytes, piece), Ok(messages()));
    }
}

#[test]
fn long_outputs_are_cut_and_nothing_is_lost() {
    let long = vec![7; PAYLOAD_MAX * 2 + 5];
    let mut bytes = Vec::new();
    Message::Output(long.clone()).encode(&mut bytes);
    let found = decode(&bytes, 10_000).expect("messages");
    let all: Vec<u8> = found
        .into_iter()
        .flat_map(|message| match message {
            Message::Output(bytes) => bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(all, long);
}

#[test]
fn what_is_no_message_is_refused() {
    for bytes in [
        &[b'i', 255, 255, 255, 255][..],
        &[b'?', 0, 0, 0, 0],
        &[b's', 1, 0, 0, 0, 9],
        &[b'X', 0, 0, 0, 0],
        &[b'O', 2, 0, 0, 0, b'{', b'}'],
    ] {
        assert_eq!(decode(bytes, 100), Err(Garbled), "{bytes:?}");
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let reason = Message::Failed {
        is_usage: false,
        text: "é".repeat(PAYLOAD_MAX),
    };
    let mut bytes = Vec::new();
    reason.encode(&mut bytes);
    let found = decode(&bytes, bytes.len()).expect("a message");
    let [Message::Failed { text, .. }] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(*text, "é".repeat((PAYLOAD_MAX - 1) / 2));
}

#[test]
fn the_corpus_of_the_control_socket_is_digested() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/control_messages"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).expect("a corpus") {
        fuzz(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        count += 1;
    }
    assert!(count >= 9, "only {count} inputs in {corpus}");
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_no_panic(data: Vec<u8>) {
        fuzz(&data);
    }
}
