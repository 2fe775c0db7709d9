use std::fs::OpenOptions;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;

/// Gives a session that has negotiated and may run commands out of band.
fn ready() -> Session {
    let mut session = Session::new("t");
    session.handle_bytes(GREETING.as_bytes());
    assert_eq!(sent(&mut session), ["t-0"]);
    session.handle_bytes(br#"{"return": {}, "id": "t-0"}"#);
    assert!(session.is_ready());
    session
}

/// Sends all that may go, and gives the numbers of the commands.
fn sent(session: &mut Session) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(transmit) = session.poll_transmit() {
        let command: Value = serde_json::from_slice(&transmit.bytes).unwrap();
        ids.push(command["id"].as_str().unwrap().to_owned());
    }
    ids
}

fn submit(session: &mut Session, command: &str) -> CommandId {
    session.submit_json(command, None).unwrap()
}

fn submit_file(session: &mut Session) -> CommandId {
    session
        .submit(Execution::InBand, "getfd", None::<&Value>, vec![file()])
        .unwrap()
}

fn answer(session: &mut Session, id: CommandId) {
    session.handle_bytes(format!("{{\"return\": {{}}, \"id\": \"t-{}\"}}", id.0).as_bytes());
}

fn event(session: &mut Session, name: &str) {
    session.handle_bytes(format!("{{\"event\": \"{name}\"}}").as_bytes());
}

fn file() -> OwnedFd {
    OpenOptions::new()
        .read(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

#[test]
fn greeting_is_answered_with_the_capabilities_that_it_offers() {
    for (offered, enabled) in [
        (r#"["oob"]"#, json!(["oob"])),
        (r#"["other", {"a": 1}]"#, json!([])),
        ("[]", json!([])),
    ] {
        let mut session = Session::new("t");
        session.handle_bytes(GREETING.replace(r#"["oob"]"#, offered).as_bytes());
        let negotiation: Value =
            serde_json::from_slice(&session.poll_transmit().unwrap().bytes).unwrap();
        assert_eq!(negotiation["execute"], "qmp_capabilities");
        assert_eq!(negotiation["arguments"]["enable"], enabled);
    }
}

#[test]
fn nothing_is_sent_before_negotiation_is_over() {
    let mut session = Session::new("t");
    submit(&mut session, "stop");
    assert!(sent(&mut session).is_empty());
    session.handle_bytes(GREETING.as_bytes());
    assert_eq!(sent(&mut session), ["t-1"]);
    session.handle_bytes(br#"{"return": {}, "id": "t-1"}"#);
    assert_eq!(sent(&mut session), ["t-0"]);
}

#[test]
fn negotiation_is_not_counted_among_the_commands_that_qemu_runs() {
    let mut session = ready();
    for _ in 0..IN_BAND_MAX {
        submit(&mut session, "stop");
    }
    assert_eq!(sent(&mut session).len(), IN_BAND_MAX);
    session.handle_bytes(GREETING.as_bytes());
    assert_eq!(sent(&mut session), [format!("t-{}", IN_BAND_MAX + 1)]);
}

#[test]
fn qemu_that_greets_twice_at_once_is_answered_twice() {
    let mut session = Session::new("t");
    session.handle_bytes(GREETING.as_bytes());
    session.handle_bytes(GREETING.as_bytes());
    assert_eq!(sent(&mut session), ["t-0", "t-1"]);
    session.handle_bytes(br#"{"return": {}, "id": "t-0"}"#);
    assert!(
        !session.is_ready(),
        "the other negotiation may still reset this one"
    );
    let already =
        br#"{"id": "t-1", "error": {"class": "CommandNotFound", "desc": "already complete"}}"#;
    session.handle_bytes(already);
    assert!(session.is_ready() && session.runs_out_of_band());
}

#[test]
fn one_granted_negotiation_is_enough_in_either_order() {
    let mut session = Session::new("t");
    session.handle_bytes(GREETING.as_bytes());
    session.handle_bytes(GREETING.as_bytes());
    session.handle_bytes(br#"{"id": "t-0", "error": {"class": "CommandNotFound", "desc": "no"}}"#);
    assert!(session.end("").is_none() && !session.is_ready());
    session.handle_bytes(br#"{"return": {}, "id": "t-1"}"#);
    assert!(session.is_ready());
}

#[test]
fn qemu_that_greets_again_later_gets_nothing_but_negotiation_until_that_is_over() {
    let mut session = ready();
    session.handle_bytes(GREETING.as_bytes());
    assert!(!session.is_ready() && session.runs_out_of_band());
    submit(&mut session, "stop");
    session
        .submit(Execution::OutOfBand, "yank", None::<&Value>, Vec::new())
        .unwrap();
    assert_eq!(sent(&mut session), ["t-1"]);
    session.handle_bytes(br#"{"return": {}, "id": "t-1"}"#);
    assert_eq!(sent(&mut session), ["t-3", "t-2"]);
}

#[test]
fn refused_negotiation_and_endless_greetings_end_the_session() {
    let mut session = Session::new("t");
    session.handle_bytes(GREETING.as_bytes());
    session.handle_bytes(br#"{"error": {"class": "GenericError", "desc": "no"}, "id": "t-0"}"#);
    let refused = session.end("").unwrap();
    assert!(
        matches!(refused, Error::Malformed { ref excerpt, .. } if excerpt == "no"),
        "{refused}"
    );

    let mut session = Session::new("t");
    (0..GREETINGS_MAX).for_each(|_| session.handle_bytes(GREETING.as_bytes()));
    assert!(session.end("").is_none());
    session.handle_bytes(GREETING.as_bytes());
    assert!(matches!(session.end(""), Some(Error::Malformed { .. })));
}

#[test]
fn answers_go_to_their_commands_in_any_order() {
    let mut session = ready();
    let (stop, cont) = (submit(&mut session, "stop"), submit(&mut session, "cont"));
    assert_eq!(sent(&mut session), ["t-1", "t-2"]);
    session.handle_bytes(br#"{"error": {"class": "DeviceNotFound", "desc": "d"}, "id": "t-2"}"#);
    assert!(session.poll_answer(stop, "stop").unwrap().is_none());
    let refused = session.poll_answer(cont, "cont").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "QEMU refused `cont`: d (DeviceNotFound)"
    );
    answer(&mut session, stop);
    assert_eq!(
        session.poll_answer(stop, "stop").unwrap().unwrap().get(),
        "{}"
    );
    assert!(matches!(
        session.poll_answer(stop, "stop"),
        Err(Error::Answered { .. })
    ));
}

#[test]
fn answer_to_someone_elses_command_is_passed_over() {
    let mut session = ready();
    let stop = submit(&mut session, "stop");
    for id in [
        r#""other-1""#,
        "1",
        r#""t1""#,
        r#""t-2""#,
        r#""t-18446744073709551616""#,
        "null",
        r#""t--1""#,
    ] {
        session.handle_bytes(format!("{{\"return\": 0, \"id\": {id}}}").as_bytes());
    }
    session.handle_bytes(br#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#);
    assert!(session.poll_answer(stop, "stop").unwrap().is_none());
    assert_eq!(session.strays(), 8);
    answer(&mut session, stop);
    answer(&mut session, stop);
    assert_eq!(session.strays(), 9);
    assert!(session.poll_answer(stop, "stop").unwrap().is_some());
}

#[test]
fn answer_that_nobody_takes_is_let_go() {
    let mut session = ready();
    let (early, late) = (submit(&mut session, "stop"), submit(&mut session, "stop"));
    session.abandon(early);
    answer(&mut session, early);
    answer(&mut session, late);
    session.abandon(late);
    assert!(session.commands.is_empty());
    assert_eq!(session.strays(), 0);
}

#[test]
fn qemu_gets_no_more_commands_than_it_reads_so_that_it_sees_urgent_ones() {
    let mut session = ready();
    let ids: Vec<_> = (0..IN_BAND_MAX + 2)
        .map(|_| submit(&mut session, "stop"))
        .collect();
    assert_eq!(sent(&mut session).len(), IN_BAND_MAX);
    session
        .submit(Execution::OutOfBand, "yank", None::<&Value>, Vec::new())
        .unwrap();
    assert_eq!(sent(&mut session), [format!("t-{}", IN_BAND_MAX + 3)]);
    answer(&mut session, ids[0]);
    assert_eq!(sent(&mut session), [format!("t-{}", IN_BAND_MAX + 1)]);
    session.handle_bytes(
        format!("{{\"return\": {{}}, \"id\": \"t-{}\"}}", IN_BAND_MAX + 3).as_bytes(),
    );
    assert!(
        sent(&mut session).is_empty(),
        "the answer to an urgent command made room for another"
    );
}

#[test]
fn command_with_files_goes_alone_and_nothing_follows_until_it_is_answered() {
    let mut session = ready();
    let before = submit(&mut session, "stop");
    assert_eq!(sent(&mut session), ["t-1"]);
    let first = submit_file(&mut session);
    let second = submit_file(&mut session);
    submit(&mut session, "stop");
    assert!(
        sent(&mut session).is_empty(),
        "files came while another command was run"
    );
    answer(&mut session, before);
    assert_eq!(session.poll_transmit().unwrap().files.len(), 1);
    session
        .submit(Execution::OutOfBand, "yank", None::<&Value>, Vec::new())
        .unwrap();
    session.handle_bytes(GREETING.as_bytes());
    assert!(
        sent(&mut session).is_empty(),
        "bytes came while QEMU held files"
    );
    answer(&mut session, first);
    assert_eq!(sent(&mut session), ["t-6"]);
    session.handle_bytes(br#"{"return": {}, "id": "t-6"}"#);
    assert_eq!(sent(&mut session), ["t-5", "t-3"]);
    answer(&mut session, second);
    assert_eq!(sent(&mut session), ["t-4"]);
}

#[test]
fn command_with_files_does_not_run_out_of_band() {
    let mut session = ready();
    let refused = session.submit(Execution::OutOfBand, "getfd", None::<&Value>, vec![file()]);
    assert!(matches!(
        refused,
        Err(Error::TooManyFiles {
            files: 1,
            limit: 0,
            ..
        })
    ));
}

#[test]
fn too_much_is_refused() {
    let mut session = ready();
    let files = (0..=FILES_MAX).map(|_| file()).collect();
    let many = session.submit(Execution::InBand, "add-fd", None::<&Value>, files);
    assert!(matches!(many, Err(Error::TooManyFiles { files, .. }) if files == FILES_MAX + 1));

    let long = json!({ "a": "x".repeat(MESSAGE_MAX) });
    assert!(matches!(
        session.submit_json("stop", Some(&long)),
        Err(Error::TooLong { .. })
    ));

    let large = json!({ "a": "x".repeat(QUEUE_BYTES_MAX / 2) });
    session.submit_json("stop", Some(&large)).unwrap();
    assert!(matches!(
        session.submit_json("stop", Some(&large)),
        Err(Error::Busy { .. })
    ));
    sent(&mut session);

    let id = session.submit_json("stop", Some(&large)).unwrap();
    sent(&mut session);
    assert!(
        session.queue.has_room_for(QUEUE_BYTES_MAX),
        "what was sent still counts"
    );
    answer(&mut session, id);

    let first = submit(&mut session, "stop");
    while session.commands.len() < COMMANDS_MAX {
        submit(&mut session, "stop");
    }
    assert!(matches!(
        session.submit_json("stop", None),
        Err(Error::Busy { .. })
    ));
    session.abandon(first);
    assert!(matches!(
        session.submit_json("stop", None),
        Err(Error::Busy { .. })
    ));
    answer(&mut session, first);
    submit(&mut session, "stop");
}

#[test]
fn out_of_band_needs_a_monitor_that_offers_it() {
    let mut session = Session::new("t");
    session.handle_bytes(GREETING.replace(r#"["oob"]"#, "[]").as_bytes());
    sent(&mut session);
    session.handle_bytes(br#"{"return": {}, "id": "t-0"}"#);
    let refused = session.submit(Execution::OutOfBand, "yank", None::<&Value>, Vec::new());
    assert!(matches!(refused, Err(Error::NoOutOfBand { .. })));
}

#[test]
fn arguments_that_are_not_json_are_refused() {
    let mut session = ready();
    let arguments = std::collections::BTreeMap::from([((1, 2), 3)]);
    let refused = session.submit(Execution::InBand, "stop", Some(&arguments), Vec::new());
    assert!(matches!(refused, Err(Error::Arguments { .. })));
    assert!(sent(&mut session).is_empty());
}

#[test]
fn end_keeps_what_came_before_it_and_fails_what_still_waits() {
    let mut session = ready();
    let (stop, quit) = (submit(&mut session, "stop"), submit(&mut session, "quit"));
    answer(&mut session, stop);
    event(&mut session, "SHUTDOWN");
    session.handle_end(Over::Closed);
    assert!(session.poll_answer(stop, "stop").unwrap().is_some());
    let closed = session.poll_answer(quit, "quit").unwrap_err();
    assert_eq!(
        closed.to_string(),
        "QEMU closed its monitor while `quit` was waiting"
    );
    assert!(session.poll_answer(quit, "quit").is_err());
    assert_eq!(session.history().since(0).count(), 1);
    assert!(matches!(
        session.submit_json("stop", None),
        Err(Error::Closed { .. })
    ));
    assert!(sent(&mut session).is_empty());
}

#[test]
fn why_a_session_broke_stays_known() {
    let mut session = ready();
    let stop = submit(&mut session, "stop");
    session.handle_bytes(b"{\"event\": \"A\"}(qemu) ");
    session.handle_end(Over::Closed);
    let broken = session.poll_answer(stop, "stop").unwrap_err();
    assert!(
        matches!(broken, Error::Malformed { ref excerpt, .. } if excerpt == "(qemu) "),
        "{broken:?}"
    );
    assert_eq!(session.history().since(0).count(), 1);
}

#[test]
fn events_are_kept_in_order_and_the_oldest_go_first() {
    let mut session = ready();
    (0..EVENTS_MAX + 3).for_each(|number| event(&mut session, &format!("E{number}")));
    let history = session.history();
    assert_eq!(
        (
            history.cursor(),
            history.lost_since(0),
            history.lost_since(3)
        ),
        (EVENTS_MAX as u64 + 3, 3, 0)
    );
    let first = history.since(0).next().unwrap();
    assert_eq!((first.sequence, first.name.as_str()), (3, "E3"));
    assert_eq!(history.since(10).next().unwrap().sequence, 10);
    assert_eq!(history.since(history.cursor()).count(), 0);
    assert_eq!(history.since(u64::MAX).count(), 0);
}

#[test]
fn events_are_bounded_by_their_bytes_too() {
    let mut session = ready();
    let large = format!(
        "{{\"event\": \"A\", \"data\": \"{}\"}}",
        "x".repeat(EVENT_BYTES_MAX / 4)
    );
    (0..5).for_each(|_| session.handle_bytes(large.as_bytes()));
    assert_eq!(session.history().since(0).count(), 3);
    let huge = format!(
        "{{\"event\": \"B\", \"data\": \"{}\"}}",
        "x".repeat(EVENT_BYTES_MAX)
    );
    session.handle_bytes(huge.as_bytes());
    let kept: Vec<_> = session
        .history()
        .since(0)
        .map(|event| event.name.clone())
        .collect();
    assert_eq!(kept, ["B"]);
    assert_eq!(session.history().lost_since(0), 5);
}

#[derive(Debug, Clone)]
enum Step {
    Submit,
    SubmitFile,
    Transmit,
    Answer(usize),
    Abandon(usize),
    Take(usize),
    Event,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Submit),
        1 => Just(Step::SubmitFile),
        3 => Just(Step::Transmit),
        3 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::Abandon),
        2 => any::<usize>().prop_map(Step::Take),
        1 => Just(Step::Event),
    ]
}

proptest! {
    /// A model of QEMU answers commands that it was sent, in any order, and each command gets its own answer once.
    #[test]
    fn each_command_gets_its_own_answer_once(steps in prop::collection::vec(any_step(), 0..200)) {
        let mut session = ready();
        let (mut open, mut in_qemu, mut events) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Submit => open.push(submit(&mut session, "stop")),
                Step::SubmitFile => open.push(submit_file(&mut session)),
                Step::Transmit => {
                    in_qemu.extend(sent(&mut session));
                    prop_assert!(in_qemu.len() <= IN_BAND_MAX);
                }
                Step::Answer(which) if !in_qemu.is_empty() => {
                    let id = in_qemu.swap_remove(which % in_qemu.len());
                    session.handle_bytes(format!("{{\"return\": \"{id}\", \"id\": \"{id}\"}}").as_bytes());
                }
                Step::Abandon(which) if !open.is_empty() => session.abandon(open.swap_remove(which % open.len())),
                Step::Take(which) if !open.is_empty() => {
                    let id = open[which % open.len()];
                    if let Some(answer) = session.poll_answer(id, "stop").unwrap() {
                        prop_assert_eq!(answer.get(), format!("\"t-{}\"", id.0));
                        open.retain(|other| *other != id);
                        prop_assert!(session.poll_answer(id, "stop").is_err());
                    }
                }
                Step::Event => {
                    event(&mut session, "A");
                    events += 1;
                    prop_assert_eq!(session.history().cursor(), events);
                }
                _ => {}
            }
        }
        loop {
            in_qemu.extend(sent(&mut session));
            let Some(id) = in_qemu.pop() else { break };
            session.handle_bytes(format!("{{\"return\": \"{id}\", \"id\": \"{id}\"}}").as_bytes());
        }
        for id in open {
            prop_assert!(session.poll_answer(id, "stop").unwrap().is_some());
        }
        prop_assert!(session.commands.is_empty());
        prop_assert_eq!(session.strays(), 0);
    }
}
