//! Clean shells that wait for a script: each is a bash that has forked a child beforehand.
//!
//! To start bash costs more than most scripts do. A fork of a bash that has done nothing yet is as good, but for `$$` and the like. It is made
//! after the answer to the command before, when nobody waits.
//!
//! Descriptors of the shell: 1 the pipe for the output, 2 the log, 63 what is to be done ([`GO_ON`], then the same for the child), 62 the status
//! of the child, 61 the script, in memory, 60 the pipe for the errors, where they come apart, 59 the child's process number. It holds
//! the pipes open itself, which costs nothing for each command: a script's output is whole when it has ended and nothing else is left of it.
//!
//! To wake the agent costs as much as a script does. So it is woken once for a short one, when that has ended; only what takes longer is
//! [watched](Zygote::is_watched).

use crate::environment::Environment;
use crate::failure::Failure;
use crate::job::output::Output;
use crate::sys::{Preparation, prepare};
use crate::tree::{Group, Tree};
use hotbed_console::agent::wire::{FailureKind, Stderr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// The numbers of a shell's descriptors.
pub(crate) const NUMBERS: std::ops::Range<i32> = 59..64;

/// What each shell does, again and again.
const PROGRAM: &str = r#"while read -r -u 63 _hb_s; do
(
echo "$BASHPID" >&59
read -r -u 63 _hb_s && read -r -d "" -u 61 _hb_s && eval "$_hb_s"
)
echo "$?" >&62
done"#;

/// Has a shell fork its child, and the child read its script.
const GO_ON: &[u8] = b"\n";

/// A shell, and what it is at.
#[derive(Debug)]
pub(crate) struct Zygote {
    pub(crate) shell: Pid,
    /// The child that waits for a script, or runs it, once it was asked for.
    child: Option<Pid>,
    /// It was started with a profile that was unread, and has read it when it has begun.
    pub(crate) reads_profile: bool,
    /// It has forked a child, so it is in order.
    pub(crate) has_begun: bool,
    /// Its pipes are watched.
    pub(crate) is_watched: bool,
    /// The operation whose script runs.
    pub(crate) operation: Option<u32>,
    control: OwnedFd,
    pub(crate) said: OwnedFd,
    children: OwnedFd,
    script: OwnedFd,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) pipes: [u64; 2],
    line: Vec<u8>,
}

/// What a shell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The script has ended, with this status.
    Ended(u8),
    /// The shell itself is gone, or makes no sense.
    Gone,
}

impl Zygote {
    /// Starts a shell; its child will be ready soon.
    pub(crate) fn start(environment: &Environment) -> Result<Self, Failure> {
        let fail = |error: rustix::io::Errno| Failure::os("cannot make a pipe", error);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(fail);
        let (control_end, control) = pipe()?;
        let (said, said_end) = pipe()?;
        let (children, children_end) = pipe()?;
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let script = memfd_create("script", MemfdFlags::CLOEXEC).map_err(fail)?;
        let script_end = rustix::io::fcntl_dupfd_cloexec(&script, 0).map_err(fail)?;
        let mut pipes = [0; 2];
        for (fd, inode) in [&stdout, &stderr].into_iter().zip(&mut pipes) {
            *inode = rustix::fs::fstat(fd).map_err(fail)?.st_ino;
        }
        for fd in [&said, &children, &stdout, &stderr] {
            rustix::io::ioctl_fionbio(fd, true).map_err(fail)?;
        }
        let mut command = environment.shell(PROGRAM);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::from(stdout_end))
            .stderr(environment.log());
        let preparation = Preparation {
            is_subreaper: true,
            descriptors: vec![
                (control_end, 63),
                (said_end, 62),
                (script_end, 61),
                (stderr_end, 60),
                (children_end, 59),
            ],
            ..Preparation::default()
        };
        prepare(&mut command, preparation);
        let child = command
            .spawn()
            .map_err(|error| Failure::os("cannot start bash", error))?;
        let zygote = Self {
            shell: Pid::from_child(&child),
            child: None,
            reads_profile: environment.is_unread(),
            has_begun: false,
            is_watched: false,
            operation: None,
            control,
            said,
            children,
            script,
            stdout: Output::new(stdout),
            stderr: Output::new(stderr),
            pipes,
            line: Vec::new(),
        };
        zygote.go_on();
        Ok(zygote)
    }

    /// Has the shell fork its next child.
    pub(crate) fn go_on(&self) {
        let _ = rustix::io::write(&self.control, GO_ON);
    }

    /// The child, if it is there by now.
    pub(crate) fn child(&mut self) -> Option<Pid> {
        if self.child.is_none() {
            // A line is written at once, and there is no more than one.
            let mut bytes = [0; 16];
            let len = rustix::io::read(&self.children, &mut bytes).unwrap_or(0);
            let text = std::str::from_utf8(&bytes[..len]).unwrap_or_default();
            self.child = text.trim_end().parse().ok().and_then(Pid::from_raw);
            self.has_begun |= self.child.is_some();
        }
        self.child
    }

    /// Waits until it has begun, or is gone, for some time at most.
    pub(crate) fn await_begin(&mut self, patience: Timespec) {
        let mut fds = [&self.children, &self.said].map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = poll(&mut fds, Some(&patience));
        self.child();
    }

    /// Gives the child its script.
    pub(crate) fn run(&mut self, operation: u32, script: &[u8]) -> Result<(), Failure> {
        let fail = |error: rustix::io::Errno| Failure::os("cannot hand over the script", error);
        ftruncate(&self.script, 0).map_err(fail)?;
        let mut written = 0;
        while written < script.len() {
            written += rustix::io::pwrite(&self.script, &script[written..], written as u64)
                .map_err(fail)?;
        }
        // The shell's descriptor has the same position.
        seek(&self.script, SeekFrom::Start(0)).map_err(fail)?;
        rustix::io::write(&self.control, GO_ON).map_err(fail)?;
        self.operation = Some(operation);
        Ok(())
    }

    /// Takes what the shell says.
    pub(crate) fn poll(&mut self) -> Option<Said> {
        let mut bytes = [0; 64];
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return Some(self.understand(&line[..end]));
            }
            match rustix::io::read(&self.said, &mut bytes) {
                Ok(0) => return Some(Said::Gone),
                Ok(len) if self.line.len() + len > 256 => return Some(Said::Gone),
                Ok(len) => self.line.extend_from_slice(&bytes[..len]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn understand(&mut self, line: &[u8]) -> Said {
        let text = std::str::from_utf8(line).unwrap_or_default();
        text.parse().map_or(Said::Gone, Said::Ended)
    }

    /// Forgets the child that has ended.
    pub(crate) fn forget_child(&mut self) {
        self.child();
        self.child = None;
        self.operation = None;
    }

    /// All that the shell has started, but not the shell itself.
    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree {
            group: &Group::NONE,
            root: Some(self.shell),
            orphans: &[],
            spare: Some(self.shell),
        }
    }
}

/// Writes the text that a child of a shell evaluates, as its script.
pub(crate) fn text(
    script: &[u8],
    stderr: Stderr,
    directory: Option<&str>,
    environment: &[(String, Option<String>)],
) -> Result<Vec<u8>, Failure> {
    if script.contains(&0) {
        let message = "a NUL byte in a script";
        return Err(Failure::new(FailureKind::Invalid, message));
    }
    let mut text = match stderr {
        Stderr::Log => b"exec 63<&- 62>&- 61<&- 60>&- 59>&-\n".to_vec(),
        Stderr::Apart => b"exec 63<&- 62>&- 61<&- 2>&60 60>&- 59>&-\n".to_vec(),
        Stderr::WithStdout => b"exec 63<&- 62>&- 61<&- 2>&1 60>&- 59>&-\n".to_vec(),
    };
    if let Some(directory) = directory {
        text.extend_from_slice(b"cd -- ");
        quote(directory, &mut text);
        text.extend_from_slice(b" || exit 1\n");
    }
    for (name, value) in environment {
        match value {
            Some(value) => {
                text.extend_from_slice(format!("export {name}=").as_bytes());
                quote(value, &mut text);
            }
            None => text.extend_from_slice(format!("unset {name}").as_bytes()),
        }
        text.push(b'\n');
    }
    if memchr(script, b"SECONDS") {
        text.extend_from_slice(b"SECONDS=0\n");
    }
    text.extend_from_slice(b"unset _hb_s\nset -euo pipefail; ");
    text.extend_from_slice(script);
    text.push(0);
    Ok(text)
}

/// Whether a script may send a signal to its process group, which is its shell's, too.
pub(crate) fn may_signal_group(script: &[u8]) -> bool {
    memchr(script, b"kill") && (memchr(script, b" 0") || memchr(script, b" -"))
}

/// Whether a shell can set a variable of this name like any other.
pub(crate) fn is_plain_variable(name: &str) -> bool {
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit());
    let is_special = name.starts_with("BASH") || name.starts_with('_') || SPECIAL.contains(&name);
    is_name && !is_special
}

/// Variables that mean something to bash.
const SPECIAL: [&str; 16] = [
    "EUID",
    "UID",
    "PPID",
    "SHELLOPTS",
    "IFS",
    "RANDOM",
    "SECONDS",
    "LINENO",
    "FUNCNAME",
    "GROUPS",
    "DIRSTACK",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "ENV",
    "PWD",
    "SHLVL",
];

fn memchr(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Appends a text as one word of shell.
fn quote(text: &str, line: &mut Vec<u8>) {
    line.push(b'\'');
    line.extend_from_slice(text.replace('\'', r"'\''").as_bytes());
    line.push(b'\'');
}
