//! The session, without an agent: what comes is written here.

use super::*;
use crate::agent::wire::{Command, FailureKind, MAGIC, Program};

const NUMBER: u64 = 42;

/// A session, and what an agent's answers are put into.
struct Fixture {
    session: Session,
    decoder: Decoder,
}

impl Fixture {
    fn new() -> Self {
        Self {
            session: Session::new(NUMBER),
            decoder: Decoder::new(),
        }
    }

    fn greeted() -> Self {
        let mut fixture = Self::new();
        fixture.preamble(NUMBER);
        fixture.answer(&hello(VERSION), b"");
        fixture
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let len = self.decoder.feed(bytes);
            bytes = &bytes[len..];
            self.session.handle_input(&mut self.decoder, &mut |_| {});
        }
    }

    fn preamble(&mut self, number: u64) {
        let mut bytes = Vec::new();
        encode_preamble(number, &mut bytes);
        self.bytes(&bytes);
    }

    fn answer(&mut self, event: &Event, payload: &[u8]) {
        let mut bytes = Vec::new();
        encode_frame(event, payload, &mut bytes).unwrap();
        self.bytes(&bytes);
    }

    /// What is sent, decoded as the agent does.
    fn sent(&mut self) -> Vec<(Request, usize)> {
        let mut all = Vec::new();
        let mut bytes = Vec::new();
        encode_preamble(1, &mut bytes);
        bytes.extend_from_slice(self.session.poll_transmit());
        self.session.handle_sent(bytes.len());
        let mut decoder = Decoder::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = decoder.feed(rest);
            rest = &rest[len..];
            while let Some(item) = decoder.poll::<Request>().unwrap() {
                if let Item::Message { message, payload } = item {
                    all.push((message, payload.len()));
                }
            }
        }
        all
    }

    fn start(&mut self, is_detached: bool) -> Id {
        let command = Command::new(Program::Arguments(vec!["true".to_owned()]));
        self.session
            .begin(is_detached, b"", |id| Request::Start { id, command })
            .unwrap()
    }
}

fn hello(version: u16) -> Event {
    Event::Hello {
        version,
        capabilities: vec!["bash".to_owned()],
        boot_id: "boot".to_owned(),
    }
}

fn output(id: Id, stream: Stream) -> Event {
    let offset = 0;
    Event::Output { id, stream, offset }
}

fn exited(id: Id) -> Event {
    Event::Exited {
        id,
        exit: Exit::Code(0),
        micros: 5,
        timed_out: false,
    }
}

fn garbled(fixture: &Fixture) -> bool {
    matches!(fixture.session.phase, Phase::Over(Error::Garbled(_)))
}

#[test]
fn nothing_can_be_asked_before_the_greeting_is_answered() {
    let mut fixture = Fixture::new();
    assert!(matches!(
        fixture.sent()[..],
        [(Request::Hello { version: VERSION }, 0)]
    ));
    let refused = fixture.session.begin(false, b"", |id| Request::Ping { id });
    assert!(matches!(refused, Err(Error::NotReady)));
    // What another session left is skipped.
    fixture.bytes(b"noise \xf5hB1 noise");
    fixture.preamble(NUMBER + 7);
    fixture.answer(&exited(3), b"");
    fixture.preamble(NUMBER);
    fixture.answer(&hello(VERSION), b"");
    assert!(matches!(&fixture.session.phase, Phase::Ready(hello) if hello.boot_id == "boot"));
}

#[test]
fn another_version_ends_the_session_with_a_clear_error() {
    let mut fixture = Fixture::new();
    fixture.preamble(NUMBER);
    fixture.answer(&hello(VERSION + 1), b"");
    let error = fixture
        .session
        .begin(false, b"", |id| Request::Ping { id })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("version {}", VERSION + 1)),
        "{error}"
    );
}

#[test]
fn output_is_given_in_its_order_and_small_pieces_are_joined() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    for _ in 0..3 {
        fixture.answer(&output(id, Stream::Stdout), b"out");
        fixture.answer(&output(id, Stream::Stderr), b"err");
    }
    fixture.answer(&exited(id), b"");
    let mut take = || fixture.session.take(id);
    assert_eq!(
        take(),
        Some(Piece::Output(Stream::Stdout, 0, b"outoutout".to_vec()))
    );
    assert_eq!(
        take(),
        Some(Piece::Output(Stream::Stderr, 0, b"errerrerr".to_vec()))
    );
    assert_eq!(take(), None);
    assert!(matches!(
        fixture.session.operation(id).outcome,
        Some(Ok(Outcome::Exited(_)))
    ));
}

#[test]
fn leave_is_given_for_what_was_taken() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    let payload = vec![0; PAYLOAD_MAX];
    for _ in 0..4 {
        fixture.answer(&output(id, Stream::Stdout), &payload);
    }
    fixture.sent();
    while fixture.session.take(id).is_some() {}
    let given: u32 = fixture
        .sent()
        .iter()
        .map(|(request, _)| match request {
            Request::Credit { bytes, .. } => *bytes,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(given, WINDOW);
    for _ in 0..4 {
        fixture.answer(&output(id, Stream::Stdout), &payload);
    }
    assert!(!garbled(&fixture));
}

#[test]
fn a_guest_that_sends_more_than_it_may_is_at_fault() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    let payload = vec![0; PAYLOAD_MAX];
    for _ in 0..5 {
        fixture.answer(&output(id, Stream::Stdout), &payload);
    }
    assert!(garbled(&fixture));
    assert!(matches!(
        fixture.session.operation(id).outcome,
        Some(Err(Error::Garbled(_)))
    ));
}

#[test]
fn answers_to_nothing_and_after_the_end_are_faults() {
    let mut fixture = Fixture::greeted();
    fixture.answer(&exited(99), b"");
    assert!(garbled(&fixture));
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    fixture.answer(&exited(id), b"");
    assert!(!garbled(&fixture));
    fixture.answer(&exited(id), b"");
    assert!(garbled(&fixture));
    let mut fixture = Fixture::greeted();
    fixture.bytes(&MAGIC);
    fixture.bytes(&[0xff; 8]);
    assert!(garbled(&fixture));
}

#[test]
fn input_waits_for_leave() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    let bytes = vec![0; 3 << 20];
    let mut sent = 0;
    loop {
        let len = fixture.session.send_input(id, 0, &bytes[sent..]);
        if len == 0 {
            break;
        }
        sent += len;
    }
    assert_eq!(sent, WINDOW as usize);
    fixture.answer(&Event::Credit { id, bytes: 10 }, b"");
    assert_eq!(fixture.session.send_input(id, 0, &bytes), 10);
    // What has ended takes all, and sends nothing.
    fixture.answer(&exited(id), b"");
    fixture.sent();
    assert_eq!(fixture.session.send_input(id, 0, &bytes), bytes.len());
    assert!(fixture.sent().is_empty());
}

#[test]
fn what_is_dropped_is_cancelled_and_its_answer_taken() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    fixture.sent();
    fixture.session.drop_operation(id);
    assert!(matches!(fixture.sent()[..], [(Request::Cancel { .. }, 0)]));
    fixture.answer(&output(id, Stream::Stdout), b"late");
    fixture.answer(&exited(id), b"");
    assert!(!garbled(&fixture));
    assert!(fixture.session.operations.is_empty());
    // One that is detached goes on.
    let id = fixture.start(true);
    fixture.sent();
    fixture.session.drop_operation(id);
    assert!(fixture.sent().is_empty());
    fixture.answer(&Event::Started { id, pid: 5 }, b"");
    assert!(fixture.session.operations.is_empty());
}

#[test]
fn an_agent_that_begins_anew_ends_all_operations_and_is_greeted() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    fixture.sent();
    fixture.preamble(0);
    assert!(matches!(
        fixture.session.operation(id).outcome,
        Some(Err(Error::Restarted))
    ));
    assert!(matches!(fixture.session.phase, Phase::Greeting));
    assert!(matches!(fixture.sent()[..], [(Request::Hello { .. }, 0)]));
    fixture.session.drop_operation(id);
    fixture.preamble(NUMBER + 1);
    fixture.answer(&hello(VERSION), b"");
    let again = fixture.start(false);
    assert_ne!(again, id, "a number was drawn again too soon");
    // The same answer twice, as to a greeting that was repeated.
    fixture.preamble(NUMBER + 1);
    fixture.answer(&hello(VERSION), b"");
    assert!(fixture.session.operation(again).outcome.is_none());
}

#[test]
fn a_repeated_command_forgets_what_did_not_count() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    let payload = vec![0; PAYLOAD_MAX];
    for _ in 0..20 {
        fixture.answer(&output(id, Stream::Stdout), &payload);
        fixture.answer(&Event::Discard { id }, b"");
        assert_eq!(fixture.session.take(id), Some(Piece::Discard));
    }
    assert!(!garbled(&fixture));
    assert_eq!(fixture.session.take(id), None);
}

#[test]
fn a_guest_that_reads_nothing_is_asked_for_no_more() {
    let mut fixture = Fixture::greeted();
    let payload = vec![0; PAYLOAD_MAX];
    let refused = (0..OPERATIONS_MAX)
        .map(|_| {
            fixture
                .session
                .begin(false, &payload, |id| Request::Ping { id })
        })
        .find_map(Result::err);
    assert!(
        matches!(refused, Some(Error::Backlog(waiting)) if waiting < BACKLOG_MAX + 2 * PAYLOAD_MAX)
    );
    let mut fixture = Fixture::greeted();
    let refused = fixture
        .session
        .begin(false, &vec![0; PAYLOAD_MAX + 1], |id| Request::Ping { id });
    assert!(matches!(refused, Err(Error::TooLarge(_))));
}

#[test]
fn a_failure_is_told_as_it_is() {
    let mut fixture = Fixture::greeted();
    let id = fixture.start(false);
    let failure = Event::Failed {
        id,
        kind: FailureKind::NotFound,
        message: "there is no such thing".to_owned(),
    };
    fixture.answer(&failure, b"");
    let outcome = fixture.session.operation(id).outcome.clone();
    let Some(Err(error)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.to_string(), "there is no such thing");
}
