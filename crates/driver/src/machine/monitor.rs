//! QEMU's human monitor, and keys.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::Machine;
use crate::call::{after, now};
use crate::process::{wait_readable, write_until};
use crate::{Call, Error};

/// What the monitor says when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";
/// The most bytes of one answer.
const ANSWER_MAX: usize = 64 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// A session with the human monitor.
#[derive(Debug)]
pub(crate) struct Monitor {
    #[expect(clippy::disallowed_types, reason = "the I/O shell")]
    stream: std::os::unix::net::UnixStream,
    /// What came since the last answer.
    text: Vec<u8>,
    /// How many prompts are still to come before the monitor is ours: those of commands that nobody waited for.
    prompts: usize,
}

impl Monitor {
    /// Takes the stream over; the monitor's first prompt is still to come.
    #[expect(clippy::disallowed_types, reason = "the I/O shell")]
    pub(crate) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            text: Vec::new(),
            prompts: 1,
        })
    }

    /// Waits until the monitor is ready for a command; gives what it said.
    pub(crate) fn wait_for_prompt(&mut self, call: &Call<'_>) -> Result<String, Error> {
        let mut answer = Vec::new();
        while self.prompts > 0 {
            if let Some(at) = find(&self.text, PROMPT) {
                answer = self.text.drain(..at + PROMPT.len()).collect();
                self.prompts -= 1;
                continue;
            }
            self.read(call)?;
        }
        answer.truncate(answer.len().saturating_sub(PROMPT.len()));
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Runs a command; gives all that the monitor says up to the next prompt.
    pub(crate) fn command(&mut self, command: &str, call: &Call<'_>) -> Result<String, Error> {
        if command.contains(['\n', '\r']) {
            return Err(Error::Argument(format!(
                "a monitor command is one line: {command:?}"
            )));
        }
        self.wait_for_prompt(call)?;
        self.text.clear();
        let line = format!("{command}\n");
        let mut left = line.as_bytes();
        loop {
            let slice = call.slice(&|| "QEMU's monitor takes a command".to_owned())?;
            if write_until(&self.stream, &mut left, slice).map_err(gone)? {
                break;
            }
        }
        self.prompts += 1;
        self.wait_for_prompt(call)
    }

    fn read(&mut self, call: &Call<'_>) -> Result<(), Error> {
        let slice = call.slice(&|| "QEMU's monitor answers".to_owned())?;
        if !wait_readable(&[&self.stream], slice).map_err(gone)? {
            return Ok(());
        }
        let mut buffer = [0; CHUNK];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.text
                    .extend_from_slice(buffer.get(..count).unwrap_or_default());
                if self.text.len() > ANSWER_MAX {
                    return Err(Error::Machine(format!(
                        "QEMU's monitor gave more than {ANSWER_MAX} bytes for one command"
                    )));
                }
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(gone(error)),
        }
    }

    /// Sends a command that ends QEMU; nobody waits for an answer.
    pub(crate) fn send_last(&mut self, command: &str) {
        // When QEMU is gone already, there is nothing left to end.
        let _ = self.stream.write_all(format!("{command}\n").as_bytes());
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn gone(error: io::Error) -> Error {
    Error::Machine(format!("QEMU closed its monitor: {error}"))
}

/// What the monitor has against a command that says nothing when it is done: what follows the echo, which is the first line.
fn complaint(answer: &str) -> Option<&str> {
    let mut lines = answer.lines().skip(1).map(str::trim);
    lines.find(|line| !line.is_empty())
}

impl Machine {
    /// Sends a command to the human monitor; gives all up to the next prompt, the echo included. Starts the machine if need be.
    ///
    /// # Errors
    ///
    /// When QEMU is gone or the call ends before.
    pub fn send_monitor_command(&self, command: &str, call: &Call<'_>) -> Result<String, Error> {
        self.started(call)?;
        let run = self.touched(call)?;
        let doing = || format!("waiting for {}'s monitor", self.name());
        let mut monitor = run.monitor.take(call, &doing)?;
        monitor
            .command(command, call)
            .map_err(|error| self.explain(&run, error))
    }

    /// Presses a key: one character, or a name that QEMU knows, such as `ctrl-alt-delete`.
    ///
    /// # Errors
    ///
    /// When QEMU is gone or the call ends before.
    pub fn send_key(
        &self,
        key: &str,
        delay: Option<Duration>,
        log: bool,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let name = super::keys::key_name(key);
        let send = || {
            let answer = self.send_monitor_command(&format!("sendkey {name}"), call)?;
            self.wait_on_host(delay.unwrap_or_default(), call)?;
            match complaint(&answer) {
                Some(complaint) => Err(Error::Machine(format!(
                    "QEMU does not press {name:?}: {complaint}"
                ))),
                None => Ok(()),
            }
        };
        if log {
            self.nested(
                &format!("sending key {}", super::quoting::python_text(&name)),
                send,
            )
        } else {
            send()
        }
    }

    /// Types characters, one key after the other, each with a pause of `delay` after it.
    ///
    /// # Errors
    ///
    /// When QEMU is gone or the call ends before.
    pub fn send_chars(
        &self,
        chars: &str,
        delay: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let shown = super::quoting::python_text(chars);
        self.nested(&format!("sending keys {shown}"), || {
            let mut key = [0; 4];
            chars
                .chars()
                .try_for_each(|c| self.send_key(c.encode_utf8(&mut key), delay, false, call))
        })
    }

    /// Lets connections to a port of the host reach one of the guest, through the guest's user-mode network card.
    ///
    /// # Errors
    ///
    /// When it has none, when the port is taken, or when the call ends before.
    pub fn forward_port(
        &self,
        host_port: u16,
        guest_port: u16,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let rule = format!("tcp::{host_port}-:{guest_port}");
        let answer = self.send_monitor_command(&format!("hostfwd_add {rule}"), call)?;
        complaint(&answer).map_or(Ok(()), |complaint| {
            Err(Error::Machine(format!(
                "QEMU of {} does not forward {rule}: {complaint}",
                self.name()
            )))
        })
    }

    /// Waits on the host's clock.
    pub(crate) fn wait_on_host(&self, duration: Duration, call: &Call<'_>) -> Result<(), Error> {
        let end = after(now(), duration);
        while now() < end {
            let slice = call.slice(&|| "waiting".to_owned())?.min(end);
            // No descriptor: nothing but time ends the wait.
            wait_readable::<std::os::fd::BorrowedFd<'_>>(&[], slice)
                .map_err(Error::host("cannot wait"))?;
        }
        Ok(())
    }
}
