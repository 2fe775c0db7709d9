//! Child processes: started so that they die with us, watched by pidfd, ended with all that they started.
//!
//! All are started from one thread that lives as long as this process, because the kernel's parent-death signal is tied to the
//! thread that starts a process, and fires when that thread ends.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::call::now;

/// How long a process may take to end after SIGTERM, before it is killed.
const TERM_GRACE: Duration = Duration::from_millis(300);
/// How long the kernel may take to end a killed process before we stop looking.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// The process that something belongs to. A fork of it (Python's `os.fork`) has copies of handles, but not the threads behind
/// them, and must not end what its parent uses.
#[derive(Debug)]
pub(crate) struct Owner(u32);

impl Owner {
    /// This process.
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    /// Whether this process is the owner, and not a fork of it.
    pub(crate) fn is_here(&self) -> bool {
        self.0 == std::process::id()
    }
}

/// A command, and where the one who asked for it waits.
type Job = (Command, Sender<io::Result<Process>>);

/// Is told the process id just before it is given back to the kernel.
type AtEnd = Box<dyn FnOnce(u32) + Send>;

/// A running process, the leader of a process group of its own. Dropping it kills it.
pub(crate) struct Process {
    child: Mutex<Child>,
    group: Pid,
    pidfd: OwnedFd,
    status: OnceLock<ExitStatus>,
    at_end: Mutex<Option<AtEnd>>,
    owner: Owner,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("group", &self.group)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Starts a process that is killed when this process ends. `at_end` hears of its end before its number can be another's.
pub(crate) fn spawn(mut command: Command, at_end: AtEnd) -> io::Result<Process> {
    command.process_group(0);
    crate::sys::die_with_parent(&mut command);
    let process = on_spawner_thread(command)?;
    *process
        .at_end
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(at_end);
    Ok(process)
}

/// Starts a process that outlives this one, in a session of its own.
pub(crate) fn spawn_survivor(mut command: Command) -> io::Result<Process> {
    crate::sys::in_own_session(&mut command);
    on_spawner_thread(command)
}

fn on_spawner_thread(command: Command) -> io::Result<Process> {
    static SPAWNER: OnceLock<Result<Sender<Job>, io::ErrorKind>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        let body = move || {
            for (command, reply) in jobs {
                // One who does not wait any more drops the process, and with it nothing is left to tell.
                let _ = reply.send(start(command));
            }
        };
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(body)
            .map(|_| sender)
            .map_err(|error| error.kind())
    });
    let (reply, answer) = channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    spawner
        .as_ref()
        .map_err(|&kind| io::Error::from(kind))?
        .send((command, reply))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start(mut command: Command) -> io::Result<Process> {
    let mut child = command.spawn()?;
    let group = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData)?;
    match pidfd_open(group, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Process {
            child: Mutex::new(child),
            group,
            pidfd,
            status: OnceLock::new(),
            at_end: Mutex::new(None),
            owner: Owner::here(),
        }),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error.into())
        }
    }
}

impl Process {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the pipe to the process's standard input, once.
    pub(crate) fn take_stdin(&self) -> Option<ChildStdin> {
        self.child().stdin.take()
    }

    /// The processor time that it has taken; that of its children does not count.
    pub(crate) fn processor_time(&self) -> io::Result<Duration> {
        crate::sys::processor_time(self.pid())
    }

    /// Whether none of its threads runs, or would if it had a processor.
    pub(crate) fn is_idle(&self) -> io::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let stat = match std::fs::read_to_string(thread?.path().join("stat")) {
                Ok(stat) => stat,
                Err(_) => continue, // It has ended.
            };
            // Behind the name, which may hold anything.
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            if state == Some('R') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A descriptor that becomes readable when the process ends.
    pub(crate) fn exit_event(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until the process has ended, and with it ends what it started; `None` at `until`.
    pub(crate) fn poll_exit(&self, until: Instant) -> io::Result<Option<ExitStatus>> {
        if let Some(&status) = self.status.get() {
            return Ok(Some(status));
        }
        if !wait_readable(&[self.pidfd.as_fd()], until)? {
            return Ok(None);
        }
        let mut child = self.child();
        if let Some(&status) = self.status.get() {
            return Ok(Some(status));
        }
        // While the leader is not reaped, the group's number is ours; later it may be a stranger's.
        self.signal_group(Signal::KILL);
        if let Some(at_end) = self
            .at_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            at_end(self.pid());
        }
        let status = child.wait()?;
        Ok(Some(*self.status.get_or_init(|| status)))
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.poll_exit(now()), Ok(None))
    }

    /// Asks the process to end, and kills it and all of its group after a short grace.
    pub(crate) fn end(&self) -> Option<ExitStatus> {
        self.terminate();
        if let Ok(Some(status)) = self.poll_exit(now() + TERM_GRACE) {
            return Some(status);
        }
        self.kill();
        self.poll_exit(now() + KILL_GRACE).ok().flatten()
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        self.signal_if_running(Signal::TERM);
    }

    /// Kills the process and all of its group.
    pub(crate) fn kill(&self) {
        self.signal_if_running(Signal::KILL);
    }

    fn signal_if_running(&self, signal: Signal) {
        // The lock keeps the leader from being reaped in between.
        let _child = self.child();
        if self.status.get().is_none() {
            self.signal_group(signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        // It fails only when nobody is left.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.owner.is_here() && self.status.get().is_none() {
            self.kill();
            let _ = self.poll_exit(now() + KILL_GRACE);
        }
    }
}

/// Waits until one of the descriptors can be read from (or is at its end); `false` at `until`.
pub(crate) fn wait_readable<F: AsFd>(fds: &[F], until: Instant) -> io::Result<bool> {
    wait_for(fds, PollFlags::IN, until)
}

fn wait_for<F: AsFd>(fds: &[F], flags: PollFlags, until: Instant) -> io::Result<bool> {
    loop {
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, flags)).collect();
        let left = until.saturating_duration_since(now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) if now() >= until => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes all of `bytes` to where somebody may not be reading; `false` at `until`.
pub(crate) fn write_until(
    mut pipe: impl Write + AsFd,
    bytes: &mut &[u8],
    until: Instant,
) -> io::Result<bool> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_for(&[pipe.as_fd()], PollFlags::OUT, until)? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
