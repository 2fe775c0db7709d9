//! PID 1 of a small guest: it reaps, keeps the agent and the backdoor shell running, and turns the machine off.
//!
//! The agent is a process of its own, so that nothing that it does can end PID 1, which would be a panic of the kernel.

use crate::environment::open_console;
use crate::port::Port;
use hotbed_console::agent::wire::encode_preamble;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What ends so soon after its start is not started again at once.
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

/// No longer than this, the shell leaves the processor to the agent, which says when it does not need it.
const SHELL_PAUSE: Duration = Duration::from_secs(3);

/// Where the agent says so, an abstract name.
const NOTIFY: &str = "hotbed-init";

/// A program that is to run as long as the machine does.
#[derive(Debug)]
struct Service {
    program: PathBuf,
    is_agent: bool,
    pid: Option<Pid>,
    start_at: Instant,
    /// It was started before.
    has_begun: bool,
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
    let signals = SIGNALS.map(|(signal, _)| listen(signal));
    let address = SocketAddr::from_abstract_name(NOTIFY);
    let notify = address.and_then(|address| UnixDatagram::bind_addr(&address));
    let notify = notify
        .ok()
        .filter(|socket| socket.set_nonblocking(true).is_ok());
    let now = Instant::now();
    let mut agent = Service::new(own_program(), true, now);
    // The guest has one processor as a rule, and who boots it waits for the agent.
    let mut shell = Service::new("/sbin/backdoor".into(), false, now + SHELL_PAUSE);
    loop {
        let now = Instant::now();
        agent.start(now);
        if agent.pid.is_none() || notify.as_ref().is_none_or(was_told) {
            shell.begin(now);
        }
        shell.start(now);
        wait(&signals, notify.as_ref(), &[&agent, &shell], now);
        for (signal, (_, command)) in signals.iter().zip(SIGNALS) {
            if took(signal.as_ref())
                && let Some(command) = command
            {
                rustix::fs::sync();
                let _ = reboot(command);
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if agent.handle_exit(pid) {
                clear_up(status, shell.pid);
            }
            shell.handle_exit(pid);
        }
    }
}

impl Service {
    fn new(program: PathBuf, is_agent: bool, start_at: Instant) -> Self {
        Self {
            program,
            is_agent,
            pid: None,
            start_at,
            has_begun: false,
        }
    }

    /// Has it start now, if it never did.
    fn begin(&mut self, now: Instant) {
        if !self.has_begun {
            self.start_at = now;
        }
    }

    fn start(&mut self, now: Instant) {
        if self.pid.is_some() || self.start_at > now {
            return;
        }
        self.start_at = now + RESPAWN_PAUSE;
        self.has_begun = true;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        // We have none: there was no console yet when the kernel started us.
        command.stderr(open_console().map_or_else(Stdio::null, Stdio::from));
        if self.is_agent {
            command
                .arg("--mount-cgroups")
                .env("NOTIFY_SOCKET", format!("@{NOTIFY}"));
        } else {
            // What has no parent but us is the agent's, so that it can end with the agent.
            crate::sys::take_in_orphans(&mut command);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        match command.spawn() {
            Ok(child) => self.pid = Some(Pid::from_child(&child)),
            Err(error) => complain(&format!("cannot start {}: {error}", self.program.display())),
        }
    }

    /// Takes note of a process that has ended; says whether it was this one.
    fn handle_exit(&mut self, pid: Pid) -> bool {
        let is_this = self.pid == Some(pid);
        if is_this {
            self.pid = None;
        }
        is_this
    }
}

/// The agent has ended, which it never should: what it has started ends, too, and the host learns that nothing of it will be answered.
fn clear_up(status: WaitStatus, shell: Option<Pid>) {
    let how = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("with status {code}"),
        (None, signal) => format!("by signal {}", signal.unwrap_or_default()),
    };
    complain(&format!(
        "the agent has ended {how}; what it had started is killed, and it starts anew"
    ));
    crate::tree::kill_below(&[rustix::process::getpid()], shell);
    let mut port = Port::new(None);
    if port.open() {
        encode_preamble(0, &mut port.out);
        port.flush();
    }
}

fn complain(message: &str) {
    if let Some(mut console) = open_console() {
        let _ = writeln!(console, "hotbed-agent: {message}");
    }
}

/// Waits for a signal or for word from the agent, or until a service is to be started.
fn wait(
    signals: &[Option<UnixStream>],
    notify: Option<&UnixDatagram>,
    services: &[&Service],
    now: Instant,
) {
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
    fds.extend(notify.map(|notify| PollFd::new(notify, PollFlags::IN)));
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

/// Whether the agent has said that it can do without the processor.
fn was_told(notify: &UnixDatagram) -> bool {
    notify.recv(&mut [0; 64]).is_ok()
}

/// Where we are, by name if we still have one.
fn own_program() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    let name = std::fs::read_link(&link).ok().filter(|name| name.exists());
    name.unwrap_or(link)
}
