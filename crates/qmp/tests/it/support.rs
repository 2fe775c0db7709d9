//! What several tests need.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_qmp::blocking::Client;
use hotbed_qmp::fake::{Answer, FakeQemu, Request};
use serde_json::{Value, json};

/// How long after its deadline a call may return on a host with far more to do than processors. It is a small part
/// of [`late`], so that a call which waits for the wrong thing is told from one that had to wait for its turn.
pub(crate) const SLACK: Duration = Duration::from_secs(1);

/// A deadline that a healthy test never reaches.
pub(crate) fn late() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A deadline that a test means to reach.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

/// Starts a fake QEMU with a client.
pub(crate) fn fake(answer: impl FnMut(&Request) -> Answer + Send + 'static) -> (FakeQemu, Client) {
    let (qemu, stream) = FakeQemu::pair(answer).unwrap();
    let client = Client::from_stream(stream, late()).unwrap();
    (qemu, client)
}

/// Answers with the arguments, but holds the command `hold`.
pub(crate) fn echo(request: &Request) -> Answer {
    match request.command.as_str() {
        "hold" => Answer::Hold,
        "close" => Answer::Close,
        _ => json!({ "arguments": request.arguments }).into(),
    }
}

/// Runs a command that [`echo`] answers.
pub(crate) fn echoed(client: &Client, arguments: &Value) -> Value {
    client.execute("echo", arguments.clone(), late()).unwrap()["arguments"].clone()
}

/// A real QEMU without a machine. Dropping it ends it.
pub(crate) struct Qemu {
    pub(crate) child: Child,
    pub(crate) folder: tempfile::TempDir,
}

impl Qemu {
    /// Starts QEMU with its monitor; none, and a word on why, if there is no QEMU here.
    pub(crate) fn start(options: &[&str]) -> Option<Qemu> {
        Qemu::with_monitor("mode=control", options)
    }

    /// Starts QEMU with another kind of monitor.
    pub(crate) fn with_monitor(kind: &str, options: &[&str]) -> Option<Qemu> {
        let folder = tempfile::tempdir().unwrap();
        // QEMU waits for its client before it sets the monitor up: see `Client::connect`.
        let monitor = format!(
            "socket,id=monitor,server=on,wait=on,path={}",
            socket(folder.path()).display()
        );
        let child = Command::new("qemu-system-x86_64")
            .args([
                "-M",
                "none",
                "-nodefaults",
                "-display",
                "none",
                "-chardev",
                &monitor,
            ])
            .args(["-mon", &format!("chardev=monitor,{kind}")])
            .args(options)
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn();
        match child {
            Ok(child) => Some(Qemu { child, folder }),
            Err(error) => {
                // Past the harness, which shows what a passing test prints to nobody.
                let why =
                    format!("SKIPPED, a test against real QEMU: qemu-system-x86_64: {error}\n");
                std::io::stderr().write_all(why.as_bytes()).unwrap();
                None
            }
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.folder.path())
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.socket(), late()).unwrap_or_else(|error| {
            let words = fs::read_to_string(self.folder.path().join("stderr")).unwrap();
            panic!("{error}; QEMU said: {words}")
        })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("monitor")
}
