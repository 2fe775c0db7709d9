use std::path::Path;

use super::lines::KEPT_LINES;
use super::*;

fn runner() -> Runner {
    Runner::new(Ui::for_this_process()).unwrap()
}

fn sh(script: &str) -> Job {
    Job::new("/bin/sh").args(["-c", script])
}

#[test]
fn lines_of_both_streams_arrive_whole_and_in_order() {
    let mut seen = Vec::new();
    let outcome = runner()
        .watch(
            "both",
            &sh("echo one; echo two >&2; printf three; exit 7"),
            &mut |line| seen.push(line.to_owned()),
        )
        .unwrap();
    assert_eq!(seen, ["one", "two", "three"]);
    assert_eq!(outcome.tail, seen);
    assert_eq!(outcome.describe(), "exit code 7");
    assert!(!outcome.success());
}

#[test]
fn program_over_its_limit_is_ended() {
    let started = Instant::now();
    let job = sh("echo up; exec sleep 60").limit(Duration::from_millis(100));
    let outcome = runner().watch("slow", &job, &mut |_| {}).unwrap();
    assert!(outcome.expired);
    assert!(started.elapsed() < GRACE, "SIGTERM was enough");
}

#[test]
fn what_a_program_leaves_behind_is_killed() {
    let mut pid = String::new();
    let outcome = runner()
        .watch("leaky", &sh("sleep 60 & echo $!"), &mut |line| {
            line.clone_into(&mut pid)
        })
        .unwrap();
    assert!(outcome.success());
    assert!(!Path::new("/proc").join(&pid).exists(), "{pid} is alive");
}

#[test]
fn signal_is_passed_on_to_the_whole_group_and_nothing_starts_after_it() {
    let runner = runner();
    let running = Arc::clone(&runner.running);
    let mut told = false;
    let result = runner.watch("told", &sh("sleep 60 & echo up; wait"), &mut |_| {
        told = true;
        pass_on(&running, SIGTERM);
    });
    assert!(told);
    assert!(result.unwrap_err().is::<Interrupted>());
    assert!(
        runner
            .watch("after", &sh("true"), &mut |_| {})
            .unwrap_err()
            .is::<Interrupted>()
    );
}

#[test]
fn output_is_kept_whole_in_the_log_and_bounded_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("new").join("seq.log");
    let job = sh("seq 1 5000").log(&log);
    let outcome = runner().watch("seq", &job, &mut |_| {}).unwrap();
    assert_eq!(outcome.tail.len(), KEPT_LINES);
    assert_eq!(outcome.tail.last().map(String::as_str), Some("5000"));
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 5000);
}
