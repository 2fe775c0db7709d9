//! Programs in the guest with their input, output, errors and end apart, as `subprocess` has them.
//!
//! With an agent any number of them run at once, and what they write comes as it is written ([`Process`]). Over the backdoor shell
//! one runs to its end, its input and its errors by way of files.

mod by_shell;
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hotbed_console::agent::wire::{self, Exit, Size, Stderr, Stream};
use hotbed_console::agent::{Ended, Progress, Running};

use super::Machine;
use super::channel::{Channel, Conversation, milliseconds};
use super::run::Run;
use super::shell::{ANSWER_GRACE, Sink};
use crate::call::{after, now};
use crate::{Call, Error};
pub use hotbed_console::agent::wire::Size as TerminalSize;
pub use hotbed_console::agent::wire::Stream as OutputStream;
pub use process::{Process, Streams};

/// How long an agent may take to come after the shell, where it is needed.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// What a [`Task`] runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A script, under `set -euo pipefail`, as [`Machine::execute`] runs it.
    Script(String),
    /// A program, found by the guest's `PATH`, and its arguments.
    Arguments(Vec<String>),
}

/// A program in the guest, and how it is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What.
    pub program: Program,
    /// Variables to set, or to unset.
    pub environment: Vec<(String, Option<String>)>,
    /// As whom, by name or number; root, if there is none.
    pub user: Option<String>,
    /// In which folder; `/tmp`, if there is none.
    pub directory: Option<String>,
    /// After how long it is killed, with all that it has started.
    pub timeout: Option<Duration>,
    /// What it writes to its standard error comes with its standard output, in the order written.
    pub merges_stderr: bool,
}

impl Task {
    /// A program that is run as commands are: by root, in `/tmp`, without a timeout.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            environment: Vec::new(),
            user: None,
            directory: None,
            timeout: None,
            merges_stderr: false,
        }
    }

    /// The program as one would write it, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.program {
            Program::Script(script) => script.clone(),
            Program::Arguments(words) => {
                let words: Vec<_> = words
                    .iter()
                    .map(|word| super::quoting::quote(word))
                    .collect();
                words.join(" ")
            }
        }
    }

    /// Refuses what no program can be given.
    fn check(&self) -> Result<(), Error> {
        let (what, words): (&str, Vec<&String>) = match &self.program {
            Program::Script(script) => ("script", vec![script]),
            Program::Arguments(words) if words.is_empty() => {
                return Err(Error::Argument("there is no program to run".to_owned()));
            }
            Program::Arguments(words) => ("argument", words.iter().collect()),
        };
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Error::Argument(format!("a NUL in a {what}")));
        }
        let bad = |(name, value): &&(String, Option<String>)| {
            name.is_empty()
                || name.contains(['=', '\0'])
                || value.as_ref().is_some_and(|value| value.contains('\0'))
        };
        match self.environment.iter().find(bad) {
            Some((name, _)) => Err(Error::Argument(format!(
                "no program can be given the variable {name:?}"
            ))),
            None => Ok(()),
        }
    }

    /// What the agent is asked for, and the script that goes with it.
    fn request(&self, stdin: bool, terminal: Option<Size>) -> (wire::Command, &[u8]) {
        let (program, script) = match &self.program {
            Program::Script(script) => {
                (wire::Program::Script { own_bash: true }, script.as_bytes())
            }
            Program::Arguments(words) => (wire::Program::Arguments(words.clone()), &[][..]),
        };
        let command = wire::Command {
            program,
            directory: self.directory.clone(),
            environment: self.environment.clone(),
            user: self.user.clone(),
            terminal,
            stdin,
            stderr: match self.merges_stderr {
                true => Stderr::WithStdout,
                false => Stderr::Apart,
            },
            timeout_ms: self.timeout.map(milliseconds),
            repeat: None,
            detached: false,
        };
        (command, script)
    }
}

/// What a program left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status; of one that a signal ended, the signal's number below zero. Of a program of another user over the
    /// backdoor shell, a status from 129 to 159 is told as a signal, as `su` does not say which it was.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub duration: Duration,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
}

impl Finished {
    fn end(&mut self, ended: &Ended) {
        self.status = status(ended);
        self.duration = ended.duration;
        self.timed_out = ended.timed_out;
    }
}

/// As `subprocess` has it.
fn status(ended: &Ended) -> i32 {
    match ended.exit {
        Exit::Code(code) => code.into(),
        Exit::Signal(signal) => -i32::from(signal),
    }
}

impl Machine {
    /// Runs a program to its end; boots the machine if need be. That it fails is no error.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, the guest is lost or the call ends before.
    pub fn run_task(
        &self,
        task: &Task,
        stdin: Option<&[u8]>,
        call: &Call<'_>,
    ) -> Result<Finished, Error> {
        task.check()?;
        let shown = task.shown();
        self.nested(&format!("running {shown}"), || {
            self.with_channel(shown.len(), call, |channel| match channel {
                Channel::Agent(conversation) => conversation.run_task(task, stdin, call),
                Channel::Shell(session) => by_shell::run(session, task, stdin, call),
            })
        })
    }

    /// Starts a program, which goes on by itself; it is killed when the handle is dropped. Boots the machine if need be.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or [`Error::NoAgent`].
    pub fn spawn(self: &Arc<Self>, task: &Task, call: &Call<'_>) -> Result<Process, Error> {
        task.check()?;
        self.log(&format!("starting {}", task.shown()));
        self.start_process(task, None, call)
    }

    /// Starts a program with a terminal of this size as its input and output.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_in_terminal(
        self: &Arc<Self>,
        task: &Task,
        size: TerminalSize,
        call: &Call<'_>,
    ) -> Result<Process, Error> {
        task.check()?;
        self.start_process(task, Some(size), call)
    }

    pub(super) fn start_process(
        self: &Arc<Self>,
        task: &Task,
        terminal: Option<Size>,
        call: &Call<'_>,
    ) -> Result<Process, Error> {
        let run = self.connected(call)?;
        let Some(conversation) = self.awaited_conversation(&run, call)? else {
            return Err(Error::NoAgent {
                what: "a program that goes on by itself".to_owned(),
                machine: self.name().to_owned(),
                why: run.agent.why_not(),
            });
        };
        let (command, script) = task.request(true, terminal);
        let running = conversation.start(&command, script)?;
        Process::begin(self, &run, running, task.shown(), call)
    }
}

impl Machine {
    /// The agent, which may come a little later than the shell.
    pub(super) fn awaited_conversation<'r>(
        &'r self,
        run: &'r Arc<Run>,
        call: &Call<'_>,
    ) -> Result<Option<Conversation<'r>>, Error> {
        let patience = now() + AGENT_PATIENCE;
        while run.agent.is_open() && now() < patience && run.is_running() {
            let slice = call.slice(&|| format!("waiting for the agent of {}", self.name()))?;
            if run.agent.poll_ready(slice.min(patience)).is_some() {
                break;
            }
        }
        Ok(self.conversation(run))
    }
}

impl Conversation<'_> {
    fn run_task(
        &self,
        task: &Task,
        stdin: Option<&[u8]>,
        call: &Call<'_>,
    ) -> Result<Finished, Error> {
        let (command, script) = task.request(stdin.is_some(), None);
        let running = self.start(&command, script)?;
        let rest = stdin.map(|bytes| {
            let taken = running.write_stdin(bytes, now());
            bytes.get(taken..).unwrap_or_default()
        });
        match rest {
            None => self.collect_task(&running, task, call),
            Some([]) => {
                running.close_stdin();
                self.collect_task(&running, task, call)
            }
            Some(rest) => self.feed_and_collect(&running, task, rest, call),
        }
    }

    /// Gives a program more input than fits at once, while its output is taken.
    fn feed_and_collect(
        &self,
        running: &Running,
        task: &Task,
        mut rest: &[u8],
        call: &Call<'_>,
    ) -> Result<Finished, Error> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let feed = || {
                while !rest.is_empty() && !over.load(Ordering::Relaxed) {
                    let taken = running.write_stdin(rest, now() + crate::call::SLICE);
                    rest = rest.get(taken..).unwrap_or_default();
                }
                running.close_stdin();
            };
            std::thread::Builder::new()
                .name("stdin".to_owned())
                .spawn_scoped(scope, feed)
                .map_err(Error::host("cannot start a thread"))?;
            let finished = self.collect_task(running, task, call);
            over.store(true, Ordering::Relaxed);
            finished
        })
    }

    fn collect_task(
        &self,
        running: &Running,
        task: &Task,
        call: &Call<'_>,
    ) -> Result<Finished, Error> {
        let deadline = task
            .timeout
            .map(|timeout| after(now(), timeout) + ANSWER_GRACE);
        let mut finished = Finished::default();
        loop {
            let slice = call.slice(&|| self.doing())?;
            match running
                .poll_output(slice)
                .map_err(|error| self.failed(error))?
            {
                Progress::Output(Stream::Stdout, bytes) => finished.stdout.take(bytes)?,
                Progress::Output(Stream::Stderr, bytes) => finished.stderr.take(bytes)?,
                Progress::Exited(ended) => {
                    finished.end(&ended);
                    return Ok(finished);
                }
                Progress::Pending if deadline.is_some_and(|deadline| now() >= deadline) => {
                    return Err(Error::Runtime(format!(
                        "{} does not answer (it is {})",
                        self.machine.name(),
                        self.machine.activity()
                    )));
                }
                Progress::Pending | Progress::Discard | Progress::Detached => {}
            }
        }
    }
}
