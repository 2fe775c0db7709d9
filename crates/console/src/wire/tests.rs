use super::*;
use proptest::prelude::*;

const SESSION: &str = "0123456789abcdef";

/// What command 7 gets from these bytes, given in pieces of that many bytes, with adjacent pieces of output joined.
fn found(bytes: &[u8], piece: usize) -> Vec<Event> {
    let mut parser = Parser::new(SESSION);
    parser.want(Some(7));
    let mut events = Vec::new();
    for bytes in bytes.chunks(piece) {
        parser.handle_input(bytes);
        while let Some(event) = parser.poll_event() {
            match (events.last_mut(), event) {
                (Some(Event::Output(output)), Event::Output(more)) => output.extend(more),
                (_, event) => events.push(event),
            }
        }
    }
    events
}

/// What it gets when all comes at once; the same must come of single bytes.
fn all(bytes: &[u8]) -> Vec<Event> {
    let events = found(bytes, INPUT_MAX);
    assert_eq!(found(bytes, 1), events, "the pieces made a difference");
    events
}

fn answer(kind: &str, text: &[u8], rest: &str, number: u64, verdict: &str) -> Vec<u8> {
    let head = format!("<{SESSION}.{number} {} {kind}:", text.len());
    [
        head.as_bytes(),
        text,
        rest.as_bytes(),
        format!("|{SESSION}.{number} {verdict}>").as_bytes(),
    ]
    .concat()
}

fn output(text: &[u8]) -> Event {
    Event::Output(text.to_vec())
}

#[test]
fn short_answer_is_its_text() {
    assert_eq!(
        all(&answer("=", b"hi|there>\x01", "", 7, "0")),
        [output(b"hi|there>\x01"), Event::End(0)]
    );
    assert_eq!(all(&answer("=", b"", "", 7, "255")), [Event::End(255)]);
    assert_eq!(
        all(&answer("~", b"a\x1eb\x1e", "", 7, "1")),
        [output(b"a\nb\n"), Event::End(1)]
    );
}

#[test]
fn long_answer_goes_on_in_base64() {
    assert_eq!(
        all(&answer("+", b"ab", "\x01Y2Q=", 7, "0")),
        [output(b"abcd"), Event::End(0)]
    );
    assert_eq!(
        all(&answer("0", b"ab", "\x01Y2Q=", 7, "0")),
        [output(b"ab\0cd"), Event::End(0)]
    );
    assert_eq!(
        all(&answer("0", b"", "\x01", 7, "3")),
        [output(b"\0"), Event::End(3)]
    );
}

#[test]
fn answer_to_another_command_is_skipped() {
    let text = answer("=", b"wanted", "", 7, "0");
    let bytes = [
        answer("=", b"late", "", 6, "1"),
        answer("+", b"late", "\x01Y2Q=", 5, "1"),
        answer("=", &text, "", 4, "0"), // An old output that looks like the answer itself.
        text.clone(),
        answer("=", b"early", "", 77, "1"),
    ]
    .concat();
    assert_eq!(all(&bytes), [output(b"wanted"), Event::End(0)]);
}

#[test]
fn discarded_attempt_is_said_to_be_one() {
    let bytes = [
        answer("+", b"no", "\x01", 7, "!"),
        answer("=", b"yes", "", 7, "0"),
    ]
    .concat();
    assert_eq!(
        all(&bytes),
        [output(b"no"), Event::Discard, output(b"yes"), Event::End(0)]
    );
}

#[test]
fn file_may_come_and_may_stop() {
    let bytes = format!("<{SESSION}.7 go><{SESSION}.6 stop><{SESSION}.7 stop>");
    assert_eq!(all(bytes.as_bytes()), [Event::Go, Event::Stop]);
}

#[test]
fn missing_tool_is_named() {
    assert_eq!(
        all(&answer("+", b"", "\x01", 7, "?base64")),
        [Event::Unable("base64".into())]
    );
}

#[test]
fn echo_of_what_was_sent_is_no_answer() {
    let echo = format!("_hb_i={SESSION}\n_hb 7 f 'true'\n: {SESSION} end\n <{SESSION} ");
    assert_eq!(all(echo.as_bytes()), []);
}

#[test]
fn stray_bytes_inside_an_answer_never_become_output() {
    let whole = answer("=", b"0123456789", "", 7, "0");
    let stream = answer(
        "+",
        b"0123456789",
        "\x01MDEyMzQ1Njc4OTAxMjM0NTY3ODk=",
        7,
        "0",
    );
    for (bytes, stray) in [
        (&whole, "\n"),
        (&whole, "a stray line\n"),
        (&stream, "a stray line\n"),
        (&stream, "x\n"),
    ] {
        for at in 1..bytes.len() {
            let damaged = [&bytes[..at], stray.as_bytes(), &bytes[at..]].concat();
            let events = all(&damaged);
            let last = events.last();
            assert!(
                matches!(last, None | Some(Event::Garbled(_))),
                "{events:?} from {}",
                damaged.escape_ascii()
            );
            assert!(
                last.is_some() || at < SESSION.len() + 2,
                "lost silently, damaged at {at}"
            );
        }
    }
}

#[test]
fn lost_head_is_noticed() {
    let bytes = answer("=", b"text", "", 7, "0");
    assert_eq!(all(&bytes[1..]), [Event::Garbled("no head")]);
}

#[test]
fn base64_that_ends_early_counts_only_after_a_timeout() {
    assert_eq!(
        all(&answer("+", b"ab", "\x01Y2Q=Y2Q=", 7, "0")),
        [
            output(b"ab"),
            Event::Garbled("its base64"),
            Event::Garbled("no head")
        ]
    );
    assert_eq!(
        all(&answer("+", b"ab", "\x01Y2Q", 7, "0")),
        [
            output(b"ab"),
            Event::Garbled("its base64"),
            Event::Garbled("no head")
        ]
    );
    assert_eq!(
        all(&answer("+", b"ab", "\x01Y2NjZ", 7, "124")),
        [output(b"abccc"), Event::End(124)]
    );
}

#[test]
fn announcement_is_found_between_answers_and_after_one_that_broke_off() {
    let said = b"booting\nSpawning backdoor root shell...\n";
    assert_eq!(all(said), [Event::Announced]);
    assert_eq!(
        all(&answer("=", said, "", 6, "0")),
        [],
        "the output of some command is none"
    );
    let broken = format!("<{SESSION}.7 2 +:ab\x01{}", "QUJD".repeat(100));
    let events = all(&[broken.as_bytes(), said].concat());
    assert_eq!(events.last(), Some(&Event::Announced));
    assert_eq!(events[1], Event::Garbled("its base64"));
}

#[test]
fn head_that_promises_too_much_is_not_believed() {
    let head = |len: usize| format!("<{SESSION}.7 {len} =:");
    assert_eq!(all(head(TEXT_MAX).as_bytes()), []);
    assert_eq!(
        all(head(TEXT_MAX + 1).as_bytes()),
        [Event::Garbled("its head")]
    );
    assert_eq!(
        all(format!("<{SESSION}.7 {}", "9".repeat(100)).as_bytes()),
        [Event::Garbled("its head")]
    );
    assert_eq!(
        all(&answer("=", b"", "", 7, "256")),
        [Event::Garbled("its text")]
    );
}

#[test]
fn noise_is_kept_within_bounds_and_ends_with_the_latest() {
    let mut parser = Parser::new(SESSION);
    for count in 0..10_000 {
        parser.handle_input(
            format!("[ 1.{count:06}] kernel says: something of no importance\n").as_bytes(),
        );
    }
    assert!(
        parser.capacity() <= 4 * HEARD_MAX + INPUT_MAX,
        "{} bytes are kept",
        parser.capacity()
    );
    assert!(parser.heard().len() <= HEARD_MAX);
    assert!(String::from_utf8_lossy(parser.heard()).contains("1.009998]"));
}

#[test]
fn fuzz_corpus_passes() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/console_answers"
    );
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzz_answers(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "the corpus is missing");
}

proptest! {
    #[test]
    fn any_pieces_and_any_bytes_before_give_the_same(
        before in prop::collection::vec(any::<u8>(), 0..200),
        text in prop::collection::vec(any::<u8>(), 0..300),
        rest in prop::option::of(prop::collection::vec(any::<u8>(), 0..2000)),
        status in any::<u8>(),
        piece in 1_usize..3000,
    ) {
        let (kind, coded) = match &rest {
            Some(rest) => ("+", format!("\x01{}", STANDARD.encode(rest))),
            None => ("=", String::new()),
        };
        let bytes = [before, answer(kind, &text, &coded, 7, &status.to_string())].concat();
        let printed = [text, rest.unwrap_or_default()].concat();
        let mut expected = vec![Event::End(status)];
        if !printed.is_empty() {
            expected.insert(0, Event::Output(printed));
        }
        prop_assert_eq!(found(&bytes, piece), expected);
    }

    #[test]
    fn no_bytes_at_all_break_it(
        sizes in any::<[u8; 4]>(),
        parts in prop::collection::vec(prop_oneof![
            Just(&b"<s.1 "[..]), Just(&b"3 =:abc"[..]), Just(&b"4 +:abcd\x01"[..]), Just(&b"|s.1 0>"[..]), Just(&b"|s.1 124>"[..]),
            Just(&b"YWJj"[..]), Just(&b"YQ=="[..]), Just(&b"|"[..]), Just(&b"s."[..]), Just(&b"2 "[..]), Just(ANNOUNCEMENT),
            Just(&b"Spawning "[..]), Just(&b"\n"[..]), Just(&b"|s.1 !>"[..]), Just(&b"go>"[..]), Just(&b"0 0:\x01"[..]),
        ], 0..60),
    ) {
        fuzz_answers(&[&sizes[..], &parts.concat()].concat());
    }
}
