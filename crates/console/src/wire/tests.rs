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

fn answer(kind: &str, text: &[u8], blocks: &[u8], number: u64, verdict: &str) -> Vec<u8> {
    let head = format!("<{SESSION}.{number} {} {kind}:", text.len());
    [
        head.as_bytes(),
        text,
        blocks,
        format!("|{SESSION}.{number} {verdict}>").as_bytes(),
    ]
    .concat()
}

fn block(sign: char, bytes: &[u8], number: u64) -> Vec<u8> {
    [
        bytes,
        format!("|{SESSION}.{number} {sign}{}>", bytes.len()).as_bytes(),
    ]
    .concat()
}

fn output(text: &[u8]) -> Event {
    Event::Output(text.to_vec())
}

#[test]
fn short_answer_is_its_text() {
    assert_eq!(
        all(&answer("=", b"hi|there>\x01", b"", 7, "0")),
        [output(b"hi|there>\x01"), Event::End(0)]
    );
    assert_eq!(all(&answer("=", b"", b"", 7, "255")), [Event::End(255)]);
    assert_eq!(
        all(&answer("=", b"a\x1e1b\x1e0\x1e1", b"", 7, "1")),
        [output(b"a\nb\x1e\n"), Event::End(1)]
    );
    assert_eq!(
        all(&answer("=", b"a\x1e2", b"", 7, "1")),
        [
            Event::Garbled("its output"),
            Event::Garbled("it has no head")
        ]
    );
    assert_eq!(
        all(&answer("=", b"a\x1e", b"", 7, "1")),
        [
            Event::Garbled("its output"),
            Event::Garbled("it has no head")
        ]
    );
}

#[test]
fn long_answer_goes_on_in_blocks() {
    let blocks = [block('#', b"cd|e>\n", 7), block('#', b"", 7)].concat();
    assert_eq!(
        all(&answer("+", b"a\x1e1", &blocks, 7, "0")),
        [output(b"a\ncd|e>\n"), Event::End(0)]
    );
    assert_eq!(
        all(&answer("0", b"ab", &blocks, 7, "3")),
        [output(b"ab\0cd|e>\n"), Event::End(3)]
    );
    assert_eq!(
        all(&answer("0", b"", b"", 7, "3")),
        [output(b"\0"), Event::End(3)]
    );
    assert_eq!(
        all(&answer("+", b"ab", b"", 7, "124")),
        [output(b"ab"), Event::End(124)]
    );
}

#[test]
fn long_answer_goes_on_in_base64() {
    let blocks = [
        block('%', b"Y2RlZ", 7),
        block('%', b"m", 7),
        block('%', b"c=", 7),
    ]
    .concat();
    assert_eq!(
        all(&answer("+", b"ab", &blocks, 7, "0")),
        [output(b"abcdefg"), Event::End(0)]
    );
}

#[test]
fn base64_that_ends_early_counts_only_after_a_timeout() {
    let blocks = block('%', b"Y2RlZ", 7);
    assert_eq!(
        all(&answer("+", b"ab", &blocks, 7, "124")),
        [output(b"abcde"), Event::End(124)]
    );
    assert_eq!(
        all(&answer("+", b"ab", &blocks, 7, "0")),
        [output(b"abcde"), Event::Garbled("its output")]
    );
    let blocks = [
        block('%', b"YQ==", 7),
        block('%', b"YQ==", 7),
        block('%', b"YQ=Q", 7),
    ]
    .concat();
    assert_eq!(
        all(&answer("+", b"", &blocks, 7, "0"))[..2],
        [output(b"aa"), Event::Garbled("its output")]
    );
}

#[test]
fn guest_waits_behind_a_full_block_only() {
    let count = |sign, len| {
        let blocks = block(sign, &vec![b'A'; len], 7);
        all(&answer("+", b"ab", &blocks, 7, "0"))
            .iter()
            .filter(|event| **event == Event::Paused)
            .count()
    };
    assert_eq!((count('#', BLOCK_MAX), count('#', BLOCK_MAX - 1)), (1, 0));
    assert_eq!(
        (count('%', BASE64_BLOCK), count('%', BASE64_BLOCK - 4)),
        (1, 0)
    );
    let late = answer("+", b"ab", &block('#', &vec![b'A'; BLOCK_MAX], 6), 6, "0");
    assert_eq!(all(&late), [], "nobody waits for it");
}

#[test]
fn answer_to_another_command_is_skipped() {
    let text = answer("=", b"wanted", b"", 7, "0");
    let bytes = [
        answer("=", b"late", b"", 6, "1"),
        answer("+", b"late", &block('#', b"and long", 5), 5, "1"),
        answer("=", &text, b"", 4, "0"), // An old output that looks like the answer itself.
        text.clone(),
        answer("=", b"early", b"", 77, "1"),
    ]
    .concat();
    assert_eq!(all(&bytes), [output(b"wanted"), Event::End(0)]);
}

#[test]
fn discarded_attempt_is_said_to_be_one() {
    let bytes = [
        answer("+", b"no", &block('#', b"", 7), 7, "!"),
        answer("=", b"yes", b"", 7, "0"),
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
        all(&answer("+", b"", b"", 7, "?base64")),
        [Event::Unable("base64".into())]
    );
    assert_eq!(
        all(&answer("+", b"ab", b"half a block", 7, "?dd")),
        [output(b"ab"), Event::Unable("dd".into())]
    );
}

#[test]
fn echo_of_what_was_sent_is_no_answer() {
    let echo = format!("_hb_i={SESSION}\n_hb 7 f 'true'\n: {SESSION} end\n <{SESSION} ");
    assert_eq!(all(echo.as_bytes()), []);
}

/// Whether nothing was found in these bytes but the first of these parts, and no end.
fn is_noticed(damaged: &[u8], parts: &[&[u8]]) -> bool {
    all(damaged).iter().all(|event| match event {
        Event::Output(piece) => parts.concat().starts_with(piece),
        event => matches!(event, Event::Garbled(_)),
    })
}

#[test]
fn stray_and_lost_bytes_in_an_answer_never_go_unnoticed() {
    let whole = answer("=", b"0123456789", b"", 7, "0");
    let blocks = [
        block('#', b"0123456789", 7),
        block('%', b"MDEyMzQ1Njc4OTAx", 7),
    ]
    .concat();
    let long = answer("+", b"0123456789", &blocks, 7, "0");
    let parts: [&[u8]; 3] = [b"0123456789", b"0123456789", b"012345678901"];
    for (bytes, parts) in [(&whole, &[][..]), (&long, &parts[..])] {
        for at in 1..bytes.len() {
            for stray in ["\n", "x", "a stray line\n"] {
                let damaged = [&bytes[..at], stray.as_bytes(), &bytes[at..]].concat();
                assert!(
                    is_noticed(&damaged, parts),
                    "{}: {:?}",
                    damaged.escape_ascii(),
                    all(&damaged)
                );
            }
            for lost in [1, 4, 16]
                .into_iter()
                .filter(|lost| at + lost < bytes.len() - 4)
            {
                let damaged = [&bytes[..at], &bytes[at + lost..]].concat();
                assert!(
                    is_noticed(&damaged, parts),
                    "{}: {:?}",
                    damaged.escape_ascii(),
                    all(&damaged)
                );
            }
        }
    }
}

#[test]
fn block_without_an_end_is_given_up() {
    let head = format!("<{SESSION}.7 0 +:");
    let bytes = [head.as_bytes(), &vec![b'x'; TEXT_MAX + BLOCK_MAX + 1][..]].concat();
    assert_eq!(found(&bytes, 4096), [Event::Garbled("its output")]);
    assert_eq!(found(&bytes[..bytes.len() - 1], 4096), []);
}

#[test]
fn announcement_is_found_between_answers_only() {
    let said = b"booting\nSpawning backdoor root shell...\n";
    assert_eq!(all(said), [Event::Announced]);
    assert_eq!(
        all(&answer(
            "=",
            b"Spawning backdoor root shell...",
            b"",
            6,
            "0"
        )),
        [],
        "the output of some command is none"
    );
    let damaged = answer("=", b"01234", b"a stray line\n", 7, "0");
    assert_eq!(
        all(&[&damaged, &said[..]].concat()).last(),
        Some(&Event::Announced)
    );
}

#[test]
fn announcement_survives_that_an_answer_is_given_up() {
    let mut parser = Parser::new(SESSION);
    parser.want(Some(7));
    parser.handle_input(ANNOUNCEMENT);
    parser.want(None);
    assert_eq!(parser.poll_event(), Some(Event::Announced));
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
        all(&answer("=", b"", b"", 7, "256")),
        [Event::Garbled("its output")]
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
        parser.heard.capacity() <= 4 * HEARD_MAX + INPUT_MAX,
        "{} bytes are kept",
        parser.heard.capacity()
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
        let text: Vec<u8> = text.into_iter().filter(|byte| *byte != ESCAPE).collect();
        let (kind, blocks) = match &rest {
            Some(rest) => ("+", rest.chunks(500).flat_map(|bytes| block('#', bytes, 7)).collect()),
            None => ("=", Vec::new()),
        };
        let bytes = [before, answer(kind, &text, &blocks, 7, &status.to_string())].concat();
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
            Just(&b"<s.1 "[..]), Just(&b"3 =:abc"[..]), Just(&b"4 +:abcd"[..]), Just(&b"0 0:"[..]), Just(&b"|s.1 0>"[..]),
            Just(&b"|s.1 124>"[..]), Just(&b"|s.1 #4>"[..]), Just(&b"|s.1 %4>"[..]), Just(&b"|s.1 %3>"[..]), Just(&b"YWJj"[..]),
            Just(&b"YQ=="[..]), Just(&b"|"[..]), Just(&b"s."[..]), Just(&b"2 "[..]), Just(ANNOUNCEMENT), Just(&b"|s.1 ?dd>"[..]),
            Just(&b"Spawning "[..]), Just(&b"\n"[..]), Just(&b"|s.1 !>"[..]), Just(&b"go>"[..]), Just(&b"\x1e1"[..]),
        ], 0..60),
    ) {
        fuzz_answers(&[&sizes[..], &parts.concat()].concat());
    }
}
