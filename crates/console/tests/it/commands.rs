//! What a command does is what `bash -c 'set -euo pipefail; …'` does.

use crate::guest::{Guest, PATIENCE, SOON};
use hotbed_console::{Command, Error, Progress};
use proptest::prelude::*;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SCRIPTS: &[&str] = &[
    "",
    "true",
    "false",
    "exit 3",
    "exit 256",
    "exit -1",
    "(exit 5)",
    "echo hi; false; echo no",
    "false || echo or",
    "false && echo and",
    "if false; then :; fi; echo on",
    "! true; echo on",
    "((0)); echo no",
    "echo a | grep b",
    "false | true; echo no",
    "yes | head -n 1",
    "echo $undefined; echo no",
    "x=$(false); echo no",
    "echo $(false); echo on",
    "set +e; false; echo on",
    "set +u; echo [$undefined]",
    "{ echo b; exit 2; } || echo c",
    "f() { return 7; }; f; echo no",
    "f() { false; echo on; }; f || true",
    "return 3; echo on",
    "local x=1; echo no",
    "cd /; pwd",
    "pwd",
    "printf 'a\\0b'",
    "printf '\\0'",
    "printf '\\0\\0\\n\\n'",
    "printf '\\001\\177\\036\\377\\n'",
    "printf 'a\\036b\\nc'",
    "printf '\\n\\n'",
    "printf 'no newline'",
    "printf %02047d 1",
    "printf %02048d 1",
    "printf %02049d 1",
    "printf %0512d 1; printf '\\0'",
    "printf %0511d 1; printf '\\0'",
    "printf %02047d 1; printf '\\0'",
    "printf %02048d 1; printf '\\0'",
    "for i in {1..3000}; do echo line $i; done; exit 9",
    "head -c 100000 /dev/zero",
    "echo 'it'\\''s \"quoted\" $HOME `x` \\ *'",
    "echo \"\\$HOME\" '$HOME'",
    "echo é ☃ 漢字",
    "printf '%s' $'\\x01\\x7f\\xff' é\u{7f}\u{1}\u{4}\u{3}\u{1a}\r",
    "cat <<EOF\nhere $((1 + 1))\n'quotes'\nEOF",
    "cat <<'EOF'\n$x `y`\nEOF\necho after",
    "echo one\necho two # comment\n\n# comment\n",
    "# only a comment",
    "echo hi\n)\necho no",
    "echo hi; if",
    "'",
    "\"",
    "echo $(",
    "exec echo replaced",
    "exec >/dev/null; echo no; exit 4",
    "exec >&-; exit 4",
    "exec 3>&1; echo three >&3",
    "echo x >&8",
    "echo x >&9",
    "echo x >&6",
    "trap 'echo bye' EXIT; exit 4",
    "trap 'echo bye' EXIT",
    "trap 'echo failed' ERR; false",
    "trap 'echo caught' TERM; kill $BASHPID; echo after",
    "trap - TERM; trap",
    "kill $$; echo no",
    "kill -9 $$; echo no",
    "kill -9 $BASHPID; echo no",
    "kill -INT $BASHPID; echo no",
    "bash -c 'kill -INT $$'; echo no",
    "bash -c 'trap'",
    "sleep 0.02 & wait; echo done",
    "sleep 0.02 & kill $!; wait $!; echo no",
    "coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x",
    "cat <(echo sub)",
    "read x; echo no",
    "cat",
    "cat; echo on",
    "[ -t 0 ]; echo no",
    "[ -t 1 ]; echo no",
    "echo $#; echo ${1-none}",
    "set -- a b; echo $2",
    "echo $0",
    "echo ${BASH_SOURCE[0]-none} ${FUNCNAME[0]-none} $LINENO $BASH_SUBSHELL",
    "x=é; echo ${#x}",
    "echo \"${LC_ALL-unset}\"",
    "declare -F",
    "declare -p _hb_n",
    "echo $_hb_i",
    "jobs",
    "shopt -s nullglob; echo /nonexistent*",
    "umask 077; umask",
    "ulimit -n 50; ulimit -n",
    "source /dev/stdin <<< 'echo sourced'",
    ". /dev/stdin <<< 'echo sourced; kill -9 $$'",
    "eval 'echo e; false'; echo no",
    "no_such_command_at_all",
    "/etc/passwd",
    "cat /nonexistent",
    "time true",
    "bash -c 'exit 42'",
    "env | grep -c _hb",
    "for fd in 3 4 5 6 7 8 9 250; do [ ! -e /proc/self/fd/$fd ] || echo $fd; done",
    "exec ls /proc/self/fd",
    "grep -E 'Sig(Blk|Ign)' /proc/self/status",
    "IFS=,; x=a,b; echo $x",
    "echo a; echo b >&2; echo c",
    "while read -r l; do echo \"$l\"; done <<< $'x\\ny'",
];

/// What bash itself makes of it.
fn bash(script: &str) -> (i32, Vec<u8>) {
    use std::os::unix::process::ExitStatusExt;
    let done = std::process::Command::new("bash")
        .args(["-c", &format!("set -euo pipefail; {script}")])
        .current_dir("/tmp")
        .env("DISPLAY", ":0.0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    (
        done.status
            .code()
            .unwrap_or_else(|| 128 + done.status.signal().unwrap()),
        done.stdout,
    )
}

#[test]
fn scripts_do_what_bash_does() {
    let mut guest = Guest::start();
    let mut different = Vec::new();
    for script in SCRIPTS {
        let expected = bash(script);
        for timeout in [None, Some(PATIENCE)] {
            let found = guest.run(&Command {
                script,
                timeout,
                repeat: None,
            });
            if found != expected {
                let show = |(status, output): &(i32, Vec<u8>)| {
                    (
                        *status,
                        String::from_utf8_lossy(output)
                            .chars()
                            .take(100)
                            .collect::<String>(),
                    )
                };
                different.push(format!(
                    "{script:?} {timeout:?}: {:?}, not {:?}",
                    show(&found),
                    show(&expected)
                ));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn scripts_do_the_same_in_another_locale() {
    let locale = [("LC_ALL", "C.UTF-8")];
    let mut guest = Guest::start_with(&locale);
    assert_eq!(
        guest.sh("x=é; echo ${#x} $LC_ALL; env | grep LC_ALL"),
        (0, "1 C.UTF-8\nLC_ALL=C.UTF-8\n".into())
    );
    assert_eq!(
        guest.sh("eval 'x=é; echo ${#x} $LC_ALL'"),
        (0, "1 C.UTF-8\n".into())
    );
    assert_eq!(
        guest.run(&Command::new("printf 'é\\xff'")),
        (0, b"\xc3\xa9\xff".to_vec())
    );
}

#[test]
fn state_does_not_persist_and_files_do() {
    let mut guest = Guest::start();
    guest.sh("cd /; x=1; set -x; exec 3</dev/null; ulimit -n 20; umask 0; trap : EXIT");
    let state =
        "pwd; echo ${x-unset}; [ ! -e /proc/self/fd/3 ]; umask; [ $(ulimit -n) -gt 20 ]; trap";
    assert_eq!(
        guest.sh(state),
        (0, format!("/tmp\nunset\n{}", bash_text("umask")))
    );
}

fn bash_text(script: &str) -> String {
    String::from_utf8(bash(script).1).unwrap()
}

#[test]
fn timeout_ends_the_command_and_what_it_started() {
    let mut guest = Guest::start();
    let timeout = Some(Duration::from_millis(300));
    for script in [
        "echo before; sleep 1000",
        "echo before; sleep 1000 & sleep 1000 | sleep 1000",
        "echo before; eval 'sleep 1000'",
        "echo before; exec sleep 1000",
        "echo before; exec >/dev/null; sleep 1000",
        "echo before; trap 'exit 0' TERM; sleep 1000 & wait",
        "echo before; kill -STOP $BASHPID",
    ] {
        let start = Instant::now();
        assert_eq!(
            guest.run(&Command {
                script,
                timeout,
                repeat: None
            }),
            (124, b"before\n".to_vec()),
            "{script}"
        );
        assert!(
            start.elapsed() >= Duration::from_millis(300),
            "{script} ended early"
        );
        assert!(
            start.elapsed() < SOON,
            "{script} took {:?}",
            start.elapsed()
        );
    }
    let group = format!(
        "[ -z \"$(ps -s {} -o args= | grep 'sleep 1000' | grep -v grep)\" ]",
        guest.pid()
    );
    assert_eq!(guest.sh(&group).0, 0, "something was left");
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

#[test]
fn timeout_ends_a_command_that_ignores_sigterm_or_prints_much() {
    let mut guest = Guest::start();
    let timeout = Some(Duration::from_millis(300));
    let start = Instant::now();
    let (status, output) = guest.run(&Command {
        script: "trap '' TERM; while :; do sleep 0.1; done",
        timeout,
        repeat: None,
    });
    assert_eq!((status, output.len()), (124, 0));
    let (status, output) = guest.run(&Command {
        script: "exec >/dev/null; trap '' TERM; while :; do sleep 0.0987; done",
        timeout,
        repeat: None,
    });
    assert_eq!((status, output.len()), (124, 0));
    let left = format!(
        "[ -z \"$(ps -s {} -o args= | grep 0.0987 | grep -v grep)\" ]",
        guest.pid()
    );
    assert_eq!(guest.sh(&left).0, 0, "something was left");
    let (status, output) = guest.run(&Command {
        script: "yes",
        timeout,
        repeat: None,
    });
    assert_eq!(status, 124);
    assert!(
        output.len() > 10_000 && output.chunks(2).all(|line| line == b"y\n" || line == b"y"),
        "{} bytes",
        output.len()
    );
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

#[test]
fn timeout_ends_waiting_for_a_daemon_that_keeps_the_output() {
    let mut guest = Guest::start();
    let start = Instant::now();
    let file = std::env::temp_dir().join(format!("hotbed-daemon-{}", std::process::id()));
    let script = format!("setsid sleep 60 & echo $! >{}; echo before", file.display());
    let found = guest.run(&Command {
        script: &script,
        timeout: Some(Duration::from_millis(300)),
        repeat: None,
    });
    assert_eq!(found, (124, b"before\n".to_vec()));
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(
        guest.sh("echo on"),
        (0, "on\n".into()),
        "the next command does not wait for it too"
    );
    assert!(start.elapsed() < SOON);
    assert_eq!(
        guest.sh(&format!("kill $(<{0}); rm {0}", file.display())).0,
        0
    );
}

#[test]
fn command_waits_for_all_who_hold_its_output_and_for_nobody_else() {
    let mut guest = Guest::start();
    let start = Instant::now();
    assert_eq!(
        guest.sh("(sleep 0.5; echo late) & echo early"),
        (0, "early\nlate\n".into())
    );
    assert!(start.elapsed() >= Duration::from_millis(500));
    let start = Instant::now();
    assert_eq!(guest.sh("sleep 60 >/dev/null 2>&1 & echo $!").0, 0);
    assert!(start.elapsed() < SOON);
}

#[test]
fn answer_to_an_abandoned_command_is_skipped() {
    let mut guest = Guest::start();
    let soon = || Instant::now() + Duration::from_millis(20);
    guest
        .shell
        .begin(
            &Command::new("sleep 0.3; echo late; head -c 300000 /dev/zero"),
            soon(),
        )
        .unwrap();
    assert_eq!(guest.shell.poll_output(soon()).unwrap(), Progress::Pending);
    assert_eq!(guest.sh("echo wanted; exit 5"), (5, "wanted\n".into()));
    guest
        .shell
        .begin_detached("sleep 0.1; echo nobody asked", soon())
        .unwrap();
    assert!(matches!(
        guest.shell.poll_output(soon()),
        Err(Error::NotReady)
    ));
    assert_eq!(guest.sh("echo wanted"), (0, "wanted\n".into()));
}

#[test]
fn stray_bytes_on_the_console_are_skipped() {
    let mut guest = Guest::start();
    let terminal = format!("/proc/{}/fd/1", guest.pid());
    let stray = format!(
        "(while :; do echo '[    1.234567] usb 1-1: stray message' >{terminal}; sleep 0.01; done) >/dev/null 2>&1 & echo $!"
    );
    let (_, pid) = guest.sh(&stray);
    for count in 0..100 {
        assert_eq!(
            guest.sh(&format!("echo {count}; sleep 0.01")),
            (0, format!("{count}\n"))
        );
    }
    guest.sh(&format!("kill {pid}"));
    assert!(String::from_utf8_lossy(guest.shell.heard()).contains("usb 1-1: stray message"));
}

#[test]
fn very_long_script_works() {
    let mut guest = Guest::start();
    let word = "0123456789'\"é\n";
    let text = word.repeat((1 << 20) / word.len());
    let script = format!("wc -c <<'EOF'\n{text}\nEOF\necho \"$(( $$ > 0 ))\"");
    assert_eq!(guest.sh(&script), (0, format!("{}\n1\n", text.len() + 1)));
}

#[test]
fn script_with_a_nul_is_refused() {
    let mut guest = Guest::start();
    let refused = guest
        .shell
        .begin(&Command::new("echo a\0b"), Instant::now());
    assert!(matches!(refused, Err(Error::Nul)), "{refused:?}");
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

/// A guest whose outer shell finds only these programs.
fn guest_with(programs: &[&str]) -> (Guest, std::path::PathBuf) {
    let directory = std::env::temp_dir().join(format!(
        "hotbed-programs-{}-{}",
        std::process::id(),
        programs.join("-")
    ));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    for program in programs {
        std::os::unix::fs::symlink(format!("/usr/bin/{program}"), directory.join(program)).unwrap();
    }
    let mut guest = Guest::start();
    let line = format!("PATH={}; hash -r\n", directory.display());
    guest
        .shell
        .send_raw(line.as_bytes(), Instant::now())
        .unwrap();
    (guest, directory)
}

#[test]
fn base64_is_enough_for_long_output() {
    let (mut guest, directory) = guest_with(&["base64"]);
    for (count, timeout) in [(1100, None), (50_000, None), (50_000, Some(PATIENCE))] {
        let script =
            format!("for ((i = 0; i < {count}; i++)); do printf '\\0\\xff\\n'; done; exit 3");
        let found = guest.run(&Command {
            script: &script,
            timeout,
            repeat: None,
        });
        assert_eq!(found.0, 3);
        assert!(
            found.1 == b"\0\xff\n".repeat(count),
            "{count} {timeout:?}: {} bytes",
            found.1.len()
        );
    }
    let script = "while :; do echo y; done";
    let (status, output) = guest.run(&Command {
        script,
        timeout: Some(Duration::from_millis(300)),
        repeat: None,
    });
    assert_eq!(status, 124);
    assert!(
        output.len() > 1000 && output.chunks(2).all(|line| b"y\n".starts_with(line)),
        "{} bytes",
        output.len()
    );
    let timeout = Some(Duration::from_millis(1000));
    guest
        .shell
        .begin(
            &Command {
                script,
                timeout,
                repeat: None,
            },
            Instant::now(),
        )
        .unwrap();
    let first = guest.shell.poll_output(Instant::now() + PATIENCE).unwrap();
    assert!(matches!(first, Progress::Output(_)), "{first:?}");
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn guest_without_either_tool_is_an_error_and_not_an_empty_output() {
    let (mut guest, directory) = guest_with(&[]);
    assert_eq!(
        guest.sh("echo short is fine"),
        (0, "short is fine\n".into())
    );
    guest
        .shell
        .begin(&Command::new("printf %03000d 1"), Instant::now())
        .unwrap();
    let error = loop {
        match guest.shell.poll_output(Instant::now() + PATIENCE) {
            Ok(Progress::Output(_)) => {}
            other => break other,
        }
    };
    assert!(
        matches!(&error, Err(Error::Unable(what)) if what == "base64"),
        "{error:?}"
    );
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn abandoned_output_without_end_does_not_fill_the_way() {
    let mut guest = Guest::start();
    let timeout = Some(Duration::from_millis(1500));
    guest
        .shell
        .begin(
            &Command {
                script: "yes",
                timeout,
                repeat: None,
            },
            Instant::now(),
        )
        .unwrap();
    let first = guest.shell.poll_output(Instant::now() + PATIENCE).unwrap();
    assert!(matches!(first, Progress::Output(_)), "{first:?}");
    let start = Instant::now();
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    guest
        .shell
        .begin_detached("head -c 1000000 /dev/zero", Instant::now())
        .unwrap();
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

#[test]
fn host_that_is_slow_gets_all_output_and_never_much_at_once() {
    let mut guest = Guest::start();
    guest
        .shell
        .begin(&Command::new("head -c 1000000 /dev/zero"), Instant::now())
        .unwrap();
    let mut len = 0;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        match guest.shell.poll_output(Instant::now() + PATIENCE).unwrap() {
            Progress::Output(piece) => len += piece.len(),
            Progress::Done(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(len, 1_000_000);
    assert!(
        guest.most_at_once() <= 68 << 10,
        "{} bytes were on the way",
        guest.most_at_once()
    );
}

#[test]
fn raw_bytes_are_read_as_a_command() {
    let mut guest = Guest::start();
    guest.shell.send_raw(b"echo raw\n", Instant::now()).unwrap();
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    assert!(guest.shell.heard().ends_with(b"\nraw\n"));
}

#[test]
fn shell_that_ends_closes_the_stream() {
    let mut guest = Guest::start();
    guest
        .shell
        .begin(&Command::new("kill -9 $PPID; sleep 1000"), Instant::now())
        .unwrap();
    let ended = guest.shell.poll_output(Instant::now() + PATIENCE);
    assert!(
        matches!(&ended, Err(Error::Closed { waiting_for, .. }) if waiting_for.contains("kill -9")),
        "{ended:?}"
    );
    assert!(matches!(
        guest.shell.begin(&Command::new("true"), Instant::now()),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn new_announcement_ends_the_command_and_the_next_one_works() {
    let mut guest = Guest::start();
    let announce = "echo 'Spawning backdoor root shell...' >/proc/$PPID/fd/1";
    guest
        .shell
        .begin(&Command::new(announce), Instant::now())
        .unwrap();
    let ended = guest.shell.poll_output(Instant::now() + PATIENCE);
    assert!(
        matches!(&ended, Err(Error::Restarted { waiting_for }) if waiting_for.contains("echo")),
        "{ended:?}"
    );
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

#[test]
fn nothing_is_noise_in_the_guests_log() {
    let mut guest = Guest::start();
    guest.sh("kill -9 $BASHPID");
    guest.sh("echo x; exit 3");
    guest.run(&Command {
        script: "sleep 1000",
        timeout: Some(Duration::from_millis(50)),
        repeat: None,
    });
    assert_eq!(guest.log(), "connecting to host...\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_output_comes_back(output in prop::collection::vec(any::<u8>(), 0..3000), status in 0..=255, timed: bool) {
        let mut guest = Guest::start();
        let escaped: String = output.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let script = format!("printf '{escaped}'; exit {status}");
        let timeout = timed.then_some(PATIENCE);
        prop_assert_eq!(guest.run(&Command { script: &script, timeout, repeat: None }), (status, output));
    }
}
