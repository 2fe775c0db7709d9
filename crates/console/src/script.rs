//! The shell text that runs a command in the guest and makes it answer.

use std::time::Duration;

/// The longest script that is taken, in bytes.
pub const SCRIPT_MAX: usize = 16 << 20;

/// How long beyond [`Repeat::within`] an attempt may go on that began in time.
pub const REPEAT_GRACE: Duration = Duration::from_secs(1);

/// One command for the guest's root shell.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Shell script; it runs under `set -euo pipefail` with an empty standard input.
    pub script: &'a str,
    /// After how long the guest ends the command; its status is 124 then. `None`: never.
    pub timeout: Option<Duration>,
    /// Whether the guest is to run it again and again.
    pub repeat: Option<Repeat>,
}

/// A loop in the guest that tries a command until it has the result that one waits for.
///
/// The answer is that of the last attempt. An attempt begins at least every [`interval`](Self::interval) after the end of
/// the one before; the last one when [`within`](Self::within) has passed, and [`REPEAT_GRACE`] later even that is ended,
/// with status 124.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// What is waited for.
    pub until: Until,
    /// The pause between two attempts.
    pub interval: Duration,
    /// How long to go on.
    pub within: Duration,
}

/// What a [`Repeat`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Status 0.
    Success,
    /// Any other status.
    Failure,
}

impl<'a> Command<'a> {
    /// Makes a command that runs once, without a timeout.
    pub fn new(script: &'a str) -> Self {
        Self {
            script,
            timeout: None,
            repeat: None,
        }
    }
}
