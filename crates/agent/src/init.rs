//! PID 1 of a small guest: it reaps, keeps the backdoor shell and the agent running, and turns the machine off.
//!
//! The agent is a process of its own, so that nothing that it does can end PID 1, which would be a panic of the kernel.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};
use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What ends so soon after its start is not started again at once.
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

/// Where the version 2 cgroup file system goes.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A program that is to run as long as the machine does.
#[derive(Debug)]
struct Service {
    program: PathBuf,
    pid: Option<Pid>,
    start_at: Instant,
}

/// What a signal to PID 1 asks for: `ctrl-alt-del`, and busybox's `reboot`, `halt` and `poweroff`.
const SIGNALS: [(i32, Option<RebootCommand>); 5] = [
    (SIGCHLD, None),
    (SIGINT, Some(RebootCommand::Restart)),
    (SIGTERM, Some(RebootCommand::Restart)),
    (SIGUSR1, Some(RebootCommand::Halt)),
    (SIGUSR2, Some(RebootCommand::PowerOff)),
];

/// Runs as PID 1. It does not return: whatever fails is tried again.
pub(crate) fn run() -> ! {
    let _ = reboot(RebootCommand::CadOff);
    let _ = std::env::set_current_dir("/");
    mount_cgroups();
    let signals = SIGNALS.map(|(signal, _)| listen(signal));
    let now = Instant::now();
    let mut services = [PathBuf::from("/sbin/backdoor"), own_program()].map(|program| Service {
        program,
        pid: None,
        start_at: now,
    });
    loop {
        let now = Instant::now();
        for service in &mut services {
            service.start(now);
        }
        wait(&signals, &services, now);
        for (signal, (_, command)) in signals.iter().zip(SIGNALS) {
            if took(signal.as_ref())
                && let Some(command) = command
            {
                rustix::fs::sync();
                let _ = reboot(command);
            }
        }
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            for service in &mut services {
                service.handle_exit(pid);
            }
        }
    }
}

impl Service {
    fn start(&mut self, now: Instant) {
        if self.pid.is_some() || self.start_at > now {
            return;
        }
        self.start_at = now + RESPAWN_PAUSE;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        match command.spawn() {
            Ok(child) => self.pid = Some(Pid::from_child(&child)),
            Err(error) => {
                crate::tree::complain(&format!("cannot start {}: {error}", self.program.display()))
            }
        }
    }

    fn handle_exit(&mut self, pid: Pid) {
        if self.pid == Some(pid) {
            self.pid = None;
        }
    }
}

/// Waits for a signal, or until a service is to be started.
fn wait(signals: &[Option<UnixStream>], services: &[Service], now: Instant) {
    let next = services
        .iter()
        .filter(|service| service.pid.is_none())
        .map(|service| service.start_at);
    let mut timeout = next.min().map(|at| at.saturating_duration_since(now));
    let mut fds: Vec<PollFd<'_>> = signals
        .iter()
        .flatten()
        .map(|signal| PollFd::new(signal, PollFlags::IN))
        .collect();
    if fds.len() < signals.len() {
        // Without signals, it looks by itself.
        timeout = Some(timeout.unwrap_or(RESPAWN_PAUSE).min(RESPAWN_PAUSE));
    }
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(1),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let _ = poll(&mut fds, timeout.as_ref());
}

fn listen(signal: i32) -> Option<UnixStream> {
    let (ours, told) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    signal_hook::low_level::pipe::register(signal, told).ok()?;
    Some(ours)
}

/// Whether a signal has come.
fn took(signal: Option<&UnixStream>) -> bool {
    let mut bytes = [0; 64];
    signal.is_some_and(|signal| rustix::io::read(signal, &mut bytes).is_ok_and(|len| len > 0))
}

/// Where we are, by name if we still have one.
fn own_program() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    let name = std::fs::read_link(&link).ok().filter(|name| name.exists());
    name.unwrap_or(link)
}

/// Mounts the cgroup file system where nothing is: the agent ends commands by it.
fn mount_cgroups() {
    if Path::new(CGROUPS).is_dir() && !Path::new(CGROUPS).join("cgroup.procs").exists() {
        let flags = rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC;
        let _ = rustix::mount::mount(
            "cgroup2",
            CGROUPS,
            "cgroup2",
            flags,
            None::<&std::ffi::CStr>,
        );
    }
}
