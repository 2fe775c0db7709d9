//! Guests that are scripted to misbehave.

use crate::guest::{PATIENCE, SOON};
use crate::sys::peak;
use hotbed_console::{Command, Error, Exit, Progress, Shell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A shell whose guest is this test, and the guest's end.
fn pair() -> (Shell, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (Shell::new(ours).unwrap(), theirs)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

/// A shell that is ready, the guest's end, and the session's name.
fn ready() -> (Shell, UnixStream, String) {
    let (mut shell, mut guest) = pair();
    guest
        .write_all(b"Spawning backdoor root shell...\n")
        .unwrap();
    shell
        .poll_ready(Instant::now() + PATIENCE)
        .unwrap()
        .unwrap();
    let taught = read_to(&mut guest, "_hb_put");
    let name = taught
        .lines()
        .find_map(|line| line.strip_prefix("_hb_i="))
        .unwrap()
        .to_owned();
    (shell, guest, name)
}

/// Reads until this has come.
fn read_to(guest: &mut UnixStream, mark: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(mark.as_bytes()) {
        guest.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

fn begin(shell: &mut Shell) {
    shell.begin(&Command::new("true"), soon()).unwrap();
}

#[test]
fn announcement_may_come_in_any_pieces_after_anything() {
    let (mut shell, mut guest) = pair();
    for byte in b"\xff\x00 booting Spawning backdoor\r\nSpawning backdoor root shell...\n" {
        assert_eq!(shell.poll_ready(Instant::now()).unwrap(), None);
        guest.write_all(&[*byte]).unwrap();
        if *byte != b'\n' {
            shell.poll_ready(Instant::now()).unwrap();
        }
        if shell.is_ready() {
            break;
        }
    }
    let said = shell.poll_ready(soon()).unwrap().unwrap();
    assert_eq!(
        said,
        b"\xff\x00 booting Spawning backdoor\r\nSpawning backdoor root shell..."
    );
}

#[test]
fn guest_that_dies_before_it_is_ready_says_its_last_words() {
    let (mut shell, mut guest) = pair();
    guest.write_all(b"Kernel panic - not syncing").unwrap();
    drop(guest);
    let ended = shell.poll_ready(Instant::now() + PATIENCE);
    assert!(
        matches!(&ended, Err(Error::Closed { waiting_for, said }) if said.contains("panic") && waiting_for == "waiting for the root shell"),
        "{ended:?}"
    );
}

#[test]
fn command_before_the_shell_is_ready_is_refused() {
    let (mut shell, _guest) = pair();
    assert!(matches!(
        shell.begin(&Command::new("true"), soon()),
        Err(Error::NotReady)
    ));
    assert!(matches!(shell.poll_output(soon()), Err(Error::NotReady)));
}

#[test]
fn guest_that_dies_mid_answer_leaves_its_output_and_an_error() {
    let (mut shell, mut guest, name) = ready();
    begin(&mut shell);
    write!(guest, "<{name}.1 5 +:hello world|{name}.1 #6>and more").unwrap();
    drop(guest);
    let mut output = Vec::new();
    let ended = loop {
        match shell.poll_output(Instant::now() + PATIENCE) {
            Ok(Progress::Output(piece)) => output.extend(piece),
            other => break other,
        }
    };
    assert_eq!(output, b"hello world");
    assert!(
        matches!(&ended, Err(Error::Closed { waiting_for, .. }) if waiting_for.contains("`true`")),
        "{ended:?}"
    );
    assert!(matches!(
        shell.begin(&Command::new("true"), soon()),
        Err(Error::Closed { .. })
    ));
    assert!(matches!(
        shell.send_raw(b"x", soon()),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn guest_that_dies_right_after_its_answer_has_answered() {
    let (mut shell, mut guest, name) = ready();
    begin(&mut shell);
    write!(guest, "<{name}.1 2 =:hi|{name}.1 0>").unwrap();
    drop(guest);
    assert_eq!(
        shell.poll_output(soon()).unwrap(),
        Progress::Output(b"hi".to_vec())
    );
    assert_eq!(
        shell.poll_output(soon()).unwrap(),
        Progress::Done(Exit { status: 0 })
    );
}

#[test]
fn silence_is_pending_at_the_deadline_and_the_answer_may_come_later() {
    let (mut shell, mut guest, name) = ready();
    begin(&mut shell);
    for piece in ["<", &name, ".1 2 =", ":h", "i|", &name, ".1 0"] {
        let start = Instant::now();
        assert_eq!(shell.poll_output(soon()).unwrap(), Progress::Pending);
        assert!((Duration::from_millis(20)..SOON).contains(&start.elapsed()));
        guest.write_all(piece.as_bytes()).unwrap();
    }
    guest.write_all(b">").unwrap();
    assert_eq!(
        shell.poll_output(soon()).unwrap(),
        Progress::Output(b"hi".to_vec())
    );
    assert_eq!(
        shell.poll_output(soon()).unwrap(),
        Progress::Done(Exit { status: 0 })
    );
}

#[test]
fn garbled_answer_is_an_error_and_the_next_command_works() {
    let (mut shell, mut guest, name) = ready();
    begin(&mut shell);
    write!(guest, "<{name}.1 2 =:h[  1.0] oops\ni|{name}.1 0>").unwrap();
    assert!(matches!(
        shell.poll_output(Instant::now() + PATIENCE),
        Err(Error::Garbled { .. })
    ));
    begin(&mut shell);
    write!(guest, "<{name}.2 0 =:|{name}.2 0>").unwrap();
    assert_eq!(
        shell.poll_output(Instant::now() + PATIENCE).unwrap(),
        Progress::Done(Exit { status: 0 })
    );
}

#[test]
fn guest_that_chatters_without_end_does_not_hold_up_a_deadline() {
    let (mut shell, mut guest, _) = ready();
    // It costs more to understand this than to write it, so there is always more to read.
    let chatter = "Spawning backdoor root shell...".repeat(2000);
    let chatter = std::thread::spawn(move || while guest.write_all(chatter.as_bytes()).is_ok() {});
    let start = Instant::now();
    shell
        .send_raw(&[b'x'; 1 << 20], start + Duration::from_millis(100))
        .unwrap();
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    drop(shell);
    chatter.join().unwrap();
}

#[test]
fn guest_that_does_not_read_does_not_hold_up_a_deadline() {
    let (mut shell, mut guest, name) = ready();
    let script = "x".repeat(8 << 20);
    let start = Instant::now();
    shell
        .begin(&Command::new(&script), start + Duration::from_millis(100))
        .unwrap();
    assert!((Duration::from_millis(100)..SOON).contains(&start.elapsed()));
    // The rest is sent while the answer is waited for.
    let reader = std::thread::spawn(move || {
        let (mut line, mut block) = (Vec::new(), [0; 65536]);
        while !line.ends_with(b"x'\n") {
            let len = guest.read(&mut block).unwrap();
            line.extend_from_slice(&block[..len]);
        }
        write!(guest, "<{name}.1 0 =:|{name}.1 0>").unwrap();
        line.len()
    });
    assert_eq!(
        shell.poll_output(Instant::now() + PATIENCE).unwrap(),
        Progress::Done(Exit { status: 0 })
    );
    assert!(reader.join().unwrap() > script.len());
}

#[test]
fn guest_that_never_reads_makes_a_backlog_that_is_bounded() {
    let (mut shell, _guest, _) = ready();
    let script = "x".repeat(15 << 20);
    let refused = (0..10).find_map(|_| shell.begin(&Command::new(&script), Instant::now()).err());
    assert!(matches!(refused, Some(Error::Backlog(_))), "{refused:?}");
    let script = "x".repeat(17 << 20);
    assert!(matches!(
        shell.begin(&Command::new(&script), Instant::now()),
        Err(Error::TooLong(_))
    ));
}

#[test]
fn expected_reboot_forgets_the_command_and_the_next_shell_is_taught() {
    let (mut shell, mut guest, name) = ready();
    begin(&mut shell);
    shell.expect_ready();
    assert!(!shell.is_ready());
    assert!(matches!(
        shell.begin(&Command::new("true"), soon()),
        Err(Error::NotReady)
    ));
    write!(guest, "<{name}.1 0 =:|{name}.1 0>SeaBIOS").unwrap();
    assert_eq!(shell.poll_ready(soon()).unwrap(), None);
    guest
        .write_all(b"...\nSpawning backdoor root shell...\n")
        .unwrap();
    let said = shell
        .poll_ready(Instant::now() + PATIENCE)
        .unwrap()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&said).ends_with("SeaBIOS...\nSpawning backdoor root shell...")
    );
    read_to(&mut guest, "_hb_i=");
    begin(&mut shell);
    read_to(&mut guest, "_hb 2 f 'true'\n");
    write!(guest, "<{name}.2 0 =:|{name}.2 3>").unwrap();
    assert_eq!(
        shell.poll_output(Instant::now() + PATIENCE).unwrap(),
        Progress::Done(Exit { status: 3 })
    );
}

#[test]
fn restored_guest_needs_no_announcement() {
    let (mut shell, mut guest) = pair();
    shell.assume_ready();
    begin(&mut shell);
    let taught = read_to(&mut guest, "_hb 1 f 'true'\n");
    assert!(taught.contains("_hb_put()"));
}

#[test]
fn file_of_a_guest_that_reboots_ends_with_an_error() {
    let (mut shell, mut guest, name) = ready();
    shell.begin_put("/tmp/x", 10, soon()).unwrap();
    read_to(&mut guest, "_hb_put 1 10 '/tmp/x'");
    write!(guest, "<{name}.1 go>").unwrap();
    assert_eq!(shell.put_chunk(b"12345", soon()).unwrap(), 5);
    guest
        .write_all(b"Spawning backdoor root shell...\n")
        .unwrap();
    let ended = shell.poll_output(Instant::now() + PATIENCE);
    assert!(
        matches!(&ended, Err(Error::Restarted { waiting_for }) if waiting_for.contains("/tmp/x")),
        "{ended:?}"
    );
    let sent = read_to(&mut guest, "_hb_i=");
    assert_eq!(sent, " 1048576\n+\n12345\n_hb_i=");
}

#[test]
fn file_that_waits_for_a_silent_guest_gives_up_at_the_deadline() {
    let (mut shell, _guest, _) = ready();
    shell.begin_put("/tmp/x", 10, soon()).unwrap();
    assert_eq!(shell.put_chunk(b"12345", soon()).unwrap(), 0);
}

#[test]
fn guest_that_sends_output_nobody_takes_is_not_read_without_end() {
    let (mut shell, mut guest, name) = ready();
    let content = vec![0; 8 << 20];
    shell
        .begin_put("/tmp/x", content.len() as u64, soon())
        .unwrap();
    write!(guest, "<{name}.1 go><{name}.1 0 +:").unwrap();
    let block = [&[b'x'; 60000][..], format!("|{name}.1 #60000>").as_bytes()].concat();
    let flood = std::thread::spawn(move || while guest.write_all(&block).is_ok() {});
    let until = Instant::now() + Duration::from_millis(300);
    let (taken, memory) = peak(|| shell.put_chunk(&content, until).unwrap());
    assert!(taken < content.len());
    assert!(memory < 2 << 20, "{memory} bytes were held");
    drop(shell);
    flood.join().unwrap();
}
