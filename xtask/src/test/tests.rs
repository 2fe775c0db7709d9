use std::path::Path;

use super::steps::STEPS;
use super::*;

fn tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    text.lines().for_each(|line| tally.line(line));
    tally
}

#[test]
fn tests_of_several_binaries_are_added_up() {
    let tally = tally(
        "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in 0.00s\ntest result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured\n",
    );
    assert_eq!((tally.passed, tally.failed), (14, 3));
}

#[test]
fn failures_are_shown_from_the_middle_of_the_output() {
    let mut tally = tally(
        "failures:\n\n---- a stdout ----\nboom\n\nfailures:\n    a\n\ntest result: FAILED. 0 passed; 1 failed;\nlater\n",
    );
    tally.settle(
        "test",
        false,
        "exit code 101",
        &["later".to_owned()],
        Path::new("test.log"),
    );
    assert_eq!(tally.failures.len(), 1);
    assert!(
        tally.failures[0].contains("---- a stdout ----\nboom"),
        "{}",
        tally.failures[0]
    );
    assert!(!tally.failures[0].contains("later"));
}

#[test]
fn program_without_tests_counts_as_one_check() {
    let mut good = tally("Finished\n");
    good.settle("clippy", true, "", &[], Path::new("clippy.log"));
    assert_eq!((good.passed, good.failed), (1, 0));
    let mut bad = tally("error: no\n");
    bad.settle(
        "clippy",
        false,
        "exit code 101",
        &["error: no".to_owned()],
        Path::new("clippy.log"),
    );
    assert_eq!((bad.passed, bad.failed), (0, 1));
    assert!(bad.failures[0].contains("error: no"));
}

#[test]
fn what_tests_skip_is_collected() {
    assert_eq!(
        tally("  skipped: no vde_switch here\ntest skip_list ... ok\n").skipped,
        ["skipped: no vde_switch here"]
    );
}

#[test]
fn step_names_are_unique_and_their_needs_come_before_them() {
    for (index, step) in STEPS.iter().enumerate() {
        assert!(
            !STEPS[..index]
                .iter()
                .any(|earlier| earlier.name == step.name),
            "{} is there twice",
            step.name
        );
        for after in step.after {
            assert!(
                STEPS[..index].iter().any(|earlier| earlier.name == *after),
                "{} needs {after}",
                step.name
            );
        }
    }
}

#[test]
fn one_step_brings_what_it_needs_along() {
    let names = |only: &str| {
        select(&[only.to_owned()])
            .unwrap()
            .iter()
            .map(|step| step.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("fmt"), ["fmt"]);
    assert_eq!(names("examples"), ["build", "examples"]);
    assert!(select(&["nonsense".to_owned()]).is_err());
}

#[test]
fn step_that_did_not_run_is_a_failure() {
    let done = not_run(&STEPS[0]);
    assert!(!done.success());
    assert_eq!(done.tally.failed, 1);
    assert!(describe(&done).starts_with("not run"));
}
