//! The way that commands take into a guest: to its agent where that has answered, else to the backdoor shell.
//!
//! Whoever runs a command cannot tell which it was, but for the time: the agent takes any number at once, and what is waited for
//! comes from it as an event.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hotbed_console::agent::wire::{self, Exit, FailureKind, PAYLOAD_MAX, Stream, Wait};
use hotbed_console::agent::{self, Agent, Ended, Error as AgentError, Running};
use hotbed_console::script::REPEAT_GRACE;
use hotbed_console::{Command, Error as ShellError, Until};

use super::Machine;
use super::run::Run;
use super::shell::{Session, Sink, TIMED_OUT, timed_out};
use crate::call::{after, now};
use crate::{Call, Error};

/// How long after a wait's timeout a guest may take to say so.
const WAIT_GRACE: Duration = Duration::from_secs(3);

/// A way into the guest.
pub(crate) enum Channel<'r> {
    /// The backdoor shell, one command after the other.
    Shell(Box<Session<'r>>),
    /// The agent.
    Agent(Conversation<'r>),
}

/// An agent that has answered.
pub(crate) struct Conversation<'r> {
    pub(crate) machine: &'r Machine,
    pub(crate) run: &'r Arc<Run>,
    pub(crate) agent: Agent,
}

/// What became of something that was waited for.
pub(crate) enum Event {
    /// It happened; what was found.
    Happened(String),
    /// It cannot happen.
    Refused(FailureKind, String),
    /// There is no agent that could wait for it.
    Unknown,
}

impl Channel<'_> {
    /// Runs a command and gives its output to `sink`. A guest that has not answered at `deadline` is an error.
    pub(crate) fn run(
        &mut self,
        command: &Command<'_>,
        sink: &mut dyn Sink,
        deadline: Option<Instant>,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        match self {
            Self::Shell(session) => session.run(command, sink, deadline, call),
            Self::Agent(conversation) => conversation.run(command, sink, deadline, call),
        }
    }

    /// Runs a command whose end nobody waits for.
    pub(crate) fn run_detached(&mut self, script: &str, call: &Call<'_>) -> Result<(), Error> {
        match self {
            Self::Shell(session) => session.run_detached(script, call),
            Self::Agent(conversation) => conversation.run_detached(script),
        }
    }

    /// Runs a command that ends within `timeout` of `begin` by itself; a guest that does not answer then has timed out.
    pub(crate) fn wait(
        &mut self,
        command: &Command<'_>,
        sink: &mut dyn Sink,
        begin: Instant,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        let deadline = after(begin, timeout) + WAIT_GRACE;
        match self.run(command, sink, Some(deadline), call) {
            Err(Error::Runtime(_)) if now() >= deadline && self.is_running() => {
                Err(timed_out(begin, timeout))
            }
            result => result,
        }
    }

    /// The machine that it leads into.
    pub(crate) fn machine(&self) -> &Machine {
        match self {
            Self::Shell(session) => session.machine,
            Self::Agent(conversation) => conversation.machine,
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Shell(session) => session.run.is_running(),
            Self::Agent(conversation) => conversation.run.is_running(),
        }
    }
}

impl Machine {
    /// Runs `body` with the best way into the guest that takes a script of this length; boots the machine if need be.
    pub(crate) fn with_channel<T>(
        &self,
        script_len: usize,
        call: &Call<'_>,
        body: impl FnOnce(&mut Channel<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let run = self.connected(call)?;
        match self.conversation(&run) {
            Some(conversation) if script_len <= PAYLOAD_MAX => {
                body(&mut Channel::Agent(conversation))
            }
            _ => body(&mut Channel::Shell(Box::new(
                self.shell_session(&run, call)?,
            ))),
        }
    }

    /// Runs `body` with the agent; gives `None` when there is none.
    pub(crate) fn with_agent<T>(
        &self,
        call: &Call<'_>,
        body: impl FnOnce(&Conversation<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let run = self.connected(call)?;
        match self.conversation(&run) {
            Some(conversation) => body(&conversation).map(Some),
            None => Ok(None),
        }
    }

    /// The agent of a run whose guest takes commands.
    pub(crate) fn conversation<'r>(&'r self, run: &'r Arc<Run>) -> Option<Conversation<'r>> {
        let (agent, _) = run.agent.poll_ready(now())?;
        Some(Conversation {
            machine: self,
            run,
            agent,
        })
    }

    /// Lets the agent wait for something; the time that a boot takes counts.
    pub(crate) fn wait_for_event(
        &self,
        wait: &Wait,
        begin: Instant,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<Event, Error> {
        let event = self.with_agent(call, |conversation| {
            conversation.wait(wait, begin, timeout, call)
        })?;
        Ok(event.unwrap_or(Event::Unknown))
    }
}

impl Conversation<'_> {
    fn run(
        &self,
        command: &Command<'_>,
        sink: &mut dyn Sink,
        deadline: Option<Instant>,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        let running = self.start_script(command, false)?;
        loop {
            let slice = call.slice(&|| self.doing())?;
            match running
                .poll_output(slice)
                .map_err(|error| self.failed(error))?
            {
                agent::Progress::Pending => {
                    if deadline.is_some_and(|deadline| now() >= deadline) {
                        return Err(Error::Runtime(format!(
                            "{} does not answer (it is {})",
                            self.machine.name(),
                            self.machine.activity()
                        )));
                    }
                }
                agent::Progress::Output(Stream::Stdout, bytes) => sink.take(bytes)?,
                agent::Progress::Discard => sink.discard(),
                agent::Progress::Exited(ended) => return Ok(status_of(&ended)),
                agent::Progress::Detached => return Ok(0),
                agent::Progress::Output(Stream::Stderr, _) => {}
            }
        }
    }

    fn run_detached(&self, script: &str) -> Result<(), Error> {
        self.start_script(&Command::new(script), true).map(drop)
    }

    /// Has the agent answer, and no more.
    pub(crate) fn ping(&self, call: &Call<'_>) -> Result<(), Error> {
        loop {
            let slice = call.slice(&|| self.doing())?;
            let answered = self.agent.ping(slice);
            if answered.map_err(|error| self.failed(error))?.is_some() {
                return Ok(());
            }
        }
    }

    /// Tells the guest to power off, as its backdoor shell would be told.
    pub(crate) fn power_off(&self) -> Result<(), Error> {
        self.run_detached("poweroff")
    }

    fn start_script(&self, command: &Command<'_>, detached: bool) -> Result<Running, Error> {
        let script = command.script;
        if script.contains('\0') {
            return Err(Error::Argument(ShellError::Nul.to_string()));
        }
        // One attempt at least has its time, however short the wait.
        let within = command.repeat.map(|repeat| repeat.within.max(REPEAT_GRACE));
        let request = wire::Command {
            timeout_ms: within.or(command.timeout).map(milliseconds),
            repeat: command.repeat.map(|repeat| wire::Repeat {
                until_success: repeat.until == Until::Success,
                interval_ms: milliseconds(repeat.interval),
            }),
            detached,
            ..wire::Command::script(script)
        };
        self.start(&request, script.as_bytes())
    }

    /// Starts a program.
    pub(crate) fn start(&self, command: &wire::Command, script: &[u8]) -> Result<Running, Error> {
        self.agent
            .start(command, script)
            .map_err(|error| self.failed(error))
    }

    pub(crate) fn wait(
        &self,
        wait: &Wait,
        begin: Instant,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<Event, Error> {
        let left = timeout.saturating_sub(now().saturating_duration_since(begin));
        let waiting = self
            .agent
            .wait(wait.clone(), Some(left))
            .map_err(|error| self.failed(error))?;
        let deadline = after(begin, timeout) + WAIT_GRACE;
        loop {
            let slice = call.slice(&|| self.doing())?;
            match waiting.poll(slice) {
                Ok(Some(found)) => return Ok(Event::Happened(found)),
                Ok(None) if now() >= deadline => return Err(timed_out(begin, timeout)),
                Ok(None) => {}
                Err(AgentError::Failed { kind, message }) => {
                    return match kind {
                        FailureKind::TimedOut => Err(timed_out(begin, timeout)),
                        FailureKind::Unsupported => Ok(Event::Unknown),
                        kind => Ok(Event::Refused(kind, message)),
                    };
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    pub(crate) fn doing(&self) -> String {
        format!("{} is {}", self.machine.name(), self.machine.activity())
    }

    /// What the agent's error means for the machine.
    pub(crate) fn failed(&self, error: AgentError) -> Error {
        let name = self.machine.name();
        match error {
            AgentError::Restarted => Error::Runtime(format!(
                "the agent of {name} started anew, so what became of this is not known: the machine has rebooted, or the agent failed (its console says so then)"
            )),
            AgentError::NotReady => {
                self.run.connected.store(false, Ordering::Release);
                Error::Runtime(format!("the agent of {name} is not there: {error}"))
            }
            AgentError::Failed { kind, message } => refused(name, kind, &message),
            AgentError::TooLarge(_) => Error::Argument(error.to_string()),
            error => {
                if matches!(error, AgentError::Garbled(_)) {
                    self.run.agent.give_up(&error);
                }
                self.machine.explain(
                    self.run,
                    Error::Machine(format!("the agent of {name} failed: {error}")),
                )
            }
        }
    }
}

/// What it means that the agent could not do something: the test asked for what the guest has not, or the guest is broken.
pub(crate) fn refused(machine: &str, kind: FailureKind, message: &str) -> Error {
    let text = format!("{machine}: {message}");
    match kind {
        FailureKind::Invalid => Error::Argument(text),
        FailureKind::Unsupported => Error::Machine(text),
        _ => Error::TestFailed(text),
    }
}

/// The status that a shell would give.
pub(crate) fn status_of(ended: &Ended) -> i32 {
    match ended.exit {
        _ if ended.timed_out => TIMED_OUT,
        Exit::Code(code) => code.into(),
        Exit::Signal(signal) => 128 + i32::from(signal),
    }
}

/// Rounds up, and to no less than one.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    let millis = duration.as_micros().div_ceil(1000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX)
}
