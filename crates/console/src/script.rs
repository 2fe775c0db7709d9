//! The shell text that runs a command in the guest and makes it answer.
//!
//! What a command costs is what the guest must start, so the outer shell does all it can by itself. `prelude.sh` teaches
//! it how, once; a command is one short line then. Its script runs in a fork of the outer shell, unless it looks as if
//! it could tell the difference: then in a bash of its own.

use crate::Error;
use std::fmt::Write as _;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The longest script that is taken, in bytes.
pub const SCRIPT_MAX: usize = 16 << 20;

/// How long beyond [`Repeat::within`] the last attempt may go on.
pub const REPEAT_GRACE: Duration = Duration::from_secs(1);

/// How many bytes of a file go to one process of the guest.
pub(crate) const CHUNK: u64 = 1 << 20;

/// The longest script for a bash of its own: Linux takes no argument of 128 KiB.
const ARGUMENT_MAX: usize = 120 << 10;

/// Longer timeouts become this one: about a year.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// One command for the guest's root shell.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Shell script; it runs under `set -euo pipefail` with an empty standard input.
    pub script: &'a str,
    /// After how long the guest ends the command; its status is 124 then. `None`: never.
    pub timeout: Option<Duration>,
    /// Whether the guest is to run it again and again.
    pub repeat: Option<Repeat>,
}

/// A loop in the guest that tries a command until it has the result that one waits for.
///
/// The answer is that of the last attempt. An attempt begins one [`interval`](Self::interval) after the end of the one
/// before; the last one when [`within`](Self::within) has passed. Whatever then still runs is ended
/// [`REPEAT_GRACE`] later, with status 124.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// What is waited for.
    pub until: Until,
    /// The pause between two attempts; the guest counts in hundredths of a second.
    pub interval: Duration,
    /// How long to go on.
    pub within: Duration,
}

/// What a [`Repeat`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Status 0.
    Success,
    /// Any other status.
    Failure,
}

impl<'a> Command<'a> {
    /// Makes a command that runs once, without a timeout.
    #[must_use]
    pub fn new(script: &'a str) -> Self {
        Self {
            script,
            timeout: None,
            repeat: None,
        }
    }

    /// Writes the line that runs the command and answers with this number.
    pub(crate) fn line(&self, number: u64) -> Result<String, Error> {
        let mut line = format!("_hb {number} {} ", Place::of(self.script).letter());
        quote(self.script, &mut line)?;
        if let Some(timeout) = self.timeout {
            let _ = write!(line, " {}", hundredths(timeout));
        }
        if let Some(repeat) = self.repeat {
            if self.timeout.is_none() {
                line.push_str(" ''");
            }
            let wanted = match repeat.until {
                Until::Success => 0,
                Until::Failure => 1,
            };
            let _ = write!(
                line,
                " {wanted} {} {} {}",
                hundredths(repeat.interval),
                hundredths(repeat.within),
                hundredths(REPEAT_GRACE),
            );
        }
        line.push('\n');
        Ok(line)
    }
}

/// Where a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a fork of the outer shell, which ends when its output does.
    Fork,
    /// In a fork that may close its output, or become another program, and go on.
    Escaping,
    /// In a bash of its own, which costs three times as much.
    Bash,
}

impl Place {
    /// Finds the cheapest place that is safe: `$$` in a fork is the outer shell, which a script must not kill.
    ///
    /// What is spelled out in the script is found, and what it might read from elsewhere.
    fn of(script: &str) -> Self {
        let fits = script.len() <= ARGUMENT_MAX;
        if fits && (OWN_BASH.iter().any(|word| script.contains(word)) || has_dot(script)) {
            Self::Bash
        } else if !fits || script.contains("exec") {
            Self::Escaping
        } else {
            Self::Fork
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Fork => 'f',
            Self::Escaping => 'e',
            Self::Bash => 'x',
        }
    }
}

/// Whether a script might tell a fork of another bash from a bash of its own.
///
/// What is spelled out in the script is found, and what it might read from elsewhere.
#[must_use]
pub fn needs_own_bash(script: &str) -> bool {
    Place::of(script) == Place::Bash
}

/// What shows a script which shell it runs in. Where such a word means something else, the script only costs more.
const OWN_BASH: [&str; 15] = [
    "$$", "{$", "\\$", "BASH", "FUNCNAME", "LINENO", "PPID", "SHLVL", "_hb", "caller", "declare",
    "eval", "local ", "return", "source",
];

/// Whether a dot stands alone, as in `. /etc/profile`.
fn has_dot(script: &str) -> bool {
    let alone = |byte: Option<&u8>| {
        byte.is_none_or(|byte| !byte.is_ascii_graphic() || b";&|(){}!`".contains(byte))
    };
    let bytes = script.as_bytes();
    memchr::memchr_iter(b'.', bytes).any(|at| {
        alone(at.checked_sub(1).and_then(|before| bytes.get(before))) && alone(bytes.get(at + 1))
    })
}

/// Writes what the outer shell must learn before its first command.
pub(crate) fn prelude(session: &str) -> String {
    let mut text = format!("\n_hb_i={session}\neval '");
    for line in include_str!("script/prelude.sh").lines() {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    // A shell that cannot be taught must still answer.
    text.push_str("'\ntype _hb_put >/dev/null 2>&1 || { _hb() { echo \"<$_hb_i.$1 0 =:|$_hb_i.$1 ?bash>\"; }; ");
    text.push_str("_hb_put() { _hb \"$1\"; }; }\n");
    text
}

/// Writes the line that takes a file of `len` bytes and answers with this number.
pub(crate) fn put_line(number: u64, target: &str, len: u64) -> Result<String, Error> {
    let mut line = format!("_hb_put {number} {len} ");
    quote(target, &mut line)?;
    let _ = writeln!(line, " {CHUNK}");
    Ok(line)
}

/// What stands before each chunk of a file.
pub(crate) const PUT_MORE: &[u8] = b"+\n";

/// Writes what lets the guest send another block of output.
pub(crate) fn go_on(session: &str) -> String {
    format!(": {session} ok\n")
}

/// Writes what ends a file, and an answer that is not wanted any more. Where nobody waits for it, it is a command that does
/// nothing.
pub(crate) fn end(session: &str) -> String {
    format!("\n: {session} end\n")
}

/// Appends a text as one word of shell.
fn quote(text: &str, line: &mut String) -> Result<(), Error> {
    if text.len() > SCRIPT_MAX {
        return Err(Error::TooLong(text.len()));
    }
    if text.contains('\0') {
        return Err(Error::Nul);
    }
    line.push('\'');
    line.push_str(&text.replace('\'', r"'\''"));
    line.push('\'');
    Ok(())
}

/// Rounds up, and to no less than one.
fn hundredths(time: Duration) -> u128 {
    time.min(TIMEOUT_MAX).as_micros().div_ceil(10_000).max(1)
}
