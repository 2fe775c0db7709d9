//! What is said on the terminal, line by line, in the format that users of the NixOS test driver grep.
//!
//! Messages of the test are written by the thread that says them. Lines of guests are queued and written by a thread of the
//! log's own, before the next message at the latest: so a flood of them, or a terminal that takes nothing, holds up no guest.
//! When the queue is full, lines are left out here (never in the console log on disk), and it is said how many.
//!
//! Colours are on when standard error is a terminal and `NO_COLOR` is not set (or `CLICOLOR_FORCE` is): so a log that goes to a
//! file is plain. Guests' lines lose their control characters and escape sequences, which would steer the reader's terminal.
//!
//! A [`report`] is told the same, in the same order.

pub mod report;
#[cfg(test)]
mod tests;
mod text;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::call::now;
use crate::process::Owner;
use report::{Event, Report};

/// The most lines of guests that wait to be written.
const SERIAL_LINES_MAX: usize = 10_000;
/// The most bytes of a guest's line that are shown.
const SERIAL_LINE_MAX: usize = 4096;

const BOLD_GREEN: &str = "\x1b[1m\x1b[32m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// A guest's line as it may be shown on a terminal.
pub(crate) fn shown(line: &str) -> String {
    text::without_controls(line, SERIAL_LINE_MAX)
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug = 1,
    /// The default.
    Info = 2,
    /// Warnings and errors.
    Warning = 3,
    /// Errors.
    Error = 4,
}

/// Whether lines carry ANSI colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colours {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always, as the NixOS driver does.
    Always,
    /// Never.
    Never,
}

impl Colours {
    fn on_stderr(self) -> bool {
        let set =
            |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) => {
                false
            }
            Self::Auto => set("CLICOLOR_FORCE") || std::io::stderr().is_terminal(),
        }
    }
}

/// The terminal logger: one line of text per message, whole even when many threads write.
pub struct Log {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    owner: Owner,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// A nested block: its end is logged by [`Block::finish`]. One that is dropped has failed, which only reports are told.
#[derive(Debug)]
#[must_use]
pub struct Block {
    shared: Arc<Shared>,
    number: u64,
    machine: Option<String>,
    message: String,
    subtest: Option<String>,
    start: Instant,
    has_finished: bool,
}

impl Block {
    /// Logs `(finished: <message>, in <s.ss> seconds)`.
    pub fn finish(mut self) {
        self.has_finished = true;
    }

    fn as_reported(&self) -> report::Block<'_> {
        report::Block {
            number: self.number,
            machine: self.machine.as_deref(),
            message: &self.message,
            subtest: self.subtest.as_deref(),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let elapsed = now().saturating_duration_since(self.start);
        let line = match self.has_finished {
            true => with_machine(
                self.machine.as_deref(),
                &report::finish_line(&self.message, elapsed),
            ),
            false => String::new(),
        };
        let event = Event::End {
            block: self.as_reported(),
            elapsed,
            passed: self.has_finished,
        };
        self.shared.write(&line, Some(&event));
    }
}

/// A line that says which machine it is about.
fn with_machine(machine: Option<&str>, text: &str) -> String {
    match machine {
        Some(machine) => format!("{machine}: {text}\n"),
        None => format!("{text}\n"),
    }
}

/// What the threads that log share with the thread that writes guests' lines.
struct Shared {
    colours: bool,
    level: AtomicU8,
    show_serial: AtomicBool,
    queue: Mutex<Queue>,
    more: Condvar,
    sink: Mutex<Sink>,
    blocks: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Where everything goes.
struct Sink {
    terminal: Box<dyn Write + Send>,
    reports: Vec<Box<dyn Report>>,
}

/// Lines of guests that wait to be written.
#[derive(Default)]
struct Queue {
    /// The machine, and its line.
    lines: VecDeque<(String, String)>,
    left_out: u64,
    closed: bool,
}

/// A poisoned lock only means that another thread panicked between whole lines.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Writes whole lines, after the lines of guests that came before them, and tells the reports. What cannot be written to the
    /// terminal is lost: there is nobody to tell.
    fn write(&self, text: &str, event: Option<&Event<'_>>) {
        let mut sink = lock(&self.sink);
        let (lines, left_out) = {
            let mut queue = lock(&self.queue);
            let left_out = std::mem::take(&mut queue.left_out);
            (std::mem::take(&mut queue.lines), left_out)
        };
        let (dim, reset) = (self.paint(DIM), self.paint(RESET));
        let mut shown = String::new();
        for (machine, line) in &lines {
            shown.push_str(&format!("{dim}{machine} # {line}{reset}\n"));
            sink.report(&Event::Serial { machine, line });
        }
        if left_out > 0 {
            let gap = format!(
                "({left_out} lines of guests are not shown: the terminal is too slow; the console logs have them)"
            );
            let (machine, text) = (None, gap.as_str());
            sink.report(&Event::Line { machine, text });
            shown.push_str(&format!("{gap}\n"));
        }
        shown.push_str(text);
        if let Some(event) = event {
            sink.report(event);
        }
        let _ = sink
            .terminal
            .write_all(shown.as_bytes())
            .and_then(|()| sink.terminal.flush());
    }

    /// The body of the writing thread.
    fn write_serial_lines(&self) {
        loop {
            let mut queue = lock(&self.queue);
            while queue.lines.is_empty() {
                if queue.closed {
                    return;
                }
                queue = self
                    .more
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(queue);
            self.write("", None);
        }
    }

    fn paint(&self, code: &'static str) -> &'static str {
        if self.colours { code } else { "" }
    }
}

impl Sink {
    fn report(&mut self, event: &Event<'_>) {
        for report in &mut self.reports {
            report.record(event);
        }
    }
}

impl Log {
    /// A logger on standard error.
    #[must_use]
    pub fn stderr(colours: Colours) -> Self {
        Self::to(Box::new(std::io::stderr()), colours.on_stderr())
    }

    /// A logger on anything.
    #[must_use]
    pub fn to(sink: Box<dyn Write + Send>, colours: bool) -> Self {
        let shared = Arc::new(Shared {
            colours,
            level: AtomicU8::new(Level::Info as u8),
            show_serial: AtomicBool::new(true),
            queue: Mutex::default(),
            more: Condvar::new(),
            sink: Mutex::new(Sink {
                terminal: sink,
                reports: Vec::new(),
            }),
            blocks: AtomicU64::new(0),
        });
        let writer = Arc::clone(&shared);
        // Without the thread, lines of guests are written with the next message.
        let writer = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_serial_lines())
            .ok();
        Self {
            shared,
            writer,
            owner: Owner::here(),
        }
    }

    /// Lets a report take note of all that happens from now on, until [`Log::close_reports`].
    pub fn add_report(&self, report: Box<dyn Report>) {
        lock(&self.shared.sink).reports.push(report);
    }

    /// Ends the reports, after the lines that wait to be written.
    ///
    /// # Errors
    ///
    /// One for each report that could not be written.
    pub fn close_reports(&self) -> Result<(), Vec<io::Error>> {
        self.flush();
        let reports = std::mem::take(&mut lock(&self.shared.sink).reports);
        let errors: Vec<_> = reports
            .into_iter()
            .filter_map(|mut report| report.close().err())
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(errors)
    }

    fn message(
        &self,
        machine: Option<&str>,
        before: &'static str,
        message: &str,
        after: &'static str,
        event: &Event<'_>,
    ) {
        let (before, after) = (self.shared.paint(before), self.shared.paint(after));
        let line = with_machine(machine, &format!("{before}{message}{after}"));
        self.shared.write(&line, Some(event));
    }

    /// Logs a message, whatever the level.
    pub fn log(&self, machine: Option<&str>, message: &str) {
        let text = message;
        self.message(machine, "", message, "", &Event::Line { machine, text });
    }

    fn open(&self, machine: Option<&str>, message: &str, subtest: Option<&str>) -> Block {
        let block = Block {
            shared: Arc::clone(&self.shared),
            number: self.shared.blocks.fetch_add(1, Ordering::Relaxed),
            machine: machine.map(str::to_owned),
            message: message.to_owned(),
            subtest: subtest.map(str::to_owned),
            start: now(),
            has_finished: false,
        };
        let event = Event::Begin(block.as_reported());
        self.message(machine, BOLD_GREEN, message, RESET, &event);
        block
    }

    /// Logs the start of a block.
    pub fn begin(&self, machine: Option<&str>, message: &str) -> Block {
        self.open(machine, message, None)
    }

    /// Logs a block around `body`; its end only when `body` succeeds.
    ///
    /// # Errors
    ///
    /// Those of `body`.
    pub fn nested<T, E>(
        &self,
        machine: Option<&str>,
        message: &str,
        body: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let block = self.begin(machine, message);
        let value = body()?;
        block.finish();
        Ok(value)
    }

    /// Logs the start of a subtest: a block called `subtest: <name>`.
    pub fn subtest(&self, name: &str) -> Block {
        self.open(None, &format!("subtest: {name}"), Some(name))
    }

    fn shows(&self, level: Level) -> bool {
        level as u8 >= self.shared.level.load(Ordering::Relaxed)
    }

    /// Logs when the level is `Debug`.
    pub fn debug(&self, message: &str) {
        if self.shows(Level::Debug) {
            let (machine, text) = (None, message);
            self.message(None, DIM, message, RESET, &Event::Line { machine, text });
        }
    }

    /// Logs when the level is at most `Info`.
    pub fn info(&self, message: &str) {
        if self.shows(Level::Info) {
            self.log(None, message);
        }
    }

    /// Logs when the level is at most `Warning`.
    pub fn warning(&self, message: &str) {
        if self.shows(Level::Warning) {
            self.log(None, message);
        }
    }

    /// Logs, whatever the level. The composite logger of the NixOS driver then ends the process: that is the front's part.
    pub fn error(&self, message: &str) {
        let text = message;
        self.message(None, "", message, "", &Event::Error { text });
    }

    /// Logs a line of what made the test fail, as a warning: `!!! <line>`.
    pub fn log_test_error(&self, line: &str) {
        if self.shows(Level::Warning) {
            let (red, reset) = (self.shared.paint(RED), self.shared.paint(RESET));
            let event = Event::Error { text: line };
            let line = format!("{red}!!! {reset}{line}\n");
            self.shared.write(&line, Some(&event));
        }
    }

    /// Logs a line of a guest: `<machine> # <line>`; never waits.
    pub fn log_serial(&self, line: &str, machine: &str) {
        if !self.shared.show_serial.load(Ordering::Relaxed) {
            return;
        }
        let line = shown(line);
        let mut queue = lock(&self.shared.queue);
        if queue.lines.len() >= SERIAL_LINES_MAX {
            queue.left_out += 1;
            return;
        }
        queue.lines.push_back((machine.to_owned(), line));
        drop(queue);
        self.shared.more.notify_one();
    }

    /// Whether lines of guests are shown.
    pub fn print_serial_logs(&self, enable: bool) {
        self.shared.show_serial.store(enable, Ordering::Relaxed);
    }

    /// Sets the level from which `debug`, `info` and `warning` are shown.
    pub fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes out what waits to be written.
    pub fn flush(&self) {
        self.shared.write("", None);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.owner.is_here() {
            return;
        }
        lock(&self.shared.queue).closed = true;
        self.shared.more.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        // One who wants to know whether they could be written closes them before.
        let _ = self.close_reports();
    }
}
