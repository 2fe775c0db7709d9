//! Waits for lines of the journal; where there is none, for lines of the kernel's log.
//!
//! `journalctl --follow` reads the journal's files, and we what it writes. It ends with the watch.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use regex_lite::{Regex, RegexBuilder};
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::unit::{BOOTED, mangle};
use super::{Failure, FailureKind, Watch};

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are I/O")]
mod tests;

/// The longest regular expression, in bytes, and what it may take when it is compiled.
const PATTERN_MAX: usize = 4 << 10;
const COMPILED_MAX: usize = 1 << 20;

/// The longest line that is looked at, in bytes; of a longer one, this much.
const LINE_MAX: usize = 16 << 10;

/// What is read in one look, in bytes.
const READ_LEN: usize = 16 << 10;

/// As many records of the kernel's log are read in one look.
const RECORDS_MAX: usize = 64;

/// The longest record of the kernel's log, in bytes: the kernel's own bound.
const RECORD_MAX: usize = 8 << 10;

/// Begins to wait for a line.
pub(super) fn begin(
    pattern: &str,
    unit: Option<&str>,
    past: bool,
) -> Result<Box<dyn Watch>, Failure> {
    let pattern = compile(pattern)?;
    if Path::new(BOOTED).is_dir() {
        let unit = unit.map(mangle).transpose()?;
        let arguments = arguments(unit.as_deref(), past)?;
        Ok(Box::new(JournalWatch::start(
            "journalctl",
            &arguments,
            pattern,
        )?))
    } else if unit.is_some() {
        Err(Failure::new(
            FailureKind::Unsupported,
            "this system does not run systemd, so no line is of a unit",
        ))
    } else {
        Ok(Box::new(KernelWatch::open("/dev/kmsg", past, pattern)?))
    }
}

fn compile(pattern: &str) -> Result<Regex, Failure> {
    let invalid = |why: String| {
        let message = format!("{pattern:?} is not a regular expression: {why}");
        Failure::new(FailureKind::Invalid, message)
    };
    if pattern.len() > PATTERN_MAX {
        return Err(invalid(format!("it is longer than {PATTERN_MAX} bytes")));
    }
    RegexBuilder::new(pattern)
        .size_limit(COMPILED_MAX)
        .build()
        .map_err(|error| invalid(error.to_string()))
}

/// How `journalctl` is asked for this boot's lines: all of them, or those from now on.
fn arguments(unit: Option<&str>, past: bool) -> Result<Vec<String>, Failure> {
    let boot = super::read_some("/proc/sys/kernel/random/boot_id", 64)
        .map_err(|error| Failure::os("cannot read the number of this boot", error))?;
    let boot = String::from_utf8_lossy(&boot).trim().replace('-', "");
    let mut arguments: Vec<String> = [
        "--follow",
        "--lines=all",
        "--output=cat",
        "--all",
        "--quiet",
        "--no-pager",
    ]
    .map(str::to_owned)
    .into();
    if let Some(unit) = unit {
        arguments.push(format!("--unit={unit}"));
    }
    if !past {
        arguments.push(format!("--since=@{}", wall_clock()));
    }
    arguments.push(format!("_BOOT_ID={boot}"));
    Ok(arguments)
}

/// The time in the guest, as the journal has it, in seconds and microseconds.
fn wall_clock() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the journal's lines have this time"
    )]
    let now = SystemTime::now();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:06}", now.as_secs(), now.subsec_micros())
}

/// A line that `journalctl` is to write.
#[derive(Debug)]
struct JournalWatch {
    pattern: Regex,
    pid: Pid,
    /// Held, for it ends with this.
    _process: Process,
    output: OwnedFd,
    complaints: OwnedFd,
    lines: Lines,
}

/// A process that is killed when it is dropped. The loop reaps it, as it does all children.
#[derive(Debug)]
struct Process(OwnedFd);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl JournalWatch {
    fn start(program: &str, arguments: &[String], pattern: Regex) -> Result<Self, Failure> {
        let failed = |error| {
            let error: std::io::Error = error;
            match error.kind() {
                std::io::ErrorKind::NotFound => Failure::new(
                    FailureKind::Unsupported,
                    format!("there is no {program} to read the journal"),
                ),
                _ => Failure::os(format_args!("cannot start {program}"), error),
            }
        };
        #[expect(clippy::disallowed_types, reason = "the I/O shell")]
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pid = Pid::from_child(&child);
        let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Process(process),
            Err(error) => {
                let _ = child.kill();
                return Err(failed(error.into()));
            }
        };
        let output = OwnedFd::from(child.stdout.take().expect("a pipe was asked for"));
        let complaints = OwnedFd::from(child.stderr.take().expect("a pipe was asked for"));
        for pipe in [&output, &complaints] {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|error| failed(error.into()))?;
        }
        Ok(Self {
            pattern,
            pid,
            _process: process,
            output,
            complaints,
            lines: Lines::default(),
        })
    }

    fn ended(&self) -> Failure {
        let mut buffer = [0; 1024];
        let len = rustix::io::read(&self.complaints, &mut buffer).unwrap_or(0);
        let said = String::from_utf8_lossy(&buffer[..len]);
        let message = format!("journalctl has ended: {}", said.trim());
        Failure::new(FailureKind::Os, message)
    }
}

impl Watch for JournalWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        watch(self.output.as_fd(), EventFlags::IN);
        None
    }

    fn poll(&mut self, _: Instant) -> Result<Option<String>, Failure> {
        let mut buffer = [0; READ_LEN];
        match rustix::io::read(&self.output, &mut buffer) {
            Ok(0) => Err(self.ended()),
            Ok(len) => Ok(self.lines.find(&buffer[..len], &self.pattern)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(Failure::os("cannot read from journalctl", error)),
        }
    }

    fn child(&self) -> Option<Pid> {
        Some(self.pid)
    }
}

/// Lines out of bytes.
#[derive(Debug, Default)]
struct Lines {
    /// The begin of a line that has not ended.
    begin: Vec<u8>,
}

impl Lines {
    /// The first line that matches, of those that end in these bytes.
    fn find(&mut self, bytes: &[u8], pattern: &Regex) -> Option<String> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_MAX - self.begin.len();
            let (piece, has_ended) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            self.begin.extend(&piece[..piece.len().min(room)]);
            if has_ended {
                let found = matching(&self.begin, pattern);
                self.begin.clear();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

fn matching(line: &[u8], pattern: &Regex) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    pattern.is_match(&line).then(|| line.into_owned())
}

/// A line that the kernel, or who writes to its log, is to write.
#[derive(Debug)]
struct KernelWatch {
    pattern: Regex,
    log: OwnedFd,
}

impl KernelWatch {
    fn open(path: &str, past: bool, pattern: Regex) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let failed = |error| Failure::os(format_args!("cannot read {path}"), error);
        let log = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        if !past {
            rustix::fs::seek(&log, SeekFrom::End(0)).map_err(failed)?;
        }
        Ok(Self { pattern, log })
    }
}

impl Watch for KernelWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        watch(self.log.as_fd(), EventFlags::IN);
        None
    }

    fn poll(&mut self, _: Instant) -> Result<Option<String>, Failure> {
        let mut buffer = [0; RECORD_MAX];
        for _ in 0..RECORDS_MAX {
            match rustix::io::read(&self.log, &mut buffer) {
                Ok(len) => {
                    let found =
                        record_line(&buffer[..len]).and_then(|line| matching(line, &self.pattern));
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                // Records were overwritten before we could read them.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(Failure::os("cannot read the kernel's log", error)),
            }
        }
        Ok(None)
    }
}

/// The line in a record: `priority,number,time,flags;line`, and more on further lines.
fn record_line(record: &[u8]) -> Option<&[u8]> {
    let begin = record.iter().position(|&byte| byte == b';')? + 1;
    record[begin..].split(|&byte| byte == b'\n').next()
}
