//! `hotbed shell`: a terminal, or a script, in a machine of a test that runs.

use std::io;
use std::os::fd::AsFd;

use hotbed_driver::control::{RunningTest, enter, running_tests};
use hotbed_driver::terminal::Near;
use hotbed_driver::{Call, Error};

use crate::arguments::ShellOptions;
use crate::report::{self, Exit};
use crate::signals::Signals;

/// What a shell adds to the number of the signal that ended a program.
const STATUS_BASE: i32 = 128;

/// Runs `hotbed shell`: exits as the shell in the machine does.
pub(crate) fn run(options: &ShellOptions) -> Exit {
    let test = match find(options) {
        Ok(test) => test,
        Err(exit) => return exit,
    };
    let signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(exit) => return exit,
    };
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let near = Near {
        input: input.as_fd(),
        output: output.as_fd(),
        errors: errors.as_fd(),
    };
    let call = Call {
        until: None,
        interrupt: &signals,
    };
    match enter(&test, &options.machine, &near, &call) {
        Ok(Some(status @ 0..)) => Exit::Script(status),
        Ok(Some(signal)) => Exit::Script(STATUS_BASE - signal),
        Ok(None) => Exit::Success,
        Err(Error::Interrupted) => Exit::Script(STATUS_BASE + signals.number()),
        Err(error) => {
            report::error(&error);
            match error {
                Error::Argument(_) => Exit::Usage,
                _ => Exit::HostFailed,
            }
        }
    }
}

/// The one test that is meant.
fn find(options: &ShellOptions) -> Result<RunningTest, Exit> {
    let file = options.file.display();
    let mut tests = running_tests(&options.file).map_err(|error| {
        report::error(&error);
        Exit::Usage
    })?;
    if let Some(pid) = options.pid {
        tests.retain(|test| test.pid == pid);
    }
    let of = options
        .pid
        .map(|pid| format!(" as process {pid}"))
        .unwrap_or_default();
    match tests.as_slice() {
        [] => report::problem(format_args!(
            "{file} does not run{of}: start it with `hotbed run {file}` (with --at-failure its machines are kept when it fails), by the same user and with the same XDG_RUNTIME_DIR"
        )),
        [test] => return Ok(test.clone()),
        several => {
            let pids: Vec<String> = several.iter().map(|test| test.pid.to_string()).collect();
            report::problem(format_args!(
                "{file} runs more than once: say which with --pid, one of {}",
                pids.join(", ")
            ));
        }
    }
    Err(Exit::Usage)
}
