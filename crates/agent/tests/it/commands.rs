//! Commands: what they print, how they end, what they find around them.

use crate::support::{Guest, arguments, finish, is_root, run, script, soon, start};
use hotbed_console::agent::Progress;
use hotbed_console::agent::wire::{Command, Exit, Repeat, Size, Stderr, Stream};
use std::time::{Duration, Instant};

#[test]
fn a_script_gives_its_output_and_its_status() {
    let (_guest, agent) = start();
    for _ in 0..3 {
        let outcome = run(&agent, "echo out; echo err >&2; exit 7");
        assert_eq!(
            (outcome.text(), &outcome.stderr[..]),
            ("out\n", &b"err\n"[..])
        );
        assert_eq!(outcome.ended.exit, Exit::Code(7));
        assert!(!outcome.ended.timed_out);
    }
}

#[test]
fn scripts_run_as_bash_with_e_u_and_pipefail_does() {
    let (_guest, agent) = start();
    let cases: [(&str, &str, u8); 15] = [
        ("false; echo no", "", 1),
        ("false | true", "", 1),
        ("echo $nothing", "", 1),
        ("echo a; exec sh -c 'echo b; exit 3'", "a\nb\n", 3),
        ("x=1; (x=2); echo $x $#", "1 0\n", 0),
        ("trap 'echo bye' EXIT; exit 4", "bye\n", 4),
        ("kill -9 $BASHPID", "", 137),
        (
            "echo $0; echo \"${BASH_EXECUTION_STRING:-}\" | head -c 3",
            "bash\nset",
            0,
        ),
        ("cat; echo end", "end\n", 0),
        ("yes | head -1", "y\n", 141),
        ("echo $-", "ehuBc\n", 0),
        ("pwd", "/tmp\n", 0),
        (
            "echo ${_hb_s-none}; ls /proc/self/fd | grep -c '^6[0-3]$' || true",
            "none\n0\n",
            0,
        ),
        ("sleep 0.01 & wait $!; echo done", "done\n", 0),
        ("test $$ = $BASHPID && echo own", "own\n", 0),
    ];
    for (text, stdout, status) in cases {
        let outcome = run(&agent, text);
        assert_eq!(outcome.text(), stdout, "{text}");
        let wanted = match outcome.ended.exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        };
        assert_eq!(wanted, status, "{text}");
    }
}

#[test]
fn errors_go_where_they_are_wanted() {
    let (guest, agent) = start();
    let mut command = script("echo a; echo b >&2; echo c");
    command.stderr = Stderr::WithStdout;
    for own in [false, true] {
        let text = if own {
            "echo a; echo b >&2; echo $$ >/dev/null; echo c"
        } else {
            "echo a; echo b >&2; echo c"
        };
        let mut command = Command {
            stderr: Stderr::WithStdout,
            ..script(text)
        };
        let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
        assert_eq!(outcome.text(), "a\nb\nc\n");
        command.stderr = Stderr::Log;
        let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
        assert_eq!((outcome.text(), outcome.stderr.len()), ("a\nc\n", 0));
    }
    assert_eq!(guest.log(), "b\nb\n");
}

#[test]
fn errors_go_to_the_log_that_the_agent_was_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("errors");
    std::fs::write(&log, "before\n").unwrap();
    let guest = Guest::start(&["--log", log.to_str().unwrap()]);
    let agent = guest.connect();
    for text in ["echo a >&2", "echo b >&2; echo $$ >/dev/null"] {
        let command = Command {
            stderr: Stderr::Log,
            ..script(text)
        };
        finish(&agent.start(&command, text.as_bytes()).unwrap());
    }
    assert_eq!(std::fs::read_to_string(log).unwrap(), "before\na\nb\n");
    assert_eq!(guest.log(), "");
}

#[test]
fn folder_and_environment_and_user_are_as_asked_for() {
    let (_guest, agent) = start();
    let text = "pwd; echo $A ${HOME-none}; id -un";
    let mut command = script(text);
    command.directory = Some("/usr".to_owned());
    command.environment = vec![
        ("A".to_owned(), Some("it's \"a\" $test".to_owned())),
        ("HOME".to_owned(), None),
    ];
    let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
    let begin = "/usr\nit's \"a\" $test none\n";
    assert!(outcome.text().starts_with(begin), "{}", outcome.text());
    if is_root("a command as another user") {
        command.user = Some("nobody".to_owned());
        let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
        assert_eq!(outcome.text(), format!("{begin}nobody\n"));
    }
    // What is set for one command is not there for the next.
    assert_eq!(run(&agent, "echo ${A-none}").text(), "none\n");
}

#[test]
fn arguments_are_taken_as_they_are() {
    let (_guest, agent) = start();
    let outcome = finish(
        &agent
            .start(&arguments(&["printf", "%s|", "a b", "$x", "'"]), b"")
            .unwrap(),
    );
    assert_eq!(outcome.text(), "a b|$x|'|");
    let running = agent.start(&arguments(&["no-such-program"]), b"").unwrap();
    let error = running.poll_output(soon()).unwrap_err().to_string();
    assert!(error.contains("no-such-program"), "{error}");
    let mut command = arguments(&["true"]);
    command.directory = Some("/nowhere".to_owned());
    let error = agent
        .start(&command, b"")
        .unwrap()
        .poll_output(soon())
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[test]
fn input_reaches_a_command_and_ends() {
    let (_guest, agent) = start();
    let mut command = arguments(&["sha256sum"]);
    command.stdin = true;
    let running = agent.start(&command, b"").unwrap();
    let megabyte = vec![7; 1 << 20];
    for _ in 0..8 {
        assert_eq!(running.write_stdin(&megabyte, soon()), megabyte.len());
    }
    running.close_stdin();
    let expected = run(
        &agent,
        "head -c 8388608 /dev/zero | tr '\\0' '\\7' | sha256sum",
    );
    assert_eq!(finish(&running).stdout, expected.stdout);
    // What is not read any more goes nowhere.
    let running = agent
        .start(
            &Command {
                stdin: true,
                ..arguments(&["true"])
            },
            b"",
        )
        .unwrap();
    for _ in 0..4 {
        assert_eq!(running.write_stdin(&megabyte, soon()), megabyte.len());
    }
    assert_eq!(finish(&running).ended.exit, Exit::Code(0));
}

#[test]
fn output_that_is_no_text_comes_as_it_is() {
    let (_guest, agent) = start();
    let outcome = run(&agent, "printf '\\0\\377\\001hotbed-agent\\377\\n\\365hB1'");
    assert_eq!(outcome.stdout, b"\0\xff\x01hotbed-agent\xff\n\xf5hB1");
}

#[test]
fn many_commands_at_once_take_as_long_as_the_slowest() {
    let (_guest, agent) = start();
    let begun = Instant::now();
    let all: Vec<_> = (0..64)
        .map(|number| {
            let text = format!("sleep 1; echo {number}");
            agent.start(&script(&text), text.as_bytes()).unwrap()
        })
        .collect();
    for (number, running) in all.iter().enumerate() {
        assert_eq!(finish(running).text(), format!("{number}\n"));
    }
    let time = begun.elapsed();
    assert!(time < Duration::from_secs(8), "it took {time:?}");
}

#[test]
fn a_terminal_is_one_and_has_its_size() {
    let (_guest, agent) = start();
    let mut command = arguments(&[
        "bash",
        "-c",
        "tty -s && stty size; read line; stty size; echo got $line; cat",
    ]);
    command.stdin = true;
    command.terminal = Some(Size {
        columns: 81,
        rows: 23,
    });
    let running = agent.start(&command, b"").unwrap();
    let mut seen = String::new();
    let mut wait_for = |what: &str| {
        while !seen.contains(what) {
            match running.poll_output(soon()).unwrap() {
                Progress::Output(Stream::Stdout, bytes) => seen += &String::from_utf8_lossy(&bytes),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
    };
    wait_for("23 81");
    running.resize(Size {
        columns: 100,
        rows: 40,
    });
    running.write_stdin(b"hello\n", soon());
    wait_for("40 100");
    wait_for("got hello");
    running.close_stdin();
    assert_eq!(finish(&running).ended.exit, Exit::Code(0));
}

#[test]
fn a_signal_reaches_a_command_or_all_of_it() {
    let (_guest, agent) = start();
    for own in [false, true] {
        let begin = if own { "echo $$ >/dev/null; " } else { "" };
        let text = format!(
            "{begin}trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
        );
        let running = agent.start(&script(&text), text.as_bytes()).unwrap();
        assert!(running.pid(soon()).unwrap().is_some());
        assert_eq!(
            running.poll_output(soon()).unwrap(),
            Progress::Output(Stream::Stdout, b"ready\n".to_vec())
        );
        running.signal(15, false);
        let outcome = finish(&running);
        assert_eq!(
            (outcome.text(), outcome.ended.exit),
            ("term\n", Exit::Code(5))
        );
    }
}

#[test]
fn attempts_are_repeated_in_the_guest() {
    let (guest, agent) = start();
    let path = guest.path("count");
    let text = format!("echo x >>{path}; wc -l <{path}; test $(wc -l <{path}) = 4");
    let mut command = script(&text);
    command.repeat = Some(Repeat {
        until_success: true,
        interval_ms: 5,
    });
    let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
    assert_eq!((outcome.text(), outcome.ended.exit), ("4\n", Exit::Code(0)));
    command.repeat = Some(Repeat {
        until_success: false,
        interval_ms: 5,
    });
    let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
    assert_eq!((outcome.text(), outcome.ended.exit), ("5\n", Exit::Code(1)));
    // The deadline comes between two attempts.
    command.repeat = Some(Repeat {
        until_success: true,
        interval_ms: 3_600_000,
    });
    command.timeout_ms = Some(300);
    let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
    assert_eq!((outcome.text(), outcome.ended.exit), ("6\n", Exit::Code(1)));
    assert!(outcome.ended.timed_out);
}

#[test]
fn a_detached_command_outlives_its_session() {
    let (guest, agent) = start();
    let path = guest.path("late");
    let text = format!("sleep 0.5; echo late >{path}");
    let mut command = script(&text);
    command.detached = true;
    let running = agent.start(&command, text.as_bytes()).unwrap();
    assert!(running.pid(soon()).unwrap().is_some());
    assert_eq!(running.poll_output(soon()).unwrap(), Progress::Detached);
    drop((running, agent));
    let agent = guest.connect();
    let outcome = run(
        &agent,
        &format!("until test -s {path}; do sleep 0.01; done; cat {path}"),
    );
    assert_eq!(outcome.text(), "late\n");
}

#[test]
fn what_a_script_leaves_behind_goes_on() {
    for options in [&[][..], &["--no-cgroups"]] {
        let guest = Guest::start(options);
        let agent = guest.connect();
        let path = guest.path("left");
        let gate = guest.path("gate");
        let text = format!(
            "(until test -e {gate}; do sleep 0.01; done; echo left >{path}) >/dev/null 2>&1 & echo begun"
        );
        // The gate is opened after the answer: one that waited for what is left behind would never come.
        assert_eq!(run(&agent, &text).text(), "begun\n");
        std::fs::write(&gate, "").unwrap();
        // A command that is killed takes nobody else's processes with it.
        let mut command = script("sleep 60");
        command.timeout_ms = Some(50);
        assert!(
            finish(&agent.start(&command, b"sleep 60").unwrap())
                .ended
                .timed_out
        );
        let text = format!("until test -s {path}; do sleep 0.01; done; cat {path}");
        assert_eq!(run(&agent, &text).text(), "left\n");
    }
}

#[test]
fn output_that_is_held_open_belongs_to_the_command() {
    let (_guest, agent) = start();
    let outcome = run(&agent, "(sleep 0.3; echo late) & echo early");
    assert_eq!(outcome.text(), "early\nlate\n");
    let outcome = run(
        &agent,
        "(sleep 0.3; echo late) & echo $$ >/dev/null; echo early",
    );
    assert_eq!(outcome.text(), "early\nlate\n");
}

#[test]
fn scripts_of_any_length_run() {
    let (_guest, agent) = start();
    let long = format!("echo {} | wc -c; echo $$ >/dev/null", "x".repeat(200 << 10));
    assert_eq!(run(&agent, &long).text(), "204801\n");
    let running = agent.start(&script("echo a\0b"), b"echo a\0b").unwrap();
    assert!(
        running
            .poll_output(soon())
            .unwrap_err()
            .to_string()
            .contains("NUL")
    );
}

#[test]
fn a_script_that_kills_its_shell_ends_only_itself() {
    let (_guest, agent) = start();
    let text = "kill -9 -- -$(cut -d' ' -f6 /proc/self/stat); sleep 60";
    let outcome = run(&agent, text);
    assert_eq!(outcome.ended.exit, Exit::Signal(9));
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn the_agent_holds_no_more_descriptors_than_before() {
    let (guest, agent) = start();
    let count = |guest: &Guest| {
        std::fs::read_dir(format!("/proc/{}/fd", guest.process.id()))
            .unwrap()
            .count()
    };
    run(&agent, "true");
    let before = count(&guest);
    for _ in 0..20 {
        run(&agent, "true");
        finish(&agent.start(&arguments(&["true"]), b"").unwrap());
    }
    assert_eq!(count(&guest), before);
}

#[test]
fn the_number_of_a_process_is_told_however_slow_its_shell_starts() {
    for _ in 0..5 {
        // The first script may come before the first shell is there.
        let (_guest, agent) = start();
        let all: Vec<_> = (0..6)
            .map(|_| {
                agent
                    .start(&script("exec sleep 60"), b"exec sleep 60")
                    .unwrap()
            })
            .collect();
        assert!(
            all.iter()
                .all(|running| running.pid(soon()).unwrap().is_some())
        );
    }
}
