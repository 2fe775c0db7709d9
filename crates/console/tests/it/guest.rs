//! A root shell as the NixOS backdoor service starts it, on a pty instead of a virtio console.

use hotbed_console::{Command, Exit, Progress, Shell};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than what is over soon takes on a loaded machine, and shorter than what hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A guest and the shell in it. It ends when this is dropped.
pub(crate) struct Guest {
    pub(crate) shell: Shell,
    child: Child,
    /// The most bytes that came from the guest before the host said something.
    most_at_once: Arc<AtomicUsize>,
    /// What the guest wrote to its standard error.
    log: PathBuf,
}

impl Guest {
    /// Starts the backdoor and waits until it is ready.
    pub(crate) fn start() -> Guest {
        Guest::start_with(&[])
    }

    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Guest {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let terminal = rustix::pty::ptsname(&master, Vec::new())
            .unwrap()
            .into_string()
            .unwrap();
        // Held open until the child has it: a pty whose last user is gone gives an error.
        let held = rustix::fs::open(
            terminal.as_str(),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let most_at_once = bridge(master, theirs);
        let log = std::env::temp_dir().join(format!(
            "hotbed-console-{}-{}",
            std::process::id(),
            terminal.replace('/', "-")
        ));
        let child = std::process::Command::new("setsid")
            .args(["bash", "-c", BACKDOOR, "backdoor", &terminal])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut shell = Shell::new(ours).unwrap();
        let said = shell
            .poll_ready(Instant::now() + PATIENCE)
            .unwrap()
            .expect("the shell is ready");
        assert_eq!(
            String::from_utf8_lossy(&said),
            "Spawning backdoor root shell..."
        );
        drop(held);
        Guest {
            shell,
            child,
            most_at_once,
            log,
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&mut self, command: &Command<'_>) -> (i32, Vec<u8>) {
        self.shell
            .begin(command, Instant::now() + PATIENCE)
            .unwrap();
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> (i32, Vec<u8>) {
        finish(&mut self.shell)
    }

    /// The same for a script whose output is text.
    pub(crate) fn sh(&mut self, script: &str) -> (i32, String) {
        let (status, output) = self.run(&Command::new(script));
        (status, String::from_utf8(output).unwrap())
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }

    /// The process of the outer shell.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the guest's log:\n{}", self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Waits for the answer to what was begun.
pub(crate) fn finish(shell: &mut Shell) -> (i32, Vec<u8>) {
    let mut output = Vec::new();
    loop {
        match shell.poll_output(Instant::now() + PATIENCE).unwrap() {
            Progress::Pending => panic!(
                "no answer; heard {:?}",
                String::from_utf8_lossy(shell.heard())
            ),
            Progress::Output(piece) => output.extend(piece),
            Progress::Discard => output.clear(),
            Progress::Done(Exit { status }) => return (status, output),
        }
    }
}

/// What NixOS does, as its `backdoor.service` has it.
const BACKDOOR: &str = r#"
    export USER=root DISPLAY=:0.0
    cd /tmp
    exec < "$1" > "$1"
    echo "connecting to host..." >&2
    stty -F "$1" raw -echo
    echo "Spawning backdoor root shell..."
    PS1= exec bash --norc "$1"
"#;

/// Copies both ways until one side ends, and counts.
fn bridge(master: OwnedFd, stream: UnixStream) -> Arc<AtomicUsize> {
    let mut from_guest = File::from(master);
    let mut to_guest = from_guest.try_clone().unwrap();
    let (mut to_host, mut from_host) = (stream.try_clone().unwrap(), stream);
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, reset) = (Arc::clone(&most), Arc::clone(&now));
    std::thread::spawn(move || {
        let _ = copy(&mut from_guest, &mut to_host, |len| {
            counted.fetch_max(
                now.fetch_add(len, Ordering::Relaxed) + len,
                Ordering::Relaxed,
            );
        });
        let _ = to_host.shutdown(std::net::Shutdown::Both);
    });
    std::thread::spawn(move || {
        copy(&mut from_host, &mut to_guest, |_| {
            reset.store(0, Ordering::Relaxed)
        })
    });
    most
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, count: impl Fn(usize)) -> std::io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let len = from.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        count(len);
        to.write_all(&buffer[..len])?;
    }
}
