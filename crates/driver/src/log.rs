//! What is said on the terminal, line by line, in the format that users of the NixOS test driver grep.

use std::io::Write;
use std::time::Instant;

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

/// The terminal logger: one line of text per message, whole even when many threads write.
#[derive(Debug)]
pub struct Log {}

/// A nested block: its end is logged by [`Block::finish`], and not at all when the block is dropped.
#[derive(Debug)]
#[must_use]
pub struct Block<'a> {
    log: &'a Log,
    machine: Option<String>,
    message: String,
    start: Instant,
}

impl Block<'_> {
    /// Logs `(finished: <message>, in <s.ss> seconds)`.
    pub fn finish(self) {
        let _ = (self.log, self.machine, self.message, self.start);
    }
}

impl Log {
    /// A logger on standard error.
    #[must_use]
    pub fn stderr(_colours: Colours) -> Self {
        Self {}
    }

    /// A logger on anything.
    #[must_use]
    pub fn to(_sink: Box<dyn Write + Send>, _colours: bool) -> Self {
        Self {}
    }

    /// Logs a message, whatever the level.
    pub fn log(&self, machine: Option<&str>, message: &str) {
        let _ = (machine, message);
    }

    /// Logs the start of a block.
    pub fn begin<'a>(&'a self, machine: Option<&str>, message: &str) -> Block<'a> {
        self.log(machine, message);
        Block {
            log: self,
            machine: machine.map(str::to_owned),
            message: message.to_owned(),
            start: crate::call::now(),
        }
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
    pub fn subtest<'a>(&'a self, name: &str) -> Block<'a> {
        self.begin(None, &format!("subtest: {name}"))
    }

    /// Logs when the level is `Debug`.
    pub fn debug(&self, message: &str) {
        let _ = message;
    }

    /// Logs when the level is at most `Info`.
    pub fn info(&self, message: &str) {
        let _ = message;
    }

    /// Logs when the level is at most `Warning`.
    pub fn warning(&self, message: &str) {
        let _ = message;
    }

    /// Logs, whatever the level. The composite logger of the NixOS driver then ends the process: that is the front's part.
    pub fn error(&self, message: &str) {
        let _ = message;
    }

    /// Logs a line of what made the test fail: `!!! <line>`.
    pub fn log_test_error(&self, line: &str) {
        let _ = line;
    }

    /// Logs a line of a guest: `<machine> # <line>`; never waits.
    pub fn log_serial(&self, line: &str, machine: &str) {
        let _ = (line, machine);
    }

    /// Whether lines of guests are shown.
    pub fn print_serial_logs(&self, enable: bool) {
        let _ = enable;
    }

    /// Sets the level from which `debug`, `info` and `warning` are shown.
    pub fn set_level(&self, level: Level) {
        let _ = level;
    }

    /// Writes out what waits to be written.
    pub fn flush(&self) {}
}
