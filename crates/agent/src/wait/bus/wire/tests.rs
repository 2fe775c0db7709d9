use proptest::prelude::*;

use super::fake::{Item, encode, message};
use super::*;

fn properties() -> Vec<u8> {
    let changed = vec![
        ("Other".to_owned(), Value::Other),
        ("ActiveState".to_owned(), Value::Text("active".to_owned())),
        ("Time".to_owned(), Value::Number(1 << 40)),
    ];
    let items = [
        Item::text("an.interface"),
        Item::Properties(changed),
        Item::Texts(vec!["gone".to_owned()]),
    ];
    encode(
        Kind::Signal,
        0,
        ["/a/path", "an.interface", "Changed"],
        &items,
    )
}

/// Everything that can be asked of a message: nothing of it may panic.
fn read_all(message: &Message) {
    let arguments = message.arguments();
    let _ = arguments.clone().text();
    let _ = arguments.clone().variant();
    let _ = arguments.clone().number();
    let mut rest = arguments.clone();
    let _ = rest.text();
    let _ = rest.properties(&mut |_, _| {});
    let mut rest = arguments.clone();
    let _ = rest.skip_one(&message.signature);
}

#[test]
fn call_is_read_as_it_was_made() {
    for arguments in [&[][..], &["one"], &["one", "", "drei ü"]] {
        let call = Call {
            destination: "a.name",
            path: "/a/path",
            interface: "an.interface",
            member: "Member",
            arguments,
        };
        let bytes = call.encode(7);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.serial), (Kind::Call, 7));
        assert_eq!(message.path, "/a/path");
        assert_eq!(message.interface, "an.interface");
        assert_eq!(message.member, "Member");
        assert_eq!(message.signature, "s".repeat(arguments.len()));
        let mut reader = message.arguments();
        for argument in arguments {
            assert_eq!(reader.text().unwrap(), *argument);
        }
        assert_eq!(reader.text(), Err(Garbled));
    }
}

#[test]
fn properties_are_read_and_those_of_other_types_are_skipped() {
    let message = Message::parse(&properties()).unwrap();
    let mut reader = message.arguments();
    assert_eq!(reader.text().unwrap(), "an.interface");
    let mut seen = Vec::new();
    reader
        .properties(&mut |name, value| seen.push((name.to_owned(), value)))
        .unwrap();
    assert_eq!(seen[0].1, Value::Other);
    assert_eq!(seen[1].1, Value::Text("active".to_owned()));
    assert_eq!(seen[2].1, Value::Number(1 << 40));
    reader
        .array(4, &mut |reader| {
            reader.text().map(|text| assert_eq!(text, "gone"))
        })
        .unwrap();
}

#[test]
fn answer_says_what_it_answers() {
    let answer = message(Kind::Error, 99, ["", "", "an.Error"], &[Item::text("no")]);
    assert_eq!((answer.reply_to, answer.error.as_str()), (99, "an.Error"));
    assert_eq!(answer.arguments().text().unwrap(), "no");
    let answer = message(
        Kind::Return,
        3,
        ["", "", ""],
        &[Item::Variant(Value::Number(0))],
    );
    assert_eq!(answer.arguments().variant(), Ok(Value::Number(0)));
}

#[test]
fn length_is_known_from_the_first_bytes_and_not_believed_when_absurd() {
    let bytes = properties();
    for len in 0..FIXED_LEN {
        assert_eq!(message_len(&bytes[..len]), Ok(None));
    }
    assert_eq!(message_len(&bytes[..FIXED_LEN]), Ok(Some(bytes.len())));
    for at in [4, 12] {
        let mut long = bytes.clone();
        long[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(message_len(&long), Err(Garbled));
    }
    assert_eq!(message_len(b"HTTP/1.1 400"), Err(Garbled));
}

#[test]
fn values_too_deep_in_each_other_are_refused() {
    let deep = "(".repeat(100) + &")".repeat(100);
    let mut reader = Reader::new(&[0; 64]);
    assert_eq!(reader.skip_one(&deep), Err(Garbled));
    assert_eq!(reader.skip_one(&"a".repeat(200)), Err(Garbled));
    for broken in ["(", "a", "a{", "z", "ss"] {
        assert_eq!(
            Reader::new(&[0; 64]).skip_one(broken),
            Err(Garbled),
            "{broken}"
        );
    }
}

proptest! {
    #[test]
    fn garbage_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message_len(&bytes);
        if let Ok(message) = Message::parse(&bytes) {
            read_all(&message);
        }
    }

    #[test]
    fn message_with_a_flipped_byte_does_not_panic(at in 0..300usize, byte in any::<u8>(), cut in 0..300usize) {
        let mut bytes = properties();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(message) = Message::parse(&bytes) {
            read_all(&message);
        }
        bytes.truncate(cut);
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn arguments_that_are_garbage_do_not_panic(
        body in prop::collection::vec(any::<u8>(), 0..100),
        signature in "[ybnqiuxtdsogvah(){}]{0,12}",
    ) {
        let message = Message { body, signature, ..message(Kind::Signal, 0, ["/", "a.b", "c"], &[]) };
        read_all(&message);
    }
}
