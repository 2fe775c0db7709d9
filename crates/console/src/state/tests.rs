use super::*;

/// A session whose shell is ready and taught.
fn ready() -> Session {
    let mut session = Session::new("s".into());
    session.handle_input(b"Spawning backdoor root shell...\n");
    assert!(session.is_ready());
    assert!(sent(&mut session).starts_with("\n_hb_i=s\n"));
    session
}

/// Everything that waits to be sent.
fn sent(session: &mut Session) -> String {
    let sent = String::from_utf8(session.poll_transmit().to_vec()).unwrap();
    session.handle_sent(sent.len());
    sent
}

fn begin(session: &mut Session) {
    session.begin(&Command::new("true")).unwrap();
}

fn done(status: i32) -> Progress {
    Progress::Done(Exit { status })
}

#[test]
fn command_is_a_line_and_its_answer_progress() {
    let mut session = ready();
    begin(&mut session);
    assert_eq!(sent(&mut session), "_hb 1 f 'true'\n");
    assert_eq!(session.poll_progress().unwrap(), Progress::Pending);
    session.handle_input(b"<s.1 2 =:hi|s.1 3>");
    assert_eq!(
        session.poll_progress().unwrap(),
        Progress::Output(b"hi".to_vec())
    );
    assert_eq!(session.poll_progress().unwrap(), done(3));
    assert!(matches!(session.poll_progress(), Err(Error::NotReady)));
    begin(&mut session);
    assert_eq!(
        sent(&mut session),
        "_hb 2 f 'true'\n",
        "an answer that came needs no word"
    );
}

#[test]
fn guest_may_go_on_after_a_full_block() {
    let mut session = ready();
    begin(&mut session);
    sent(&mut session);
    let block = [b"<s.1 0 +:", &[b'x'; 65536][..], b"|s.1 #65536>"].concat();
    session.handle_input(&block);
    assert_eq!(sent(&mut session), ": s ok\n");
    assert!(session.is_full(), "no more is read before this is taken");
}

#[test]
fn guest_is_told_that_an_answer_is_not_wanted_any_more() {
    let mut session = ready();
    begin(&mut session);
    begin(&mut session);
    assert_eq!(
        sent(&mut session),
        "_hb 1 f 'true'\n\n: s end\n_hb 2 f 'true'\n"
    );
    session.handle_input(b"<s.2 1 =:ab|s.2 0>");
    assert!(matches!(
        session.poll_progress(),
        Err(Error::Garbled { .. })
    ));
    assert_eq!(sent(&mut session), "\n: s end\n");
    session.begin_detached("true").unwrap();
    assert_eq!(sent(&mut session), "_hb 3 f 'true'\n\n: s end\n");
    session.send(b"poweroff\n").unwrap();
    assert_eq!(sent(&mut session), "poweroff\n");
}

#[test]
fn new_shell_is_taught_and_gets_nothing_that_was_for_the_old_one() {
    let mut session = ready();
    begin(&mut session);
    session.handle_input(b"SeaBIOS\nSpawning backdoor root shell...\n");
    assert!(matches!(
        session.poll_progress(),
        Err(Error::Restarted { .. })
    ));
    let taught = sent(&mut session);
    assert!(
        taught.starts_with("\n_hb_i=s\n") && !taught.contains("'true'"),
        "{taught}"
    );
}

#[test]
fn damaged_answer_and_new_shell_in_one_piece_are_both_seen() {
    let mut session = ready();
    begin(&mut session);
    sent(&mut session);
    session.handle_input(b"<s.1 1 =:ab|s.1 0>\nSpawning backdoor root shell...\n");
    assert!(matches!(
        session.poll_progress(),
        Err(Error::Garbled { .. })
    ));
    assert!(sent(&mut session).contains("_hb_i=s"));
}

#[test]
fn file_goes_in_chunks_that_are_announced() {
    let mut session = ready();
    let len = script::CHUNK + 2;
    session.begin_put("/x", len).unwrap();
    assert_eq!(sent(&mut session), "_hb_put 1 1048578 '/x' 1048576\n");
    assert_eq!(session.put(b"x").unwrap(), 0, "the guest is not ready");
    session.handle_input(b"<s.1 go>");
    let content = vec![b'x'; usize::try_from(len).unwrap()];
    let (mut given, mut all) = (0, String::new());
    while given < content.len() {
        given += session.put(&content[given..]).unwrap();
        assert!(
            session.poll_transmit().len() <= (512 << 10),
            "the queue is bounded"
        );
        all.push_str(&sent(&mut session));
    }
    let chunk = "x".repeat(1 << 20);
    assert!(
        all == format!("+\n{chunk}+\nxx\n: s end\n"),
        "{} bytes",
        all.len()
    );
    assert!(matches!(session.put(b"x"), Err(Error::PutOverrun)));
    session.handle_input(b"<s.1 0 =:|s.1 0>");
    assert_eq!(session.poll_progress().unwrap(), done(0));
}

#[test]
fn abandoned_file_is_filled_up_to_its_chunk() {
    let mut session = ready();
    session.begin_put("/x", 10).unwrap();
    session.handle_input(b"<s.1 go>");
    session.put(b"abc").unwrap();
    sent(&mut session);
    begin(&mut session);
    assert_eq!(
        sent(&mut session),
        "\0\0\0\0\0\0\0\n: s end\n_hb 2 f 'true'\n"
    );
}

#[test]
fn file_that_the_guest_refuses_goes_nowhere() {
    let mut session = ready();
    session.begin_put("/x", 10).unwrap();
    session.handle_input(b"<s.1 0 =:|s.1 1>");
    sent(&mut session);
    assert_eq!(session.put(b"0123456789").unwrap(), 10);
    assert_eq!(sent(&mut session), "");
    assert_eq!(session.poll_progress().unwrap(), done(1));
}

#[test]
fn file_that_the_guest_stops_is_ended_at_once() {
    let mut session = ready();
    session.begin_put("/x", 10).unwrap();
    session.handle_input(b"<s.1 go>");
    session.put(b"abc").unwrap();
    sent(&mut session);
    session.handle_input(b"<s.1 stop>");
    assert_eq!(sent(&mut session), "\n: s end\n");
    assert_eq!(session.put(b"3456789").unwrap(), 7);
    session.handle_input(b"<s.1 0 =:|s.1 1>");
    assert_eq!(session.poll_progress().unwrap(), done(1));
    assert_eq!(sent(&mut session), "");
}

#[test]
fn long_script_is_one_line_in_an_error() {
    let mut session = ready();
    session.begin(&Command::new(&"é\n".repeat(500))).unwrap();
    session.handle_close();
    let Err(Error::Closed { waiting_for, .. }) = session.poll_progress() else {
        panic!("the stream is closed");
    };
    assert!(
        waiting_for.ends_with("é é …`") && waiting_for.chars().count() < EXCERPT_MAX + 40,
        "{waiting_for}"
    );
}
