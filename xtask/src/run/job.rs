//! A program to start, and how it ended.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A program to start.
#[derive(Debug)]
pub(crate) struct Job {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    folder: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
    pub(super) limit: Duration,
}

impl Job {
    /// A program without arguments that may run for half an hour.
    pub(crate) fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            log: None,
            limit: Duration::from_secs(30 * 60),
        }
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Sets the working directory.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Keeps the whole output in a file.
    pub(crate) fn log(mut self, file: &Path) -> Self {
        self.log = Some(file.to_owned());
        self
    }

    /// Ends the program when it takes longer than this.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    pub(super) fn name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or(self.program.as_os_str())
            .to_string_lossy()
            .into_owned()
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the system says.
    pub(crate) status: ExitStatus,
    /// The newest lines of its output.
    pub(crate) tail: Vec<String>,
    /// Whether it was ended because its limit was reached.
    pub(crate) expired: bool,
}

impl Outcome {
    /// Whether the program ended well and in time.
    pub(crate) fn success(&self) -> bool {
        self.status.success() && !self.expired
    }

    /// Says in words how the program ended.
    pub(crate) fn describe(&self) -> String {
        match (self.expired, self.status.code(), self.status.signal()) {
            (true, ..) => "took too long".to_owned(),
            (_, Some(code), _) => format!("exit code {code}"),
            (_, _, Some(signal)) => format!("ended by signal {signal}"),
            _ => self.status.to_string(),
        }
    }
}
