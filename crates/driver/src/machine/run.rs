//! One run of QEMU: the process, and the sockets between it and us.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use hotbed_console::Shell;
use hotbed_image::Identity;
use hotbed_image::cache::Lease;
use hotbed_qmp::blocking::Client;

use super::command_line::Sockets;
use super::console_log::{Boot, ConsoleLog, Opening};
use super::hot::checkpoint::Made;
use super::link::Link;
use super::marks::{Mark, Marks};
use super::monitor::Monitor;
use crate::call::now;
use crate::process::{Process, wait_readable};
use crate::site::Site;
use crate::turn::Turns;
use crate::{Call, Error};

/// How long QEMU may take to negotiate once it has greeted.
const NEGOTIATION: Duration = Duration::from_secs(5);
/// How long QEMU may take to greet a client before another one is tried.
const GREETING: Duration = Duration::from_secs(3);
/// How many of QEMU's last lines an error shows.
const LAST_LINES: usize = 20;
/// How long a QEMU whose sockets are closed may take to be gone.
const END_GRACE: Duration = Duration::from_secs(2);

/// One run of QEMU.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: Arc<Process>,
    pub(crate) monitor: Turns<Monitor>,
    pub(crate) shell: Turns<Shell>,
    /// Another way to the guest, for as long as there is an agent in it.
    pub(crate) agent: Link,
    pub(crate) qmp: Client,
    pub(crate) stdin: Turns<Option<ChildStdin>>,
    /// Whether the guest takes commands: its shell announced itself, or its agent answered where that comes to the same.
    pub(crate) connected: AtomicBool,
    /// Whether it ever did in this run.
    pub(crate) came_up: AtomicBool,
    /// The next QMP event that nobody has taken.
    pub(crate) next_event: AtomicU64,
    /// When QEMU was started.
    pub(crate) since: Instant,
    /// Who the guest is to be told that it is when it has come up, if it boots as somebody else.
    pub(crate) becomes: Option<Identity>,
    /// The snapshot that its memory is mapped from.
    pub(crate) lease: Option<Lease>,
    /// What it takes to save it, if that is known.
    pub(crate) made: Option<Made>,
    // After the process: whoever writes to the console is gone then.
    boot: Boot,
    console: Arc<ConsoleLog>,
}

/// What a run begins with.
pub(crate) struct Start<'s> {
    /// The machine's name.
    pub(crate) machine: &'s str,
    /// What the testbed lends.
    pub(crate) site: &'s Site,
    /// Where the console's text goes.
    pub(crate) console: &'s Arc<ConsoleLog>,
    /// Where it is noted how far it came.
    pub(crate) marks: &'s Marks,
    /// Where QEMU connects to.
    pub(crate) sockets: &'s Sockets,
    /// Whether there is a port for an agent.
    pub(crate) agent: bool,
    /// What the console log begins with, when the guest does not begin at power-on.
    pub(crate) opening: Option<&'s Opening>,
}

impl Run {
    /// Starts QEMU by `command`, and waits until it has connected everywhere. Dropping the run ends it.
    pub(crate) fn start(
        mut command: Command,
        start: &Start<'_>,
        call: &Call<'_>,
    ) -> Result<Self, Error> {
        let listen = |path: &Path| -> Result<UnixListener, Error> {
            let failed = || Error::host(format!("cannot listen at {}", path.display()));
            remove_socket(path).map_err(failed())?;
            let listener = UnixListener::bind(path).map_err(failed())?;
            listener.set_nonblocking(true).map_err(failed())?;
            Ok(listener)
        };
        let sockets = start.sockets;
        let (monitor, shell) = (listen(&sockets.monitor)?, listen(&sockets.shell)?);
        let agent = match start.agent {
            true => Some(listen(&sockets.agent)?),
            false => None,
        };
        remove_socket(&sockets.qmp).map_err(Error::host("cannot remove an old socket"))?;
        let failed = || Error::host(format!("cannot write {}", start.console.path().display()));
        let (boot, output) = start.console.begin_boot(start.opening).map_err(failed())?;
        let error_output = output.try_clone().map_err(failed())?;
        command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(error_output);
        let program = command.get_program().to_string_lossy().into_owned();
        start.marks.set(Mark::Spawning);
        let since = now();
        let process = start
            .site
            .spawn(command)
            .map_err(Error::host(format!("cannot start {program}")))?;
        Starting {
            process,
            boot,
            start,
        }
        .finish(&monitor, &shell, agent.as_ref(), since, call)
    }

    /// Begins the boot of a QEMU that was started before it was needed.
    pub(crate) fn open_console(&self, opening: &Opening) -> io::Result<()> {
        self.boot.open(opening)
    }

    /// Whether QEMU runs.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Waits for QEMU to end; gives how it did, or `None` at `until`. What it said last is in the console log then.
    pub(crate) fn poll_exit(&self, until: Instant) -> Result<Option<ExitStatus>, Error> {
        let status = self
            .process
            .poll_exit(until)
            .map_err(Error::host("cannot wait for QEMU"))?;
        if status.is_some() {
            self.boot.end();
        }
        Ok(status)
    }

    /// How QEMU ended and what it said last, when one of its sockets is closed; `None` when it still runs.
    pub(crate) fn last_words(&self) -> Option<String> {
        let status = self.poll_exit(now() + END_GRACE).ok()??;
        Some(format!(
            "QEMU {}{}",
            describe(status),
            quoted_lines(&self.console)
        ))
    }
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended ({status})"),
    }
}

/// The last lines of a console, each on a line of its own after a colon; nothing when there are none.
pub(crate) fn quoted_lines(console: &ConsoleLog) -> String {
    let lines = console.last_lines(LAST_LINES);
    if lines.is_empty() {
        String::new()
    } else {
        format!("; the last lines of its console:\n  {}", lines.join("\n  "))
    }
}

/// A process that has not connected everywhere yet.
struct Starting<'s> {
    process: Arc<Process>,
    boot: Boot,
    start: &'s Start<'s>,
}

impl Starting<'_> {
    fn finish(
        self,
        monitor: &UnixListener,
        shell: &UnixListener,
        agent: Option<&UnixListener>,
        since: Instant,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        let Start {
            machine,
            console,
            sockets,
            ..
        } = self.start;
        let mut monitor = Monitor::new(self.accept(monitor, "monitor", call)?)
            .map_err(Error::host("cannot use the monitor socket"))?;
        let shell = self.accept(shell, "shell", call)?;
        let shell = Shell::new(shell)
            .map_err(|error| Error::Machine(format!("shell socket of {machine}: {error}")))?;
        let qmp = self.connect_qmp(&sockets.qmp, call)?;
        monitor
            .wait_for_prompt(call)
            .map_err(|error| self.instead("showing its monitor's prompt", error))?;
        // QEMU connects everywhere before it shows its prompt. Who has not connected by then is no QEMU, and has no agent.
        let agent = agent.and_then(|listener| listener.accept().ok());
        let stdin = self.process.take_stdin();
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)
                .map_err(|error| Error::host("cannot use QEMU's standard input")(error.into()))?;
        }
        self.start.marks.set(Mark::Connected);
        Ok(Run {
            process: self.process,
            monitor: Turns::new(monitor),
            shell: Turns::new(shell),
            agent: Link::new(agent.map(|(stream, _)| stream)),
            next_event: AtomicU64::new(0),
            qmp,
            stdin: Turns::new(stdin),
            connected: AtomicBool::new(false),
            came_up: AtomicBool::new(false),
            since,
            becomes: None,
            lease: None,
            made: None,
            boot: self.boot,
            console: Arc::clone(console),
        })
    }

    /// Takes QEMU's connection.
    fn accept(
        &self,
        listener: &UnixListener,
        what: &str,
        call: &Call<'_>,
    ) -> Result<UnixStream, Error> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    return Err(Error::host(format!(
                        "cannot take QEMU's connection to the {what}"
                    ))(error));
                }
            }
            let slice = call.slice(&|| format!("QEMU connects to the {what}"))?;
            let events = [listener.as_fd(), self.process.exit_event()];
            wait_readable(&events, slice).map_err(Error::host("cannot wait for QEMU"))?;
            self.check(&format!("connecting to {what} socket"))?;
        }
    }

    fn connect_qmp(&self, path: &Path, call: &Call<'_>) -> Result<Client, Error> {
        loop {
            let stream = self.open_qmp(path, call)?;
            // QEMU 7.2 on a busy host may never greet a client that comes while it sets the monitor up; it greets the next one.
            if self.is_greeted(&stream, call)? {
                return Client::from_stream(stream, now() + NEGOTIATION).map_err(|error| {
                    self.instead("negotiating QMP", Error::Machine(error.to_string()))
                });
            }
        }
    }

    fn open_qmp(&self, path: &Path, call: &Call<'_>) -> Result<UnixStream, Error> {
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
                Err(error) => {
                    return Err(Error::host(format!(
                        "cannot connect to QMP at {}",
                        path.display()
                    ))(error));
                }
            }
            // QEMU has connected elsewhere, so its own socket is about to be there: only time tells when.
            let slice = call
                .slice(&|| "QEMU opens its QMP socket".to_owned())?
                .min(now() + Duration::from_millis(5));
            wait_readable(&[self.process.exit_event()], slice)
                .map_err(Error::host("cannot wait for QEMU"))?;
            self.check("opening its QMP socket")?;
        }
    }

    /// Waits until QEMU says something, but no longer than [`GREETING`].
    fn is_greeted(&self, stream: &UnixStream, call: &Call<'_>) -> Result<bool, Error> {
        let patience = now() + GREETING;
        while now() < patience {
            let slice = call.slice(&|| "QEMU greets at QMP".to_owned())?;
            let events = [stream.as_fd(), self.process.exit_event()];
            wait_readable(&events, slice.min(patience))
                .map_err(Error::host("cannot wait for QEMU"))?;
            self.check("greeting at QMP")?;
            if wait_readable(&[stream], now()).map_err(Error::host("cannot wait for QEMU"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fails when QEMU has ended.
    fn check(&self, before: &str) -> Result<(), Error> {
        if self.process.is_running() {
            Ok(())
        } else {
            Err(self.ended(before))
        }
    }

    /// The error to tell when a socket fails: QEMU's end, if it ended.
    fn instead(&self, before: &str, error: Error) -> Error {
        if matches!(error, Error::Interrupted | Error::Timeout(_)) {
            return error;
        }
        match self.process.poll_exit(now() + END_GRACE) {
            Ok(Some(_)) => self.ended(before),
            _ => error,
        }
    }

    /// QEMU ended: says how, with its own words.
    fn ended(&self, before: &str) -> Error {
        let code = self
            .process
            .poll_exit(now())
            .ok()
            .flatten()
            .map_or_else(|| "?".to_owned(), return_code);
        Error::Machine(format!(
            "QEMU process exited with code {code} before {before}.\n{}",
            self.start.console.last_lines(usize::MAX).join("\n")
        ))
    }
}

/// Python's `returncode`: negative for a signal.
fn return_code(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .map_or_else(|| "?".to_owned(), |code| code.to_string())
}

/// Removes a socket of an earlier run.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
