//! `--at-failure`: the machines of a failed test run on, so that one can look into them.

use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use hotbed_driver::{AtTimeout, Testbed};
use hotbed_python::Interpreter;
use owo_colors::OwoColorize;

use crate::report::Exit;

/// How long machines are kept at least when the test has used up its time.
const LEAST: Duration = Duration::from_secs(10);

/// Says how to get into the machines, and has the test's timeout end it all; says whether there are machines to get into.
pub(crate) fn announce(testbed: &Arc<Testbed>, elapsed: Duration, exit: Exit) -> bool {
    let machines = testbed.machines().iter();
    let running: Vec<_> = machines.filter(|machine| machine.is_booted()).collect();
    let kept = "kept:".yellow().bold().to_string();
    if running.is_empty() {
        eprintln!("{kept} nothing, as no machine runs");
        return false;
    }
    let until = match testbed.config().global_timeout {
        None => String::new(),
        Some(timeout) => {
            // A test that has used up its time gets as much again: whoever asked for this wants to look.
            let left = match timeout.saturating_sub(elapsed) {
                Duration::ZERO => timeout,
                left => left,
            };
            let left = left.max(LEAST);
            end_after(left, testbed, exit);
            format!(
                "; the test's timeout ends it in {:.0} s",
                left.as_secs_f64()
            )
        }
    };
    eprintln!("{kept} the machines run on. Get into them from any terminal:");
    let script = &testbed.config().script;
    for machine in running {
        eprintln!(
            "  hotbed shell {} {} --pid {}",
            script.display(),
            machine.name(),
            std::process::id()
        );
    }
    eprintln!("End it with Ctrl-C{until}.");
    true
}

/// Waits until somebody ends it.
pub(crate) fn wait(interpreter: &Interpreter) {
    let signal = hotbed_python::wait_for_signal(interpreter);
    ended(signal.name());
}

/// Says who has ended it.
pub(crate) fn ended(by: &str) {
    eprintln!("{} ended by {by}", "kept:".yellow().bold());
}

fn end_after(left: Duration, testbed: &Arc<Testbed>, exit: Exit) {
    let end = {
        let testbed = Arc::clone(testbed);
        move || {
            testbed.stop();
            // The test has failed either way.
            let _ = testbed.log().close_reports();
            ended("the test's timeout");
            exit.end_process();
        }
    };
    testbed.arm_timeout(left, AtTimeout::Kill, Box::new(end));
}
