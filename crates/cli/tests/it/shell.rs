//! `hotbed shell`, and `hotbed run --at-failure`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Ended, Place, Running, has_agent};

/// Runs a script in a machine of the test `test.py` of this place.
fn shell(place: &Place, arguments: &[&str], script: &str) -> Ended {
    let file = place.write("script", script);
    let arguments = [&["shell", "test.py"], arguments].concat();
    let mut command = place.command(&arguments);
    Ended::of(command.stdin(File::open(file).expect("a file")))
}

/// Both sides of a terminal of 91 columns and 33 lines.
fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("a terminal");
    unlockpt(&master).expect("a terminal");
    let name = ptsname(&master, Vec::new()).expect("a terminal");
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("a path"))
        .expect("a terminal");
    let size = Winsize {
        ws_row: 33,
        ws_col: 91,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).expect("a size");
    (master.into(), slave.into())
}

/// Reads what a terminal shows until it is this.
#[track_caller]
fn expect(master: &mut File, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let mut files = [PollFd::new(&*master, PollFlags::IN)];
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if poll(&mut files, Some(&second)).expect("poll") == 1 {
            let mut piece = [0; 4096];
            let count = master.read(&mut piece).unwrap_or(0);
            seen.extend_from_slice(&piece[..count]);
        }
        let shown = String::from_utf8_lossy(&seen);
        assert!(Instant::now() < deadline, "no {wanted:?} in {shown:?}");
    }
}

#[test]
fn a_machine_of_a_running_test_is_entered_by_scripts_and_by_a_terminal() {
    let place = Place::new();
    place.script("alice.succeed('true')\nprint('ready')\nalice.wait_for_file('/tmp/go')\n");
    let mut running = Running::start(&mut place.command(&["run", "--quiet", "test.py"]));
    running.wait_for("ready");
    let ended = shell(&place, &["alice"], "hostname; echo no >&2\nexit 7\n");
    ended.expect(7, &["no\n"]);
    assert_eq!(ended.stdout, "alice\n");
    shell(&place, &["bob"], "").expect(2, &["the test has no machine \"bob\"; it has alice"]);
    if has_agent() {
        let (mut master, slave) = terminal();
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let mut child = place
            .command(&["shell", "test.py", "alice"])
            .env("TERM", "vt100")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("hotbed starts");
        expect(&mut master, "# ");
        master
            .write_all(b"stty size; echo $TERM-$(pwd)\r")
            .expect("a terminal");
        expect(&mut master, "33 91\r\nvt100-/root\r\n");
        master
            .write_all(b"sh -c 'echo begun-$((1 + 1)); exec sleep 1000'\r")
            .expect("a terminal");
        expect(&mut master, "begun-2\r\n");
        master.write_all(b"\x03exit 6\r").expect("a terminal");
        assert_eq!(child.wait().expect("a status").code(), Some(6));
    }
    // The test may end, and the machine with it, before this does.
    shell(&place, &["alice"], "touch /tmp/go");
    let (status, output) = running.wait();
    assert_eq!(status, 0, "{output}");
    assert!(place.leftovers().is_empty());
}

#[test]
fn a_script_gives_its_terminal_to_a_shell_and_takes_it_back() {
    if !has_agent() {
        return;
    }
    let place = Place::new();
    place.script(
        "import sys, termios\n\
         alice.connect()\n\
         before = termios.tcgetattr(0)\n\
         print('give-' + 'over')\n\
         alice.shell_interact()\n\
         t.assertEqual(termios.tcgetattr(0), before)\n\
         t.assertEqual(alice.succeed('cat /tmp/typed'), '33 91\\n')\n\
         print('taken-' + 'back')\n\
         t.assertEqual(sys.stdin.readline(), 'a line\\n')\n",
    );
    let (mut master, slave) = terminal();
    let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
    let log = place.write("log", "");
    let mut child = place
        .command(&["run", "--quiet", "test.py"])
        .stdin(end())
        .stdout(end())
        .stderr(File::create(&log).expect("a file"))
        .spawn()
        .expect("hotbed starts");
    expect(&mut master, "give-over");
    expect(&mut master, "# ");
    master
        .write_all(b"stty size > /tmp/typed; tty\r")
        .expect("a terminal");
    expect(&mut master, "/dev/pts/");
    master
        .write_all(b"sh -c 'echo begun-$((1 + 1)); exec sleep 1000'\r")
        .expect("a terminal");
    expect(&mut master, "begun-2\r\n");
    // Ctrl-C is for the program in the guest.
    master.write_all(b"\x03exit 6\r").expect("a terminal");
    expect(&mut master, "taken-back");
    master.write_all(b"a line\r").expect("a terminal");
    let status = child.wait().expect("a status");
    let log = std::fs::read_to_string(log).expect("the log");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(place.leftovers().is_empty());
}

#[test]
fn a_test_that_does_not_run_or_runs_twice_is_told() {
    let place = Place::new();
    place.script("import time\nprint('ready')\ntime.sleep(60)\n");
    shell(&place, &["alice"], "").expect(2, &["test.py does not run: start it with `hotbed run"]);
    let ended = place.run(&["shell", "nowhere.py", "alice"]);
    ended.expect(2, &["cannot find nowhere.py"]);
    let mut tests = [0, 1].map(|_| Running::start(&mut place.command(&["run", "test.py"])));
    for test in &mut tests {
        test.wait_for("ready");
    }
    let pids = tests.each_ref().map(Running::pid);
    let words = pids.map(|pid| pid.to_string());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    shell(&place, &["alice"], "")
        .expect(2, &words)
        .expect(2, &["more than once: say which with --pid"]);
    shell(&place, &["alice", "--pid", words[1]], "").expect(3, &["alice is off"]);
    for test in tests {
        test.signal("INT");
        test.wait();
    }
}

#[test]
fn machines_of_a_failed_test_are_kept_until_ctrl_c() {
    let place = Place::new();
    place.script("alice.succeed('echo kept > /tmp/x')\nassert False, 'as wanted'\n");
    let arguments = [
        "run",
        "--quiet",
        "--at-failure",
        "--timeout",
        "600",
        "test.py",
    ];
    let mut running = Running::start(&mut place.command(&arguments));
    running.wait_for("failed: test.py, line 5: AssertionError: as wanted");
    running.wait_for(&format!(
        "hotbed shell test.py alice --pid {}",
        running.pid()
    ));
    running.wait_for("End it with Ctrl-C; the test's timeout ends it in ");
    let ended = shell(&place, &["alice"], "cat /tmp/x");
    assert_eq!(ended.stdout, "kept\n", "{ended}");
    running.signal("INT");
    let (status, output) = running.wait();
    assert_eq!(status, 1, "{output}");
    assert!(output.contains("ended by Ctrl-C"), "{output}");
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}

#[test]
fn machines_of_a_test_that_ran_out_of_time_are_kept() {
    let place = Place::new();
    place.script("alice.succeed('echo kept > /tmp/x')\nalice.succeed('sleep 1000')\n");
    let mut running = out_of_time(&place, 30, 5);
    let ended = shell(&place, &["alice"], "cat /tmp/x");
    assert_eq!(ended.stdout, "kept\n", "{ended}");
    running.wait_for("the test's timeout ends it in 30 s");
    end_by_ctrl_c(&place, running);
}

#[test]
fn machines_of_a_script_that_hangs_in_python_are_kept() {
    for (body, line) in [
        ("while True: pass\n", 5),
        (
            "try:\n    while True: pass\nfinally:\n    alice.succeed('true')\n",
            6,
        ),
    ] {
        let place = Place::new();
        place.script(&format!("alice.start()\n{body}"));
        let running = out_of_time(&place, 3, line);
        end_by_ctrl_c(&place, running);
    }
}

/// Starts a test whose machines are kept, and waits until it has run out of time in this line.
fn out_of_time(place: &Place, seconds: u32, line: u32) -> Running {
    let timeout = seconds.to_string();
    let arguments = [
        "run",
        "--quiet",
        "--at-failure",
        "--timeout",
        &timeout,
        "test.py",
    ];
    let mut running = Running::start(&mut place.command(&arguments));
    running.wait_for(&format!(
        "failed: the test ran out of time at test.py, line {line} (after "
    ));
    running.wait_for("hotbed shell test.py alice --pid");
    running
}

fn end_by_ctrl_c(place: &Place, running: Running) {
    running.signal("INT");
    let (status, output) = running.wait();
    assert_eq!(status, 1, "{output}");
    assert!(output.contains("kept: ended by "), "{output}");
    assert_eq!(output.matches("failed: ").count(), 1, "{output}");
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}

#[test]
fn machines_are_kept_no_longer_than_the_test_may_take() {
    let place = Place::new();
    place.script("alice.start()\nassert False\n");
    let arguments = [
        "run",
        "--quiet",
        "--at-failure=keep",
        "--timeout",
        "3",
        "test.py",
    ];
    let ended = place.run(&arguments);
    ended.expect(
        1,
        &[
            "kept: the machines run on",
            "kept: ended by the test's timeout",
        ],
    );
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}

#[test]
fn nothing_is_kept_where_nothing_runs() {
    let place = Place::new();
    place.script("assert False\n");
    let ended = place.run(&["run", "--at-failure", "test.py"]);
    ended.expect(1, &["failed: ", "kept: nothing, as no machine runs"]);
    place.script("pass\n");
    let ended = place.run(&["run", "--at-failure", "test.py"]);
    ended.expect(0, &["passed in"]);
    assert!(!ended.stderr.contains("kept"), "{ended}");
}

#[test]
fn the_doctor_says_which_agent_there_is() {
    let place = Place::new();
    let doctor = |variable: &str| -> String {
        let mut command: Command = place.command(&["doctor"]);
        let output = command.env("HOTBED_AGENT", variable).output();
        String::from_utf8_lossy(&output.expect("hotbed runs").stdout).into_owned()
    };
    let none = doctor("");
    assert!(
        none.contains("--  agent: none, as HOTBED_AGENT is empty"),
        "{none}"
    );
    let wrong = doctor("/no/such/agent");
    assert!(
        wrong.contains("BAD agent: ") && wrong.contains("/no/such/agent"),
        "{wrong}"
    );
}
