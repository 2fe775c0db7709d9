//! Commands in the guest.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hotbed_console::{Command, Error as ShellError, Progress, Repeat, Shell, Until};

use super::run::Run;
use super::{Machine, WAIT_TIMEOUT};
use crate::call::{after, now};
use crate::turn::Turn;
use crate::{Call, Error};

/// The most bytes that a command may write.
const OUTPUT_MAX: usize = 4 << 30;
/// How long after a command's own timeout a guest may take to say so, before it is taken for dead.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(10);
/// The pause between two attempts of a command that is repeated.
const INTERVAL: Duration = Duration::from_millis(100);
/// The status with which `timeout` ends.
pub(crate) const TIMED_OUT: i32 = 124;

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

/// The error of a wait that was in vain, in the NixOS driver's words.
pub(crate) fn timed_out(begin: Instant, timeout: Duration) -> Error {
    let elapsed = now().saturating_duration_since(begin).as_secs_f64();
    Error::TestFailed(format!(
        "action timed out after {elapsed:.2} seconds (timeout={})",
        seconds(timeout)
    ))
}

/// Seconds as Python prints a float.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:?}", duration.as_secs_f64())
}

/// What the output of a command is given to, piece by piece.
pub(crate) trait Sink {
    /// Takes a piece.
    fn take(&mut self, bytes: Vec<u8>) -> Result<(), Error>;
    /// Forgets all pieces: another attempt begins.
    fn discard(&mut self);
}

impl Sink for Vec<u8> {
    fn take(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        if self.len() + bytes.len() > OUTPUT_MAX {
            return Err(Error::Machine(format!(
                "a command wrote more than {OUTPUT_MAX} bytes: write to a file and copy it"
            )));
        }
        self.extend_from_slice(&bytes);
        Ok(())
    }

    fn discard(&mut self) {
        self.clear();
    }
}

/// A turn at a machine's shell.
pub(crate) struct Session<'r> {
    pub(crate) machine: &'r Machine,
    pub(crate) run: &'r Arc<Run>,
    pub(crate) shell: Turn<'r, Shell>,
}

impl Session<'_> {
    /// Begins a command and gives its output to `sink`. A guest that has not answered at `deadline` is an error.
    pub(crate) fn run(
        &mut self,
        command: &Command<'_>,
        sink: &mut dyn Sink,
        deadline: Option<Instant>,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        let until = call.slice(&|| self.doing())?;
        self.shell
            .begin(command, until)
            .map_err(|error| self.failed(error))?;
        self.collect(sink, deadline, call)
    }

    /// Runs a command whose end nobody waits for.
    pub(crate) fn run_detached(&mut self, script: &str, call: &Call<'_>) -> Result<(), Error> {
        let until = call.slice(&|| self.doing())?;
        self.shell
            .begin_detached(script, until)
            .map_err(|error| self.failed(error))
    }

    /// Waits for the end of what was begun.
    pub(crate) fn collect(
        &mut self,
        sink: &mut dyn Sink,
        deadline: Option<Instant>,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        loop {
            let slice = call.slice(&|| self.doing())?;
            match self
                .shell
                .poll_output(slice)
                .map_err(|error| self.failed(error))?
            {
                Progress::Pending => {
                    if deadline.is_some_and(|deadline| now() >= deadline) {
                        return Err(Error::Runtime(format!(
                            "{} does not answer (it is {})",
                            self.machine.name(),
                            self.machine.activity()
                        )));
                    }
                }
                Progress::Output(bytes) => sink.take(bytes)?,
                Progress::Discard => sink.discard(),
                Progress::Done(exit) => return Ok(exit.status),
            }
        }
    }

    fn doing(&self) -> String {
        format!("{} is {}", self.machine.name(), self.machine.activity())
    }

    /// What the shell's error means for the machine.
    pub(crate) fn failed(&self, error: ShellError) -> Error {
        let name = self.machine.name();
        match error {
            ShellError::Restarted { .. } => Error::Runtime(format!("{name} started anew: {error}")),
            ShellError::NotReady => {
                self.run.connected.store(false, Ordering::Release);
                Error::Runtime(format!("the shell of {name} is not there: {error}"))
            }
            ShellError::Nul | ShellError::TooLong(_) => Error::Argument(error.to_string()),
            error => self.machine.explain(
                self.run,
                Error::Machine(format!("the shell of {name} failed: {error}")),
            ),
        }
    }
}

impl Machine {
    /// Takes a turn at the shell of a run that takes commands.
    pub(crate) fn shell_session<'r>(
        &'r self,
        run: &'r Arc<Run>,
        call: &Call<'_>,
    ) -> Result<Session<'r>, Error> {
        let mut shell = run.shell.take(call, &|| {
            format!("waiting for a turn at the shell of {}", self.name())
        })?;
        // The agent may have been there before.
        if !shell.is_ready() {
            self.wait_for_shell(run, &mut shell, now(), call)?;
        }
        Ok(Session {
            machine: self,
            run,
            shell,
        })
    }

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
        self.with_channel(command.len(), call, |channel| {
            let _doing = self.begin_doing(&format!("running command `{command}`"));
            if !options.check_output {
                channel.run_detached(command, call)?;
                return Ok(Output {
                    status: -2,
                    stdout: Vec::new(),
                });
            }
            let mut stdout = Vec::new();
            let deadline = options
                .timeout
                .map(|timeout| after(now(), timeout) + ANSWER_GRACE);
            let command = Command {
                timeout: options.timeout,
                ..Command::new(command)
            };
            match channel.run(&command, &mut stdout, deadline, call) {
                Ok(status) if options.check_return => Ok(Output { status, stdout }),
                Ok(_) => Ok(Output { status: -1, stdout }),
                // Such a command may end the machine: that is no failure then.
                Err(Error::Machine(_) | Error::Runtime(_)) if !options.check_return => {
                    Ok(Output { status: -1, stdout })
                }
                Err(error) => Err(error),
            }
        })
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
        self.demand("succeed", commands, timeout, call, |command, output| {
            if output.status == 0 {
                return Ok(());
            }
            self.log(&format!("output: {}", output.text()));
            Err(Error::TestFailed(format!(
                "command `{command}` failed (exit code {})",
                output.status
            )))
        })
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
        self.demand("fail", commands, timeout, call, |command, output| {
            if output.status != 0 {
                return Ok(());
            }
            Err(Error::TestFailed(format!(
                "command `{command}` unexpectedly succeeded"
            )))
        })
    }

    /// Runs commands whose outputs must be like this; gives what they wrote, all together.
    fn demand(
        &self,
        what: &str,
        commands: &[&str],
        timeout: Option<Duration>,
        call: &Call<'_>,
        judge: impl Fn(&str, &Output) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let mut text = String::new();
        let options = Execute {
            timeout,
            ..Execute::default()
        };
        for command in commands {
            self.nested(&format!("must {what}: {command}"), || {
                let output = self.execute(command, &options, call)?;
                judge(command, &output)?;
                text.push_str(&output.text());
                Ok(())
            })?;
        }
        Ok(text)
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
        self.nested(&format!("waiting for success: {command}"), || {
            self.repeat(command, Until::Success, INTERVAL, timeout, call)
        })
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
        self.nested(&format!("waiting for failure: {command}"), || {
            self.repeat(command, Until::Failure, INTERVAL, timeout, call)
        })
    }

    /// Lets the guest repeat a command until its status is as wanted; the time that a boot takes counts.
    pub(crate) fn repeat(
        &self,
        command: &str,
        until: Until,
        interval: Duration,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let begin = now();
        self.with_channel(command.len(), call, |channel| {
            let within = timeout.saturating_sub(now().saturating_duration_since(begin));
            let command = Command {
                repeat: Some(Repeat {
                    until,
                    interval,
                    within,
                }),
                ..Command::new(command)
            };
            let mut stdout = Vec::new();
            let status = channel.wait(&command, &mut stdout, begin, timeout, call)?;
            if (status == 0) == (until == Until::Success) {
                return Ok(String::from_utf8_lossy(&stdout).into_owned());
            }
            if !stdout.is_empty() {
                self.log(&format!("output: {}", String::from_utf8_lossy(&stdout)));
            }
            Err(timed_out(begin, timeout))
        })
    }

    /// Sleeps in the guest, by the guest's clock.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn sleep(&self, duration: Duration, call: &Call<'_>) -> Result<(), Error> {
        self.succeed(&[&format!("sleep {}", seconds(duration))], None, call)
            .map(|_| ())
    }
}
