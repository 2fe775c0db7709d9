use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Gives the messages of a stream that comes in pieces.
fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, Malformed> {
    let (mut splitter, mut messages) = (Splitter::default(), Vec::new());
    for piece in pieces {
        splitter.handle_bytes(piece);
        while let Some(message) = splitter.poll_message()? {
            messages.push(message.to_vec());
        }
    }
    Ok(messages)
}

fn split_str(stream: &str) -> Vec<String> {
    let messages = split([stream.as_bytes()]).unwrap();
    messages
        .into_iter()
        .map(|message| String::from_utf8(message).unwrap())
        .collect()
}

#[test]
fn message_ends_with_its_bracket_not_with_its_line() {
    let stream = "{\"return\":\r\n {}}{\"event\": \"A\"}\r\n\r\n \t{\"event\": \"B\"";
    assert_eq!(
        split_str(stream),
        ["{\"return\":\r\n {}}", "{\"event\": \"A\"}"]
    );
}

#[test]
fn brackets_in_strings_do_not_count() {
    let stream = r#"{"return": "}{[\"}\\"}{"return": "\\\"}"}"#;
    assert_eq!(
        split_str(stream),
        [r#"{"return": "}{[\"}\\"}"#, r#"{"return": "\\\"}"}"#]
    );
}

#[test]
fn text_between_messages_is_shown_and_ends_the_stream() {
    let mut splitter = Splitter::default();
    splitter.handle_bytes(b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ");
    let broken = splitter.poll_message().unwrap_err();
    assert!(
        broken.excerpt.starts_with("QEMU 7.2.22 monitor"),
        "{broken}"
    );
    splitter.handle_bytes(b"{}");
    assert_eq!(splitter.poll_message(), Err(broken));
}

#[test]
fn message_as_long_as_allowed_passes_and_a_longer_one_is_refused() {
    let message = |size: usize| [b"{\"", vec![b'x'; size - 4].as_slice(), b"\"}"].concat();
    let longest = message(MESSAGE_MAX);
    let found = split(longest.chunks(1 << 20)).unwrap();
    assert!(
        found == [longest],
        "the longest message is not the one that was sent"
    );

    let too_long = message(MESSAGE_MAX + 1);
    let broken = split(too_long.chunks(1 << 20)).unwrap_err();
    assert_eq!(broken.reason, "a message of more than 67108864 bytes");
    assert_eq!(broken.excerpt.len(), EXCERPT_MAX);
}

#[test]
fn memory_of_a_long_message_is_given_back() {
    let mut splitter = Splitter::default();
    splitter.handle_bytes(&[b"{\"", vec![b'x'; 8 << 20].as_slice(), b"\"}"].concat());
    assert!(splitter.poll_message().unwrap().is_some());
    splitter.handle_bytes(b"{");
    assert!(
        splitter.capacity() < 1 << 20,
        "{} bytes are kept",
        splitter.capacity()
    );
}

#[test]
fn every_kind_of_message_is_told_from_the_others() {
    let parse = |text: &str| Message::parse(text.as_bytes());
    let greeting = parse(
        r#"{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 7}, "package": "p"}, "capabilities": ["oob"]}}"#,
    );
    let Ok(Message::Greeting(greeting)) = greeting else {
        panic!("{greeting:?}")
    };
    assert_eq!(
        (
            greeting.version.qemu.to_string().as_str(),
            greeting.offers_out_of_band()
        ),
        ("7.2.1", true)
    );

    let answer = parse(r#"{"return": null, "id": "t-1", "new": 1}"#);
    let Ok(Message::Return { id, value }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((id, value.get()), (Some(json!("t-1")), "null"));

    let error = parse(r#"{"error": {"class": "GenericError", "desc": "no"}}"#);
    let Ok(Message::Error {
        id: None,
        class,
        description,
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (class.as_str(), description.as_str()),
        ("GenericError", "no")
    );

    let event = parse(r#"{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}"#);
    let Ok(Message::Event {
        name,
        data: Value::Null,
        timestamp: Some(when),
    }) = event
    else {
        panic!("{event:?}")
    };
    assert_eq!((name.as_str(), when.seconds), ("STOP", -1));
}

#[test]
fn what_is_no_message_is_refused() {
    for text in [
        "{}",
        "{]",
        "{\"return\"}",
        r#"{"return": 1, "error": {"class": "", "desc": ""}}"#,
        r#"{"event": 1}"#,
        r#"{"QMP": {}}"#,
        r#"{"error": "no"}"#,
        "{\"event\": \"\u{0}\"}",
    ] {
        assert!(Message::parse(text.as_bytes()).is_err(), "{text} passed");
    }
    assert!(
        Message::parse(b"{\"event\": \"\xff\"}").is_err(),
        "bytes that are not UTF-8 passed"
    );
}

#[test]
fn answer_nested_deeper_than_values_may_be_is_still_a_message() {
    let deep = format!(
        r#"{{"return": {}{}, "id": "t-1"}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let Ok(Message::Return { value, .. }) = Message::parse(deep.as_bytes()) else {
        panic!("refused")
    };
    assert!(
        serde_json::from_str::<Value>(value.get()).is_err(),
        "serde_json reads any depth now"
    );
}

#[test]
fn command_is_written_as_the_specification_says() {
    let encode = |execution, arguments: Option<&Value>| {
        String::from_utf8(encode_command(execution, "stop", arguments, "t-1").unwrap()).unwrap()
    };
    assert_eq!(
        encode(Execution::InBand, None),
        "{\"execute\":\"stop\",\"id\":\"t-1\"}\r\n"
    );
    let arguments = json!({"a": "\"\n"});
    let expected = "{\"exec-oob\":\"stop\",\"arguments\":{\"a\":\"\\\"\\n\"},\"id\":\"t-1\"}\r\n";
    assert_eq!(encode(Execution::OutOfBand, Some(&arguments)), expected);
}

/// A JSON value, not deep, with strings that are hard on a splitter.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[\\PC\"\\\\{}\\[\\]\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a\"\\\\}]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        values in prop::collection::vec((any_json(), any::<bool>()), 0..6),
        cuts in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut stream = Vec::new();
        for (value, is_pretty) in &values {
            let object = json!({"return": value});
            let text = if *is_pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) };
            stream.extend_from_slice(&text.unwrap());
            stream.extend_from_slice(b"\r\n");
        }
        let (mut rest, mut pieces) = (stream.as_slice(), Vec::new());
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = after;
        }
        let messages = split(pieces).unwrap();
        let found: Vec<Value> = messages
            .iter()
            .map(|message| match Message::parse(message) {
                Ok(Message::Return { value, .. }) => serde_json::from_str(value.get()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let sent: Vec<Value> = values.into_iter().map(|(value, _)| value).collect();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_messages(&data);
    }

    #[test]
    fn any_bytes_that_look_like_messages_are_taken(
        size in any::<u8>(),
        parts in prop::collection::vec(prop_oneof![
            Just("{"), Just("}"), Just("["), Just("]"), Just("\""), Just("\\"), Just(":"), Just(","), Just("\r\n"),
            Just("\"return\""), Just("\"event\""), Just("\"error\""), Just("\"QMP\""), Just("\"id\""), Just("null"),
            Just("{\"return\": {}, \"id\": \"f-0\"}"), Just("{\"return\": {}, \"id\": \"f-1\"}"),
            Just("{\"event\": \"STOP\"}"), Just("{\"error\": {\"class\": \"\", \"desc\": \"\"}, \"id\": \"f-0\"}"),
            Just("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 0, \"major\": 9}}}}"),
        ], 0..30),
    ) {
        let mut data = vec![size];
        parts.iter().for_each(|part| data.extend_from_slice(part.as_bytes()));
        fuzz_messages(&data);
    }

    #[test]
    fn command_reads_back_as_it_was_written(
        command in "\\PC{0,20}",
        arguments in any_json(),
        is_out_of_band in any::<bool>(),
    ) {
        let execution = if is_out_of_band { Execution::OutOfBand } else { Execution::InBand };
        let bytes = encode_command(execution, &command, Some(&arguments), "t-1").unwrap();
        let messages = split([bytes.as_slice()]).unwrap();
        let read: Value = serde_json::from_slice(&messages[0]).unwrap();
        let key = if is_out_of_band { "exec-oob" } else { "execute" };
        prop_assert_eq!(messages.len(), 1);
        prop_assert_eq!(read, json!({key: command, "arguments": arguments, "id": "t-1"}));
    }
}
