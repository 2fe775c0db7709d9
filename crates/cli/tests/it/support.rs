//! A folder with test files, and the binary run in it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The head of a test with one machine, for scripts that boot nothing or little.
pub(crate) const ONE_MACHINE: &str = "# /// hotbed\n# [machines.alice]\n# ///\n";
/// The line of a script's first statement after [`ONE_MACHINE`].
pub(crate) const FIRST_LINE: usize = 4;
/// How long a test waits for a line or for the end of a process.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder in which the binary runs; its testbeds live in a folder of their own below it.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("hb").tempdir();
        let place = Self {
            folder: folder.expect("a folder"),
        };
        for name in ["run", "state"] {
            std::fs::create_dir(place.path(name)).expect("a folder");
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Writes `test.py` with one machine in its head.
    pub(crate) fn script(&self, body: &str) -> PathBuf {
        self.write("test.py", &format!("{ONE_MACHINE}{body}"))
    }

    /// `hotbed ARGUMENTS`, in this folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotbed"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("VIRTUAL_ENV")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("PYTHONPATH")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    /// Runs a script with one machine in its head.
    pub(crate) fn run_script(&self, body: &str) -> Ended {
        self.script(body);
        self.run(&["run", "test.py"])
    }

    /// What testbeds have left.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("run")).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// Processes whose command line or environment names this folder, such as QEMUs.
    pub(crate) fn processes(&self) -> Vec<String> {
        let own = self.folder.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', " ");
            let (command, environment) = (text(&read("cmdline")), text(&read("environ")));
            if command.contains(&own) || environment.contains(&own) {
                found.push(command);
            }
        }
        found
    }
}

/// Whether there is an agent for guests; says so when a test does without.
pub(crate) fn has_agent() -> bool {
    let ended = Place::new()
        .command(&["doctor"])
        .output()
        .expect("hotbed runs");
    let has = String::from_utf8_lossy(&ended.stdout).contains("ok  agent: ");
    if !has {
        eprintln!("SKIPPED: there is no agent: `cargo xtask demo` builds it");
    }
    has
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Runs `command` to its end.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::within(PATIENCE, command)
    }

    /// Runs `command` to its end, which may take so long on a busy host.
    #[track_caller]
    pub(crate) fn within(patience: Duration, command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("it starts");
        let stdout = read_all(child.stdout.take().expect("a pipe"));
        let stderr = read_all(child.stderr.take().expect("a pipe"));
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let ended = Self {
            code: status.and_then(|status| status.code()),
            stdout: stdout.join().expect("a reader"),
            stderr: stderr.join().expect("a reader"),
        };
        assert!(status.is_some(), "it does not end: {ended}");
        ended
    }

    /// Checks the exit code, and that standard error says each of `words`.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self}");
        }
        for debug in ["Error {", "Err(", "Some(", "panicked"] {
            assert!(
                !self.stderr.contains(debug),
                "Rust's debug output in {self}"
            );
        }
        self
    }
}

fn read_all(mut output: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// A run that goes on, whose lines are read as they come.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hotbed starts");
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `word`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(word);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("no {word:?} ({error}) in:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end; gives the status as a shell has it (128 + n after signal n), and all lines.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it does not end:\n{}", self.seen.join("\n"));
                }
            }
        }
        let status = self.child.wait().expect("a status");
        let code = status.code().or_else(|| Some(128 + status.signal()?));
        (code.expect("a code or a signal"), self.seen.join("\n"))
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(status.expect("kill runs").success());
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(within: Duration, what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}
