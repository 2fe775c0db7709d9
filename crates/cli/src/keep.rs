//! `--at-failure`: the machines of a failed test run on, so that one can look into them.

use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use hotbed_driver::Testbed;
use hotbed_python::Interpreter;
use owo_colors::OwoColorize;

use crate::report::Exit;

/// How long machines are kept at least when the test has used up its time.
const LEAST: Duration = Duration::from_secs(10);

/// Says how to get into the machines, and waits until somebody ends it: by Ctrl-C, or the test's timeout does.
pub(crate) fn keep(
    testbed: &Arc<Testbed>,
    interpreter: &Interpreter,
    elapsed: Duration,
    exit: Exit,
) {
    let machines = testbed.machines().iter();
    let running: Vec<_> = machines.filter(|machine| machine.is_booted()).collect();
    let kept = "kept:".yellow().bold().to_string();
    if running.is_empty() {
        eprintln!("{kept} nothing, as no machine runs");
        return;
    }
    let until = match testbed.config().global_timeout {
        None => String::new(),
        Some(timeout) => {
            let left = timeout.saturating_sub(elapsed).max(LEAST);
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
    let signal = hotbed_python::wait_for_signal(interpreter);
    eprintln!("{kept} ended by {}", signal.name());
}

fn end_after(left: Duration, testbed: &Arc<Testbed>, exit: Exit) {
    let end = {
        let testbed = Arc::clone(testbed);
        move || {
            testbed.stop();
            testbed.log().flush();
            eprintln!("{} ended by the test's timeout", "kept:".yellow().bold());
            exit.end_process();
        }
    };
    testbed.arm_timeout(left, Box::new(end));
}
