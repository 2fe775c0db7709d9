//! What the guest's console said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Machine;
use super::program::TerminalSize;
use super::shell::timed_out;
use crate::call::{after, now};
use crate::terminal::{Far, Near, Said};
use crate::{Call, Error};

/// How much text before the present line a match may reach back to.
const WINDOW: usize = 16 << 10;

impl Machine {
    /// Waits until the console's text matches. `search` is given the lines that came since the last call of this method, joined
    /// without newlines, anew after each line; of many lines it is given the end. Lines that it has seen are gone for the next
    /// call. `pattern` is for the log.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes; [`Error::Machine`] when QEMU is gone and said no such thing; what `search`
    /// reports.
    pub fn wait_for_console_text(
        &self,
        pattern: &str,
        search: &mut dyn FnMut(&str) -> Result<bool, Error>,
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let begin = now();
        let deadline = timeout.map(|timeout| after(begin, timeout));
        let mut text = String::new();
        self.nested(
            &format!("waiting for {pattern} to appear on console"),
            || {
                loop {
                    let slice = call.slice(&|| {
                        format!("waiting for {pattern} on the console of {}", self.name())
                    })?;
                    let slice = deadline.map_or(slice, |deadline| slice.min(deadline));
                    let failed =
                        || Error::host(format!("cannot read the console log of {}", self.name()));
                    match self.console.next_line(slice).map_err(failed())? {
                        Some(line) => {
                            text.push_str(&line);
                            forget_beginning(&mut text, line.len());
                            if search(&text)? {
                                return Ok(());
                            }
                        }
                        None if !self.console.is_open() => {
                            // It is off, or QEMU has just ended: a start that another thread may make is waited for.
                            if let Some(run) = self.present_run()
                                && !run.is_running()
                            {
                                return Err(self.explain(
                                    &run,
                                    Error::Machine(format!("{} is gone", self.name())),
                                ));
                            }
                            self.wait_on_host(slice.saturating_duration_since(now()), call)?;
                        }
                        None => {}
                    }
                    if let (Some(timeout), Some(deadline)) = (timeout, deadline)
                        && now() >= deadline
                    {
                        return Err(timed_out(begin, timeout));
                    }
                }
            },
        )
    }

    /// Writes what comes from the near end to the guest's console, to its end.
    ///
    /// # Errors
    ///
    /// When the machine is not running, or the call ends before.
    pub fn interact_with_console(&self, near: &Near<'_>, call: &Call<'_>) -> Result<(), Error> {
        self.running()?;
        self.log("Terminal is ready (there is no prompt):");
        let console = ConsoleEnd {
            machine: self,
            has_ended: AtomicBool::new(false),
        };
        near.connect(&console, call)?;
        self.log("Closing connection to the console");
        Ok(())
    }

    /// All lines of the console since the machine's last start, joined by newlines.
    ///
    /// # Errors
    ///
    /// When the log file cannot be read.
    pub fn get_console_log(&self) -> Result<String, Error> {
        self.console.text().map_err(Error::host(format!(
            "cannot read the console log of {}",
            self.name()
        )))
    }
}

/// The guest's console as a far end: what it says is in the log.
struct ConsoleEnd<'m> {
    machine: &'m Machine,
    has_ended: AtomicBool,
}

impl Far for ConsoleEnd<'_> {
    fn is_terminal(&self) -> bool {
        false
    }

    fn write(&self, bytes: &[u8], call: &Call<'_>) -> Result<(), Error> {
        self.machine.send_console(bytes, call)
    }

    fn end_input(&self, _call: &Call<'_>) -> Result<(), Error> {
        self.has_ended.store(true, Ordering::Release);
        Ok(())
    }

    fn resize(&self, _size: TerminalSize, _call: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn poll(&self, until: Instant, call: &Call<'_>) -> Result<Said, Error> {
        if self.has_ended.load(Ordering::Acquire) {
            return Ok(Said::Ended(0));
        }
        let left = until.saturating_duration_since(now());
        self.machine.wait_on_host(left, call)?;
        Ok(Said::Nothing)
    }
}

/// Cuts the beginning so that the last line and [`WINDOW`] bytes before it stay.
fn forget_beginning(text: &mut String, last_line: usize) {
    let mut cut = text.len().saturating_sub(last_line + WINDOW);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
}
