//! A shell in the guest for somebody at a terminal, or for a script on standard input.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::program::{OutputStream, Process, Program, Task, TerminalSize};
use super::{Execute, Machine};
use crate::call::now;
use crate::terminal::{Far, Near, Said};
use crate::{Call, Error};

/// The most bytes of a script that a machine without an agent takes.
const SCRIPT_MAX: usize = 16 << 20;
/// The longest name of a kind of terminal.
const KIND_MAX: usize = 64;

/// Runs what comes in.
const BASH: [&str; 2] = ["bash", "-s"];

/// Goes home and becomes a login shell, bash where there is one.
const LOGIN: &str = r#"cd -- "${HOME:-/root}" 2>/dev/null || cd /
exec bash -l"#;

/// A terminal that somebody sits at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Its size.
    pub(crate) size: TerminalSize,
    /// What `TERM` says.
    pub(crate) kind: String,
}

impl Seat {
    /// The terminal of a near end, if it is one.
    pub(crate) fn of(near: &Near<'_>) -> Option<Self> {
        let kind = std::env::var("TERM").unwrap_or_default();
        near.terminal_size().map(|size| Self { size, kind })
    }

    fn kind(&self) -> &str {
        let is_sound = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
        let sound = !self.kind.is_empty() && self.kind.chars().all(is_sound);
        if sound && self.kind.len() <= KIND_MAX {
            &self.kind
        } else {
            "dumb"
        }
    }
}

impl Machine {
    /// Brings the near end together with a root shell in the guest; boots the machine if need be. Gives the shell's status, or
    /// `None` when the terminal was left by Ctrl-].
    ///
    /// With an agent the shell has a terminal if the near end is one; else all input is the shell's script. Without an agent, each
    /// line typed at a terminal is a command of its own.
    ///
    /// # Errors
    ///
    /// When the guest or the terminal is lost, or the call ends before.
    pub fn interact(
        self: &Arc<Self>,
        near: &Near<'_>,
        call: &Call<'_>,
    ) -> Result<Option<i32>, Error> {
        let shell = self.open_shell(Seat::of(near).as_ref(), call)?;
        self.log(match shell.is_terminal() {
            true => "Terminal is ready (leave it with `exit` or Ctrl-]):",
            false => "Terminal is ready (there is no initial prompt):",
        });
        near.connect(shell.as_ref(), call)
    }

    /// Opens a root shell, in a terminal if somebody sits at one.
    pub(crate) fn open_shell(
        self: &Arc<Self>,
        seat: Option<&Seat>,
        call: &Call<'_>,
    ) -> Result<Box<dyn Far>, Error> {
        let run = self.connected(call)?;
        if self.awaited_conversation(&run, call)?.is_none() {
            return Ok(Box::new(PlainShell {
                machine: Arc::clone(self),
                by_line: seat.is_some(),
                input: Mutex::default(),
                came: Condvar::new(),
            }));
        }
        let Some(seat) = seat else {
            let task = Task::new(Program::Arguments(BASH.map(str::to_owned).to_vec()));
            let process = self.start_process(&task, None, call)?;
            return Ok(Box::new(AgentShell {
                process,
                is_terminal: false,
            }));
        };
        let task = Task {
            environment: vec![("TERM".to_owned(), Some(seat.kind().to_owned()))],
            ..Task::new(Program::Script(LOGIN.to_owned()))
        };
        let process = self.start_process(&task, Some(seat.size), call)?;
        Ok(Box::new(AgentShell {
            process,
            is_terminal: true,
        }))
    }
}

/// A shell that the agent started.
struct AgentShell {
    process: Process,
    is_terminal: bool,
}

impl Far for AgentShell {
    fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn write(&self, bytes: &[u8], call: &Call<'_>) -> Result<(), Error> {
        self.process.write(bytes, call)
    }

    fn end_input(&self, _call: &Call<'_>) -> Result<(), Error> {
        self.process.close_stdin();
        Ok(())
    }

    fn resize(&self, size: TerminalSize, _call: &Call<'_>) -> Result<(), Error> {
        self.process.resize(size);
        Ok(())
    }

    fn poll(&self, until: Instant, call: &Call<'_>) -> Result<Said, Error> {
        self.process.poll_any(until, call)
    }
}

/// The backdoor shell, which runs one thing after the other.
struct PlainShell {
    machine: Arc<Machine>,
    /// Each line is a command; else all of the input is a script.
    by_line: bool,
    input: Mutex<Input>,
    came: Condvar,
}

/// What was typed and has not been run yet, and what came of what was.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    has_ended: bool,
    /// What is still to be said.
    said: VecDeque<(OutputStream, Vec<u8>)>,
    /// The status of the last command.
    status: i32,
}

/// What a plain shell does next.
enum Next {
    Say(OutputStream, Vec<u8>),
    Line(String),
    Script(Vec<u8>),
    End(i32),
}

impl PlainShell {
    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next, if it is known before `until`.
    fn next(&self, until: Instant) -> Option<Next> {
        let mut input = self.input();
        loop {
            if let Some((stream, bytes)) = input.said.pop_front() {
                return Some(Next::Say(stream, bytes));
            }
            let newline = input.bytes.iter().position(|&byte| byte == b'\n');
            let end = match newline.filter(|_| self.by_line) {
                Some(at) => at + 1,
                None if input.has_ended => input.bytes.len(),
                None => {
                    let left = until.saturating_duration_since(now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.came.wait_timeout(input, left);
                    input = waited.unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            if end == 0 {
                return Some(Next::End(input.status));
            }
            let bytes: Vec<u8> = input.bytes.drain(..end).collect();
            return Some(match self.by_line {
                true => Next::Line(String::from_utf8_lossy(&bytes).into_owned()),
                false => Next::Script(bytes),
            });
        }
    }

    fn run_line(&self, line: &str, call: &Call<'_>) -> Result<(), Error> {
        let options = Execute {
            timeout: None,
            ..Execute::default()
        };
        // A shell at a terminal is not as strict as a test's commands, and what it says of errors belongs to what it says.
        let command = format!("exec 2>&1\nset +euo pipefail\n{line}");
        let output = self.machine.execute(&command, &options, call)?;
        let mut input = self.input();
        input.status = output.status;
        input.said.push_back((OutputStream::Stdout, output.stdout));
        Ok(())
    }

    fn run_script(&self, script: &[u8], call: &Call<'_>) -> Result<(), Error> {
        let task = Task::new(Program::Arguments(BASH.map(str::to_owned).to_vec()));
        let finished = self.machine.run_task(&task, Some(script), call)?;
        let mut input = self.input();
        input.status = finished.status;
        let (stdout, stderr) = (finished.stdout, finished.stderr);
        input.said.push_back((OutputStream::Stdout, stdout));
        input.said.push_back((OutputStream::Stderr, stderr));
        Ok(())
    }
}

impl Far for PlainShell {
    fn is_terminal(&self) -> bool {
        false
    }

    fn write(&self, bytes: &[u8], _call: &Call<'_>) -> Result<(), Error> {
        let mut input = self.input();
        if input.bytes.len() + bytes.len() > SCRIPT_MAX {
            return Err(Error::Argument(format!(
                "{} has no agent and takes a script of {SCRIPT_MAX} bytes at most: copy it there and run it",
                self.machine.name()
            )));
        }
        input.bytes.extend_from_slice(bytes);
        self.came.notify_all();
        Ok(())
    }

    fn end_input(&self, _call: &Call<'_>) -> Result<(), Error> {
        self.input().has_ended = true;
        self.came.notify_all();
        Ok(())
    }

    fn resize(&self, _size: TerminalSize, _call: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn poll(&self, until: Instant, call: &Call<'_>) -> Result<Said, Error> {
        match self.next(until) {
            None => return Ok(Said::Nothing),
            Some(Next::Say(stream, bytes)) => return Ok(Said::Output(stream, bytes)),
            Some(Next::End(status)) => return Ok(Said::Ended(status)),
            Some(Next::Line(line)) => self.run_line(&line, call)?,
            Some(Next::Script(script)) => self.run_script(&script, call)?,
        }
        Ok(Said::Nothing)
    }
}
