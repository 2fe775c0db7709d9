//! Shells for people and scripts: in this process, and from another one by the control socket.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hotbed_driver::Error;
use hotbed_driver::control::{RunningTest, Server, enter};
use hotbed_driver::terminal::Near;
use rustix::pipe::PipeFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Bed, call, call_for, eventually, has_agent, timed};

/// A near end that is two pipes and a script.
struct Pipes {
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    said: std::fs::File,
    complained: std::fs::File,
}

impl Pipes {
    fn with(script: &str) -> Self {
        // Not for the processes that are started meanwhile.
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let ((input, typed), (said, output), (complained, errors)) = (pipe(), pipe(), pipe());
        std::fs::File::from(typed)
            .write_all(script.as_bytes())
            .unwrap();
        Self {
            input,
            output,
            errors,
            said: said.into(),
            complained: complained.into(),
        }
    }

    fn near(&self) -> Near<'_> {
        Near {
            input: self.input.as_fd(),
            output: self.output.as_fd(),
            errors: self.errors.as_fd(),
        }
    }

    /// All that was written to output and errors.
    fn finish(mut self) -> (String, String) {
        drop((self.output, self.errors));
        let (mut said, mut complained) = (String::new(), String::new());
        self.said.read_to_string(&mut said).unwrap();
        self.complained.read_to_string(&mut complained).unwrap();
        (said, complained)
    }
}

/// A test that listens, as another process sees it.
fn listening(bed: &Bed) -> (Server, RunningTest) {
    let server = Server::start(&bed.testbed, &[Path::new("it.py")]).unwrap();
    let test = RunningTest {
        pid: std::process::id(),
        directory: bed.testbed.directory().to_owned(),
    };
    (server, test)
}

const SCRIPT: &str = "echo out; echo err >&2\nfor i in 1 2; do\n  echo $i\ndone\nfalse\nexit 7\n";

#[test]
fn a_script_on_standard_input_runs_and_its_status_comes_back() {
    for behaviour in behaviours() {
        run_a_script(behaviour);
    }
}

/// How guests behave: with an agent, too, if there is one.
fn behaviours() -> &'static [&'static str] {
    if has_agent() {
        &["guest", "agent"]
    } else {
        &["guest"]
    }
}

fn run_a_script(behaviour: &str) {
    let bed = Bed::fake(behaviour);
    let pipes = Pipes::with(SCRIPT);
    let machine = &bed.testbed.machines()[0];
    assert_eq!(machine.interact(&pipes.near(), &call()).unwrap(), Some(7));
    assert_eq!(pipes.finish(), ("out\n1\n2\n".into(), "err\n".into()));
    assert!(bed.log().contains("m: Terminal is ready (there is no"));
}

#[test]
fn another_process_of_the_user_runs_a_script_in_a_machine_of_a_running_test() {
    for behaviour in behaviours() {
        run_scripts_from_outside(behaviour);
    }
}

fn run_scripts_from_outside(behaviour: &str) {
    let bed = Bed::fake(behaviour);
    bed.m().connect(&call()).unwrap();
    let (_server, test) = listening(&bed);
    for _ in 0..2 {
        let pipes = Pipes::with(SCRIPT);
        let status = enter(&test, "m", &pipes.near(), &call()).unwrap();
        assert_eq!(status, Some(7));
        assert_eq!(pipes.finish(), ("out\n1\n2\n".into(), "err\n".into()));
    }
    let pipes = Pipes::with("head -c 3000000 /dev/zero | wc -c; seq 100000\n");
    let reader = {
        let mut said = pipes.said.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            said.read_to_string(&mut text).unwrap();
            text
        })
    };
    assert_eq!(enter(&test, "m", &pipes.near(), &call()).unwrap(), Some(0));
    drop(pipes);
    let text = reader.join().unwrap();
    assert!(text.starts_with("3000000\n1\n2\n") && text.ends_with("\n100000\n"));
}

#[test]
fn what_is_wrong_with_a_machine_is_told() {
    let bed = Bed::fake("guest");
    let (_server, test) = listening(&bed);
    let pipes = Pipes::with("");
    let error = enter(&test, "x", &pipes.near(), &call()).unwrap_err();
    assert!(matches!(error, Error::Argument(_)), "{error:?}");
    assert_eq!(error.to_string(), "the test has no machine \"x\"; it has m");
    let error = enter(&test, "m", &pipes.near(), &call()).unwrap_err();
    assert!(error.to_string().starts_with("m is off: "), "{error}");
    let gone = RunningTest {
        directory: bed.directory.path().join("nowhere"),
        ..test
    };
    let error = enter(&gone, "m", &pipes.near(), &call()).unwrap_err();
    assert!(error.to_string().starts_with("cannot reach the test"));
}

#[test]
fn the_end_of_a_test_ends_its_sessions_at_once() {
    let bed = Bed::fake("guest");
    bed.m().connect(&call()).unwrap();
    let (server, test) = listening(&bed);
    let session = std::thread::spawn(move || {
        let pipes = Pipes::with("sleep 100\n");
        enter(&test, "m", &pipes.near(), &call()).unwrap_err()
    });
    assert!(eventually(Duration::from_secs(10), || server.sessions() == 1));
    assert!(eventually(Duration::from_secs(10), || bed
        .log()
        .contains("somebody has opened a shell")));
    let ((), took) = timed(|| drop(server));
    took.at_most(Duration::from_millis(500));
    assert_eq!(session.join().unwrap().to_string(), "the test has ended");
}

#[test]
fn a_client_that_talks_nonsense_is_turned_away_and_others_are_served() {
    let bed = Bed::fake("guest");
    bed.m().connect(&call()).unwrap();
    let (server, test) = listening(&bed);
    let socket = test.directory.join("control");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[b'i', 1, 0, 0, 0, b'x'],
        &[b'O'; 5],
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer.first(), Some(&b'F'), "{answer:?}");
    }
    // One that says nothing, and one that goes away.
    let _silent = UnixStream::connect(&socket).unwrap();
    drop(UnixStream::connect(&socket).unwrap());
    let pipes = Pipes::with("exit 3");
    assert_eq!(enter(&test, "m", &pipes.near(), &call()).unwrap(), Some(3));
    assert!(eventually(Duration::from_secs(10), || server.sessions() == 1));
}

/// Both sides of a terminal.
fn terminal() -> (std::fs::File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = std::fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (master.into(), slave.into())
}

/// Reads what a terminal shows until it is this.
#[track_caller]
fn expect(master: &mut std::fs::File, wanted: &str) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let mut fds = [rustix::event::PollFd::new(
            &*master,
            rustix::event::PollFlags::IN,
        )];
        let second = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut fds, Some(&second)).unwrap();
        assert_eq!(
            ready,
            1,
            "no {wanted:?} in {:?}",
            String::from_utf8_lossy(&seen)
        );
        let count = master.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn an_agent_gives_a_terminal_that_is_resized_and_can_be_left() {
    if !has_agent() {
        return;
    }
    let bed = Bed::fake("agent");
    bed.m().connect(&call()).unwrap();
    let (_server, test) = listening(&bed);
    let (mut master, slave) = terminal();
    let resize = |columns, rows| {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
    };
    for how in ["exit", "leave"] {
        resize(91, 33);
        let near = slave.try_clone().unwrap();
        let test = test.clone();
        let session = std::thread::spawn(move || {
            let near = Near {
                input: near.as_fd(),
                output: near.as_fd(),
                errors: near.as_fd(),
            };
            enter(&test, "m", &near, &call_for(Duration::from_secs(60)))
        });
        assert!(eventually(Duration::from_secs(20), || !tcgetattr(&slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)));
        master.write_all(b"stty size; tty | tr a-z A-Z\r").unwrap();
        expect(&mut master, "33 91\r\n/DEV/PTS/");
        resize(70, 20);
        master
            .write_all(b"until [ \"$(stty size)\" = '20 70' ]; do :; done; echo new-$((1 + 1))\r")
            .unwrap();
        expect(&mut master, "new-2\r\n");
        // Ctrl-C is the guest's.
        master
            .write_all(b"sh -c 'echo begun-$((1 + 1)); exec sleep 1000'\r")
            .unwrap();
        expect(&mut master, "begun-2\r\n");
        master.write_all(b"\x03echo status-$?\r").unwrap();
        expect(&mut master, "status-130\r\n");
        let wanted = match how {
            "exit" => {
                master.write_all(b"exit 9\r").unwrap();
                Some(9)
            }
            _ => {
                master.write_all(b"\x1d").unwrap();
                None
            }
        };
        assert_eq!(session.join().unwrap().unwrap(), wanted, "{how}");
        let modes = tcgetattr(&slave).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
    }
}

#[test]
fn without_an_agent_each_line_at_a_terminal_is_a_command() {
    let bed = Bed::fake("guest");
    let (mut master, slave) = terminal();
    master
        .write_all(b"false | echo $((6 * 7))\nexit 5\n\x04")
        .unwrap();
    let near = Near {
        input: slave.as_fd(),
        output: slave.as_fd(),
        errors: slave.as_fd(),
    };
    let machine = &bed.testbed.machines()[0];
    let status = machine.interact(&near, &call_for(Duration::from_secs(30)));
    assert_eq!(status.unwrap(), Some(5));
    let modes = tcgetattr(&slave).unwrap().local_modes;
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO));
    let mut seen = vec![0; 4096];
    let count = master.read(&mut seen).unwrap();
    let seen = String::from_utf8_lossy(&seen[..count]).into_owned();
    assert!(seen.contains("42\r\n"), "{seen:?}");
}
