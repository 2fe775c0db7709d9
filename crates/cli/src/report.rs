//! What is said at the end, and the exit code that goes with it.

use std::error::Error;
use std::fmt::Display;

use anstream::eprintln;
use hotbed_python::Signal;
use owo_colors::OwoColorize;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The test passed, or the command did what it was asked.
    Success,
    /// The test failed.
    TestFailed,
    /// The command, the test's head or the configuration is not valid.
    Usage,
    /// Hotbed or the host failed.
    HostFailed,
    /// The script's own choice.
    Script(i32),
    /// By a signal.
    Signal(Signal),
}

impl Exit {
    /// Ends the process. Everything that it started must be gone, and what it printed written.
    pub(crate) fn end_process(self) -> ! {
        let status = match self {
            Self::Success => 0,
            Self::TestFailed => 1,
            Self::Usage => 2,
            Self::HostFailed => 3,
            Self::Script(status) => status,
            Self::Signal(signal) => {
                hotbed_driver::terminal::restore();
                // So that the parent sees what ended it; when that does not work, the status says nearly the same. Not by Python,
                // whose lock a script that hangs may hold.
                let _ = signal_hook::low_level::emulate_default_handler(signal.number());
                signal.exit_status()
            }
        };
        // Somebody may be at a terminal of the test still.
        hotbed_driver::terminal::restore();
        std::process::exit(status)
    }
}

/// Says what went wrong: the error and each of its causes, once.
pub(crate) fn error(error: &dyn Error) {
    eprintln!("{} {}", "hotbed:".red().bold(), chain(error));
}

/// Says what went wrong in words of this crate.
pub(crate) fn problem(message: impl Display) {
    eprintln!("{} {message}", "hotbed:".red().bold());
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent wrapper says what its cause says.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
