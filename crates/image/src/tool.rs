//! Programs of the host that a build runs.
//!
//! Each runs in a process group of its own, beside a watcher that reads a pipe from us. When we end, however we end, the
//! pipe closes and the watcher kills the group: no tool outlives its build.

#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Error, Progress};

/// One run of a program.
pub(crate) struct Run {
    what: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    folder: Option<PathBuf>,
    is_quiet: bool,
}

impl Run {
    /// Begins the description of a run; `what` is for the error, such as "unpacking the kernel".
    pub(crate) fn new(what: impl Into<String>, program: PathBuf) -> Self {
        Self {
            what: what.into(),
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            is_quiet: false,
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<T: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Sets the working folder.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Keeps what the program writes from the user, unless it fails.
    pub(crate) fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// Runs to the end, passing on what the program writes, and gives the lines of its standard output.
    ///
    /// # Errors
    ///
    /// When the program cannot start, fails (with its last words), or the caller gives up.
    pub(crate) fn run(self, progress: &dyn Progress) -> Result<Vec<String>, Error> {
        let mut child = self.spawn()?;
        // Taken out of the child, because waiting for a child closes what it still holds, and then the watcher kills.
        let mut lifeline = child.stdin.take();
        let lines = read_lines(&mut child);
        let mut kept = Kept::default();
        let mut ended = false;
        loop {
            if progress.is_interrupted() {
                kill(&mut child);
                return Err(Error::Interrupted);
            }
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let text = kept.take(line);
                    if !self.is_quiet && !text.is_empty() {
                        progress.line(&text);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                // A process that the program left behind may hold its output open: the watcher ends that one.
                Err(RecvTimeoutError::Timeout) if !ended => {
                    ended = child.try_wait().is_ok_and(|status| status.is_some());
                    if ended {
                        drop(lifeline.take());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let status = child
            .wait()
            .map_err(|error| self.failure(error.to_string(), Vec::new()))?;
        drop(lifeline);
        if status.success() {
            return Ok(kept.output);
        }
        Err(self.failure(status.to_string(), kept.into_last_words()))
    }

    fn spawn(&self) -> Result<Child, Error> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCHED, "sh"])
            .arg(&self.program)
            .args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", search_path());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
            .spawn()
            .map_err(|error| self.failure(error.to_string(), Vec::new()))
    }

    fn failure(&self, status: String, mut last_words: Vec<String>) -> Error {
        let hint = HINTS
            .iter()
            .find(|(sign, _)| last_words.iter().any(|line| line.contains(sign)));
        last_words.extend(hint.map(|(_, hint)| format!("({hint})")));
        Error::Tool {
            what: self.what.clone(),
            status,
            last_words,
        }
    }
}

/// Finds a program in `PATH` and in the folders for administrators.
pub(crate) fn find(name: &str, package: &'static str) -> Result<PathBuf, Error> {
    let path = search_path();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| Error::MissingTool {
        tool: name.to_owned(),
        package,
    })
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        let is_in = std::env::split_paths(&path).any(|known| known == Path::new(folder));
        if !is_in {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(OsStr::new(folder));
        }
    }
    path
}

fn kill(child: &mut Child) {
    // The group may be gone already, and then there is nothing to do.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

enum Line {
    Output(String),
    Error(String),
}

fn read_lines(child: &mut Child) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(LINES_IN_FLIGHT);
    if let Some(output) = child.stdout.take() {
        forward(output, sender.clone(), Line::Output);
    }
    if let Some(errors) = child.stderr.take() {
        forward(errors, sender, Line::Error);
    }
    receiver
}

fn forward(source: impl Read + Send + 'static, lines: SyncSender<Line>, wrap: fn(String) -> Line) {
    thread::spawn(move || {
        let mut reader = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if lines.send(wrap(plain(&line))).is_err() {
                return;
            }
        }
    });
}

/// What a terminal would show of a line in the end: tools overwrite their own progress.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text
        .trim_end()
        .rsplit(['\r', '\u{1b}'])
        .next()
        .unwrap_or_default();
    let text = text.strip_prefix("[K").unwrap_or(text);
    text.chars()
        .filter(|character| !character.is_control() || *character == '\t')
        .collect()
}

#[derive(Default)]
struct Kept {
    output: Vec<String>,
    last_words: VecDeque<String>,
}

impl Kept {
    fn take(&mut self, line: Line) -> String {
        let text = match line {
            Line::Output(text) => {
                if self.output.len() < OUTPUT_LINES_MAX {
                    self.output.push(text.clone());
                }
                text
            }
            Line::Error(text) => text,
        };
        if !text.is_empty() {
            if self.last_words.len() == LAST_WORDS {
                self.last_words.pop_front();
            }
            self.last_words.push_back(text.clone());
        }
        text
    }

    fn into_last_words(self) -> Vec<String> {
        self.last_words.into()
    }
}

/// Starts the watcher, then becomes the program.
const WATCHED: &str = r#"exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec 3<&-
exec "$@""#;

/// What to tell the user when a tool's last words show a sign.
const HINTS: &[(&str, &str)] = &[
    ("No space left on device", "the disk is full"),
    (
        "Temporary failure resolving",
        "there seems to be no network",
    ),
    ("Could not resolve", "there seems to be no network"),
    ("Network is unreachable", "there seems to be no network"),
    (
        "Unable to locate package",
        "is the package's name right for this release of Debian?",
    ),
    (
        "newuidmap",
        "building without root needs the package `uidmap`, and a line for you in /etc/subuid and /etc/subgid",
    ),
];

const PATIENCE: Duration = Duration::from_millis(50);
const LINES_IN_FLIGHT: usize = 256;
const LINE_MAX: u64 = 64 << 10;
const OUTPUT_LINES_MAX: usize = 100_000;
const LAST_WORDS: usize = 15;

#[cfg(test)]
mod tests;
