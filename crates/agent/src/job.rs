//! Commands: one [`Job`] each, from its start to its answer.
//!
//! - [`spawn`]: a program of its own, and what it gets.
//! - [`output`]: what it writes, into frames; no more than the host gave leave for.
//! - [`input`]: what it reads.
//!
//! A job runs in a waiting shell ([`crate::zygote`]) where that makes no difference, else in a process of its own. It ends when its main
//! process has ended and its output is closed, or at its deadline.

use crate::failure::Failure;
use crate::port::Port;
use crate::tree::Tree;
use hotbed_console::agent::wire::{
    Command, Entry, Event, Exit, FailureKind, Id, Stderr, Stream, WINDOW, encode_frame,
};
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod spawn;

use input::Input;
use output::{Output, Pumped};
use spawn::Own;

/// After so long, what was killed counts as dead.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Output that something holds open is looked at again after such pauses.
const HELD_MIN: Duration = Duration::from_millis(10);
const HELD_MAX: Duration = Duration::from_millis(500);

/// How much of what a helper of ours says is told.
const MESSAGE_MAX: usize = 4096;

/// What a job is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command of the host's.
    Command,
    /// Our own helper that unpacks a folder.
    PutFolder,
    /// Our own helper that packs one.
    GetFolder(Entry),
}

/// Where a job runs.
#[derive(Debug)]
pub(crate) enum Place {
    /// In this shell.
    Shell(usize),
    /// In a process of its own.
    Own(Own),
    /// Nowhere, until the next attempt.
    Pause {
        /// When that begins.
        until: Instant,
    },
}

/// A command.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Id,
    pub(crate) purpose: Purpose,
    pub(crate) command: Command,
    pub(crate) script: Vec<u8>,
    pub(crate) place: Place,
    pub(crate) begun: Instant,
    pub(crate) deadline: Option<Instant>,
    /// How the attempt ended; its output may not be all there yet.
    pub(crate) exit: Option<Exit>,
    /// When its processes were killed.
    pub(crate) killed: Option<Instant>,
    timed_out: bool,
    credit: u32,
    pub(crate) input: Option<Input>,
    message: Vec<u8>,
    /// There is something to send, and leave, but no room.
    has_more: bool,
    /// When the pipes of its shell begin to be watched.
    pub(crate) watch_at: Option<Instant>,
    /// When to look whether its output is still held open.
    look_at: Option<Instant>,
    look_pause: Duration,
    /// Something that it has started goes on.
    pub(crate) leaves_something: bool,
    /// Its start was told, with the number of its process.
    started: bool,
}

impl Job {
    /// Makes a job that runs nowhere yet.
    pub(crate) fn new(
        id: Id,
        purpose: Purpose,
        command: Command,
        script: Vec<u8>,
        now: Instant,
    ) -> Box<Self> {
        let timeout = command.timeout_ms.map(Duration::from_millis);
        let input = command.stdin.then(Input::default);
        Box::new(Self {
            id,
            purpose,
            command,
            script,
            place: Place::Pause { until: now },
            begun: now,
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            exit: None,
            killed: None,
            timed_out: false,
            credit: WINDOW,
            input,
            message: Vec::new(),
            has_more: false,
            watch_at: None,
            look_at: None,
            look_pause: Duration::ZERO,
            leaves_something: false,
            started: false,
        })
    }

    /// Takes note that one of its descriptors is ready; which one is found out by trying.
    pub(crate) fn handle_ready(&mut self) {
        if let Place::Own(own) = &mut self.place {
            own.outputs
                .iter_mut()
                .flatten()
                .for_each(Output::handle_ready);
        }
    }

    /// Takes input. More than there was leave for is lost.
    pub(crate) fn handle_input(&mut self, bytes: &[u8], end: bool) {
        if let Some(input) = &mut self.input
            && input.queued() + bytes.len() <= WINDOW as usize
        {
            input.push(bytes, end);
        }
    }

    /// Writes input to where it is read, and gives leave for more.
    pub(crate) fn pump_input(&mut self, port: &mut Port) {
        if let Some(bytes) = self.input.as_mut().and_then(Input::pump) {
            let id = self.id;
            send(port, &Event::Credit { id, bytes });
        }
    }

    /// Whether there is something to send, and leave, but no room.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Its output is held open by something that it left: the longer, the less often that is looked at.
    pub(crate) fn look_again(&mut self, now: Instant) {
        self.look_pause = (self.look_pause * 3 / 2).clamp(HELD_MIN, HELD_MAX);
        self.look_at = Some(now + self.look_pause);
    }

    /// There is more to be sent before that is looked at.
    pub(crate) fn forget_look(&mut self) {
        self.look_at = None;
    }

    /// Whether it was looked at a moment ago.
    pub(crate) fn was_looked_at(&self, now: Instant) -> bool {
        self.look_at.is_some_and(|at| at > now)
    }

    /// Tells that it runs.
    pub(crate) fn tell_start(&mut self, pid: Pid, port: &mut Port) {
        if !std::mem::replace(&mut self.started, true) {
            let event = match &self.purpose {
                Purpose::Command => Event::Started {
                    id: self.id,
                    pid: pid.as_raw_nonzero().get().unsigned_abs(),
                },
                Purpose::GetFolder(entry) => Event::Entry {
                    id: self.id,
                    entry: entry.clone(),
                },
                Purpose::PutFolder => return,
            };
            send(port, &event);
        }
    }

    /// Takes note of leave to send more.
    pub(crate) fn add_credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes).min(WINDOW);
    }

    /// Sends what was written, as far as there is leave. Says whether all that will come has come.
    pub(crate) fn pump(&mut self, shell: Option<&mut ShellOutputs<'_>>, port: &mut Port) -> bool {
        let is_told = self.command.stderr == Stderr::Apart && self.purpose == Purpose::Command;
        let mut is_whole = true;
        // A shell holds its pipes open itself.
        let is_over = self.killed.is_some() || matches!(self.place, Place::Shell(_));
        self.has_more = false;
        let outputs: [Option<&mut Output>; 2] = match (&mut self.place, shell) {
            (Place::Own(own), _) => own.outputs.each_mut().map(Option::as_mut),
            (Place::Shell(_), Some(shell)) => [
                Some(&mut *shell.stdout),
                is_told.then_some(&mut *shell.stderr),
            ],
            _ => [None, None],
        };
        for (output, stream) in outputs.into_iter().zip([Stream::Stdout, Stream::Stderr]) {
            let Some(output) = output else { continue };
            let pumped = if stream == Stream::Stderr && !is_told {
                output.keep(&mut self.message, MESSAGE_MAX)
            } else {
                output.pump(self.id, stream, &mut self.credit, port)
            };
            is_whole &= match pumped {
                Pumped::End => true,
                Pumped::Empty => is_over,
                Pumped::Blocked => {
                    self.has_more |= self.credit > 0;
                    false
                }
            };
        }
        is_whole
    }

    /// Ends the job's processes. How it ended is decided with that.
    pub(crate) fn handle_killed(&mut self, now: Instant, timed_out: bool) {
        self.killed = Some(now);
        self.timed_out |= timed_out;
        self.exit.get_or_insert(Exit::Signal(9));
    }

    /// Whether nothing is waited for any more: what was killed long ago counts as dead.
    pub(crate) fn is_given_up(&self, now: Instant) -> bool {
        self.killed.is_some_and(|killed| now >= killed + KILL_GRACE)
    }

    /// Whether the job is over with this exit, or else when the next attempt begins.
    pub(crate) fn next_attempt(&self, exit: Exit, now: Instant) -> Option<Instant> {
        let repeat = self.command.repeat?;
        if self.killed.is_some() || (exit == Exit::Code(0)) == repeat.until_success {
            return None;
        }
        Some(now + Duration::from_millis(repeat.interval_ms))
    }

    /// Prepares for another attempt.
    pub(crate) fn handle_attempt(&mut self, port: &mut Port) {
        self.exit = None;
        self.started = true;
        send(port, &Event::Discard { id: self.id });
    }

    /// When something must be looked at again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let pause = match &self.place {
            Place::Pause { until } => Some(*until),
            _ => None,
        };
        let deadline = match self.killed {
            Some(killed) => Some(killed + KILL_GRACE),
            None => self.deadline,
        };
        [pause, deadline, self.look_at, self.watch_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells how the job ended.
    pub(crate) fn tell_end(&mut self, now: Instant, port: &mut Port) {
        let id = self.id;
        let exit = self.exit.unwrap_or(Exit::Signal(9));
        let event = match (&self.purpose, exit) {
            (Purpose::Command, exit) => Event::Exited {
                id,
                exit,
                micros: now
                    .duration_since(self.begun)
                    .as_micros()
                    .try_into()
                    .unwrap_or(u64::MAX),
                timed_out: self.timed_out,
            },
            (_, Exit::Code(0)) => Event::Done {
                id,
                found: String::new(),
            },
            (_, Exit::Signal(9)) if self.killed.is_some() => {
                failed(id, &Failure::new(FailureKind::Cancelled, "cancelled"))
            }
            (_, exit) => {
                let message = String::from_utf8_lossy(&self.message);
                let message = match message.trim() {
                    "" => format!("it ended with {exit:?}"),
                    message => message.to_owned(),
                };
                failed(id, &Failure::new(FailureKind::Os, message))
            }
        };
        send(port, &event);
    }

    /// Sends a signal to the main process, or, with `tree`, to all.
    pub(crate) fn signal(&self, number: i32, tree: bool, shell: Option<(Option<Pid>, Tree<'_>)>) {
        let Some(signal) = Signal::from_named_raw(number) else {
            return;
        };
        let (main, all) = match (&self.place, shell) {
            (Place::Own(own), _) => (Some(own.pid).filter(|_| self.exit.is_none()), own.tree()),
            (Place::Shell(_), Some((child, tree))) => (child, tree),
            _ => return,
        };
        if tree {
            all.signal(signal);
        } else if let Some(main) = main {
            let _ = rustix::process::kill_process(main, signal);
        }
    }
}

/// The outputs of the shell that a job runs in.
#[derive(Debug)]
pub(crate) struct ShellOutputs<'a> {
    pub(crate) stdout: &'a mut Output,
    pub(crate) stderr: &'a mut Output,
}

/// Sends an event without a payload.
pub(crate) fn send(port: &mut Port, event: &Event) {
    // What is too long for a frame was cut to size before.
    let _ = encode_frame(event, &[], &mut port.out);
}

/// What the host is told of a failure.
pub(crate) fn failed(id: Id, failure: &Failure) -> Event {
    Event::Failed {
        id,
        kind: failure.kind,
        message: failure.message.chars().take(MESSAGE_MAX).collect(),
    }
}
