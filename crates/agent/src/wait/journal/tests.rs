//! A `journalctl` that is a shell script, and the kernel's log.

use std::time::Duration;

use super::super::testing::{LONG, found, is_quiet, run};
use super::*;

const SHORT: Duration = Duration::from_millis(60);

/// A watch on what a script writes.
fn script(script: &str, pattern: &str) -> JournalWatch {
    let arguments = ["-c".to_owned(), script.to_owned()];
    JournalWatch::start("sh", &arguments, compile(pattern).unwrap()).unwrap()
}

fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn line_that_matches_is_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, Mode::RUSR | Mode::WUSR).unwrap();
    let text = format!(
        "echo first; echo not this; read line < {}; echo 'Started thing 42.'; exec sleep 100",
        go.display()
    );
    let mut watch = script(&text, r"^Started .* \d+\.$");
    assert!(is_quiet(&mut watch, SHORT));
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(
        found(&mut watch, LONG),
        Some("Started thing 42.".to_owned())
    );
}

#[test]
fn process_ends_with_the_watch() {
    let mut watch = script("echo $$; exec sleep 100", r"^\d+$");
    let pid = found(&mut watch, LONG).unwrap().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    assert!(is_running(pid));
    drop(watch);
    let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    assert_eq!(status.unwrap().unwrap().1.terminating_signal(), Some(9));
}

#[test]
fn journalctl_that_ends_fails_the_wait_with_what_it_said() {
    let mut watch = script("echo line; echo 'no such thing' >&2; exit 1", "never");
    let failure = run(&mut watch, LONG).0.unwrap_err();
    assert_eq!(failure.message, "journalctl has ended: no such thing");
    let pattern = compile("x").unwrap();
    let failure = JournalWatch::start("/nonexistent/journalctl", &[], pattern).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported);
}

#[test]
fn lines_are_put_together_and_long_ones_cut() {
    let pattern = compile("^ab$").unwrap();
    let mut lines = Lines::default();
    assert_eq!(lines.find(b"xab\na", &pattern), None);
    assert_eq!(lines.find(b"b", &pattern), None);
    assert_eq!(lines.find(b"\nab\n", &pattern), Some("ab".to_owned()));

    let pattern = compile("^x+$").unwrap();
    let mut lines = Lines::default();
    for _ in 0..10 {
        assert_eq!(lines.find(&[b'x'; READ_LEN], &pattern), None);
        assert!(lines.begin.len() <= LINE_MAX);
    }
    let found = lines.find(b"end\n", &pattern).unwrap();
    assert_eq!(found.len(), LINE_MAX);
    assert_eq!(
        lines.find(b"\xff\xfe!\n", &compile("!$").unwrap()).unwrap(),
        "\u{fffd}\u{fffd}!"
    );
}

#[test]
fn output_without_end_does_not_hold_the_loop_up() {
    let mut watch = script("exec yes", "no");
    let mut fds = 0;
    watch.interest(&mut |_, _| fds += 1);
    assert_eq!(fds, 1);
    for _ in 0..100 {
        assert_eq!(watch.poll(Instant::now()), Ok(None));
    }
    assert!(watch.lines.begin.capacity() <= 2 * LINE_MAX);
}

#[test]
fn journalctl_is_asked_for_this_boot_and_from_now_on_unless_the_past_counts() {
    let now = arguments(Some("a.service"), false).unwrap();
    assert!(now.contains(&"--unit=a.service".to_owned()));
    let since = now
        .iter()
        .find_map(|argument| argument.strip_prefix("--since=@"));
    assert!(since.unwrap().parse::<f64>().unwrap() > 1e9);
    let past = arguments(None, true).unwrap();
    assert!(!past.iter().any(|argument| argument.starts_with("--since")));
    let boot = past.last().unwrap().strip_prefix("_BOOT_ID=").unwrap();
    assert!(boot.len() == 32 && boot.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn expression_that_is_none_or_too_large_is_refused() {
    for pattern in ["(", "a{9}{9}{9}{9}{9}{9}{9}", &"x".repeat(PATTERN_MAX + 1)] {
        assert_eq!(compile(pattern).unwrap_err().kind, FailureKind::Invalid);
    }
}

#[test]
fn record_of_the_kernel_is_its_line() {
    let record = b"6,339,5140900,-,caller=T1;NET: a; b\n SUBSYSTEM=net\n";
    assert_eq!(record_line(record), Some(&b"NET: a; b"[..]));
    assert_eq!(record_line(b"nothing"), None);
}

#[test]
fn line_of_the_kernels_log_is_found() {
    let mark = format!("hotbed: test {}", std::process::id());
    let pattern = compile(&format!("{mark} [ab]")).unwrap();
    let Ok(mut new) = KernelWatch::open("/dev/kmsg", false, pattern.clone()) else {
        eprintln!("skipped: this user may not read the kernel's log");
        return;
    };
    if std::fs::write("/dev/kmsg", format!("{mark} a\n")).is_err() {
        eprintln!("skipped: this user may not write to the kernel's log");
        return;
    }
    assert_eq!(found(&mut new, LONG), Some(format!("{mark} a")));
    let mut old = KernelWatch::open("/dev/kmsg", true, pattern.clone()).unwrap();
    assert_eq!(found(&mut old, LONG), Some(format!("{mark} a")));
    let mut new = KernelWatch::open("/dev/kmsg", false, pattern).unwrap();
    assert!(is_quiet(&mut new, SHORT));
}
