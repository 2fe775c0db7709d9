//! An agent of one's own, and short ways to ask it for something.

use hotbed_console::agent::wire::{Command, Program, Stderr, Stream};
use hotbed_console::agent::{Agent, Ended, Progress, Running};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// No answer takes longer than this on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// An agent in a process of its own, which ends with this.
pub(crate) struct Guest {
    pub(crate) listener: UnixListener,
    pub(crate) process: Child,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // An agent that was killed leaves its groups; another one with its number would find them taken.
        let groups = std::fs::read_dir(groups().unwrap_or_default());
        let begin = self.group("");
        for entry in groups.into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&begin) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

/// Where agents make groups, if they can.
pub(crate) fn groups() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut lines = mounts.lines();
    let line = lines.find(|line| line.contains(" - cgroup2 "))?;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(line.split(' ').nth(4)?).join(path))
}

impl Guest {
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = folder.path().join("port");
        let listener = UnixListener::bind(&port).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = std::process::Command::new(env!("CARGO_BIN_EXE_hotbed-agent"))
            .arg("--port")
            .arg(&port)
            .args(options)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            listener,
            process,
            folder,
        }
    }

    /// The host's side; the guest connects again when that before is gone.
    pub(crate) fn connect(&self) -> Agent {
        let (stream, _) = self.listener.accept().unwrap();
        let agent = Agent::new(stream).unwrap();
        agent
            .poll_ready(soon())
            .unwrap()
            .expect("the agent answers");
        agent
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What the agent calls the group of a command.
    pub(crate) fn group(&self, number: &str) -> String {
        format!("hotbed-{}-{number}", self.process.id())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

pub(crate) fn start() -> (Guest, Agent) {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    (guest, agent)
}

/// What a command did.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) ended: Ended,
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Takes all output up to the end.
pub(crate) fn finish(running: &Running) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let until = soon();
    loop {
        match running.poll_output(until).unwrap() {
            Progress::Output(Stream::Stdout, bytes) => stdout.extend(bytes),
            Progress::Output(Stream::Stderr, bytes) => stderr.extend(bytes),
            Progress::Discard => stdout.clear(),
            Progress::Exited(ended) => {
                return Outcome {
                    stdout,
                    stderr,
                    ended,
                };
            }
            Progress::Pending => panic!("no answer within {PATIENCE:?}"),
            Progress::Detached => panic!("it is detached"),
        }
    }
}

pub(crate) fn script(text: &str) -> Command {
    let mut command = Command::script(text);
    command.stderr = Stderr::Apart;
    command
}

pub(crate) fn arguments(all: &[&str]) -> Command {
    let all = all.iter().map(|word| (*word).to_owned()).collect();
    let mut command = Command::new(Program::Arguments(all));
    command.stderr = Stderr::Apart;
    command
}

pub(crate) fn run(agent: &Agent, text: &str) -> Outcome {
    finish(&agent.start(&script(text), text.as_bytes()).unwrap())
}

/// Whether this may do what root may; if not, it says what is not tested.
pub(crate) fn is_root(what: &str) -> bool {
    let is_root = rustix::process::getuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: {what}: needs root");
    }
    is_root
}
