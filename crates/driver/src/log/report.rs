//! What reports are told of a test, and those that there are.
//!
//! - [`xml`]: every line as it comes, in the XML of the NixOS driver's `LOGFILE`.
//! - [`junit`]: the test and its subtests as JUnit test cases, written at the end.
//!
//! Invariant: what a report leaves on disk is well-formed XML, however the test ends.

pub mod junit;
#[cfg(test)]
mod tests;
pub mod xml;

use std::io;
use std::time::Duration;

/// Something that was said or that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A message.
    Line {
        /// The machine that it is about.
        machine: Option<&'a str>,
        /// What was said.
        text: &'a str,
    },
    /// A line of what made the test fail.
    Error {
        /// What was said.
        text: &'a str,
    },
    /// A line of a guest's console, without control characters.
    Serial {
        /// The machine.
        machine: &'a str,
        /// Its line.
        line: &'a str,
    },
    /// A block begins.
    Begin(Block<'a>),
    /// A block ends. Blocks of several threads may end in any order.
    End {
        /// Which.
        block: Block<'a>,
        /// How long it took.
        elapsed: Duration,
        /// Whether its body came to its end.
        passed: bool,
    },
}

/// A nested block.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// What tells it from all others of the log.
    pub number: u64,
    /// The machine that it is about.
    pub machine: Option<&'a str>,
    /// What it does.
    pub message: &'a str,
    /// The subtest's name, when it is one.
    pub subtest: Option<&'a str>,
}

/// What writes down a test for others to read.
pub trait Report: Send {
    /// Takes note. It must not wait for anything but the disk.
    fn record(&mut self, event: &Event<'_>);

    /// Ends the report; nothing is recorded after that.
    ///
    /// # Errors
    ///
    /// When it could not be written, now or before; the error names the file.
    fn close(&mut self) -> io::Result<()>;
}

/// `(finished: <message>, in <s.ss> seconds)`.
pub(super) fn finish_line(message: &str, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    format!("(finished: {message}, in {seconds:.2} seconds)")
}

/// The text without what XML 1.0 cannot hold (section 2.2 of the recommendation).
fn xml_text(text: &str) -> String {
    text.chars().filter(|&c| is_xml(c)).collect()
}

fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Names the file that an error is about.
fn about(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot write the report {}: {error}", path.display()),
    )
}
