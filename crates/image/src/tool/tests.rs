//! What happens to programs that fail, linger or are given up.

#![expect(clippy::disallowed_methods, reason = "time is what is tested")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::Silent;

fn shell(script: &str) -> Run {
    Run::new("the test", PathBuf::from("/bin/sh"))
        .arg("-c")
        .arg(script)
}

#[test]
fn output_comes_back_in_lines() {
    assert_eq!(
        shell("echo one; echo two; echo three >&2")
            .run(&Silent)
            .unwrap(),
        ["one", "two"]
    );
}

#[test]
fn of_a_progress_line_the_end_is_kept() {
    let script = r"printf '10%%\r50%%\r100%%\n\033[KProcessing a\033[Kdone\n\033[31mred\n'";
    assert_eq!(
        shell(script).run(&Silent).unwrap(),
        ["100%", "done", "[31mred"]
    );
}

#[test]
fn a_failure_tells_the_last_words_and_what_they_mean() {
    let error = shell("echo 'x: No space left on device' >&2; exit 3")
        .run(&Silent)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the test failed (exit status: 3)\n  x: No space left on device\n  (the disk is full)"
    );
}

#[test]
fn a_process_left_behind_does_not_hold_the_build_up() {
    let start = Instant::now();
    assert_eq!(
        shell("sleep 100 & echo done").run(&Silent).unwrap(),
        ["done"]
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_program_that_closes_its_output_early_is_waited_for() {
    let script = "exec >&- 2>&-; sleep 0.3; exit 7";
    let error = shell(script).run(&Silent).unwrap_err();
    assert_eq!(error.to_string(), "the test failed (exit status: 7)");
}

#[test]
fn giving_up_kills_the_whole_group_at_once() {
    struct GiveUp(AtomicUsize);
    impl Progress for GiveUp {
        fn step(&self, _: &str) {}
        fn line(&self, text: &str) {
            self.0.store(text.parse().unwrap(), Ordering::Relaxed);
        }
        fn is_interrupted(&self) -> bool {
            self.0.load(Ordering::Relaxed) != 0
        }
    }
    let progress = GiveUp(AtomicUsize::new(0));
    let start = Instant::now();
    let error = shell("sleep 100 & echo $!; sleep 100")
        .run(&progress)
        .unwrap_err();
    assert!(matches!(error, Error::Interrupted));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let orphan = progress.0.load(Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs(10);
    while is_running(orphan) {
        assert!(Instant::now() < until, "process {orphan} still runs");
        thread::yield_now();
    }
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let error = find("no-such-tool", "some-package").unwrap_err();
    assert!(
        error.to_string().contains("`no-such-tool`")
            && error.to_string().contains("`some-package`")
    );
}

fn is_running(pid: usize) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
