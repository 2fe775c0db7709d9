//! Commands in the guest.

use std::borrow::Cow;
use std::time::Duration;

use super::{Machine, WAIT_TIMEOUT};
use crate::{Call, Error};

/// How a command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute {
    /// Whether the exit status is wanted; without it, the status is -1.
    pub check_return: bool,
    /// Whether anything is wanted; without it, the call ends once the command is sent, with status -2.
    pub check_output: bool,
    /// After how long the guest kills the command (status 124); `None`: never.
    pub timeout: Option<Duration>,
}

impl Default for Execute {
    fn default() -> Self {
        Self {
            check_return: true,
            check_output: true,
            timeout: Some(WAIT_TIMEOUT),
        }
    }
}

/// What a command left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
}

impl Output {
    /// The output as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
}

impl Machine {
    /// Runs a command in the guest's shell, under `set -euo pipefail`; boots the machine if need be.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn execute(
        &self,
        command: &str,
        options: &Execute,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        let _ = (command, options, call);
        Err(Error::Unsupported("execute"))
    }

    /// Runs commands that must succeed; gives what they wrote, all together.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when one fails.
    pub fn succeed(
        &self,
        commands: &[&str],
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let _ = (commands, timeout, call);
        Err(Error::Unsupported("succeed"))
    }

    /// Runs commands that must fail; gives what they wrote, all together.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when one succeeds.
    pub fn fail(
        &self,
        commands: &[&str],
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let _ = (commands, timeout, call);
        Err(Error::Unsupported("fail"))
    }

    /// Repeats a command in the guest until it succeeds; gives what the last one wrote.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it has not within `timeout`.
    pub fn wait_until_succeeds(
        &self,
        command: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let _ = (command, timeout, call);
        Err(Error::Unsupported("wait_until_succeeds"))
    }

    /// Repeats a command in the guest until it fails; gives what the last one wrote.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it has not within `timeout`.
    pub fn wait_until_fails(
        &self,
        command: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let _ = (command, timeout, call);
        Err(Error::Unsupported("wait_until_fails"))
    }

    /// Sleeps in the guest, by the guest's clock.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn sleep(&self, duration: Duration, call: &Call<'_>) -> Result<(), Error> {
        let _ = (duration, call);
        Err(Error::Unsupported("sleep"))
    }
}
