//! The service: one loop around one epoll.
//!
//! - [`session`]: the port, and the host at its other end.
//! - [`requests`]: what the host asks for.
//! - [`jobs`]: commands, and the shells that wait for scripts; [`children`]: processes that end, and what they leave.
//! - [`watches`] are waits.
//! - [`settle`]: what is put off until the host was greeted.
//!
//! The port and the pipes of commands are watched by edges: what is ready is noted, and used when there is leave and room.

use crate::environment::Environment;
use crate::files::{get::GetFile, put::PutFile};
use crate::job::Job;
use crate::port::{OUT_MAX, Port};
use crate::system::Power;
use crate::tree::{Groups, Wanted};
use crate::zygote::Zygote;
use hotbed_console::agent::wire::Id;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::Pid;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

mod children;
mod jobs;
mod requests;
mod session;
mod settle;
mod watches;

use jobs::Detached;
use settle::Settling;
use watches::Watching;

/// A port that is not there is looked for at this pace.
const OPEN_INTERVAL: Duration = Duration::from_millis(20);

/// A frame that goes on after such a pause may have been cut off.
const QUIET: Duration = Duration::from_millis(200);

/// How many operations there may be at once.
const OPERATIONS_MAX: usize = 4096;

/// What the agent is told on its command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The port, where it is not to be found by its name.
    pub(crate) port: Option<PathBuf>,
    /// Where commands' errors go, if not to the guest's console.
    pub(crate) log: Option<PathBuf>,
    /// Whether to use cgroups.
    pub(crate) groups: Wanted,
}

/// Something that was asked for and has not ended.
enum Operation {
    Job(Box<Job>),
    Wait(Watching),
    Put(Box<PutFile>),
    Get(GetFile),
}

/// The service.
pub(crate) struct Core {
    epoll: OwnedFd,
    port: Port,
    is_test: bool,
    session: Option<u64>,
    is_greeted: bool,
    /// The port is watched for room, as it had none.
    is_stuck: bool,
    operations: BTreeMap<Id, Operation>,
    /// What something came for.
    touched: BTreeSet<Id>,
    /// What has more to send than there was room for.
    blocked: BTreeSet<Id>,
    shells: Vec<Option<Zygote>>,
    /// Shells that go on when the answer has gone out.
    idle_shells: Vec<usize>,
    /// Descriptors that keep the numbers of the shells' ones.
    reserved: Vec<OwnedFd>,
    detached: Vec<Detached>,
    /// Children that belong to no command any more.
    strays: HashSet<Pid>,
    groups: Groups,
    environment: Environment,
    settling: Settling,
    /// How many shells in a row were gone before they had begun.
    failed_shells: usize,
    children: UnixStream,
    power: Option<Power>,
    last_read: Instant,
    next_open: Instant,
}

/// What epoll says something of: a kind, and a number of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Source {
    Port = 0,
    Children,
    ShellSays,
    ShellOutput,
    JobOutput,
    JobError,
    JobInput,
    Watch,
}

impl Source {
    const ALL: [Self; 8] = [
        Self::Port,
        Self::Children,
        Self::ShellSays,
        Self::ShellOutput,
        Self::JobOutput,
        Self::JobError,
        Self::JobInput,
        Self::Watch,
    ];

    fn token(self, number: u32) -> epoll::EventData {
        epoll::EventData::new_u64(u64::from(self as u32) << 32 | u64::from(number))
    }

    fn of(data: epoll::EventData) -> Option<(Self, u32)> {
        let value = data.u64();
        let source = Self::ALL.get(usize::try_from(value >> 32).ok()?)?;
        Some((*source, (value & u64::from(u32::MAX)) as u32))
    }
}

/// Descriptors are watched by edges.
const EDGES: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// Those that are written to.
const OUT_EDGES: epoll::EventFlags = EDGES.union(epoll::EventFlags::OUT);

impl Core {
    /// Prepares the service.
    ///
    /// # Errors
    ///
    /// The kernel has no descriptors left.
    pub(crate) fn new(options: Options) -> std::io::Result<Self> {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let (children, told) = UnixStream::pair()?;
        children.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, told)?;
        let now = Instant::now();
        let is_test = options.port.is_some();
        let core = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            port: Port::new(options.port),
            is_test,
            session: None,
            is_greeted: false,
            is_stuck: false,
            operations: BTreeMap::new(),
            touched: BTreeSet::new(),
            blocked: BTreeSet::new(),
            shells: Vec::new(),
            idle_shells: Vec::new(),
            reserved: jobs::reserve(),
            detached: Vec::new(),
            strays: HashSet::new(),
            groups: Groups::new(options.groups),
            environment: if is_test {
                Environment::own(options.log.as_deref())
            } else {
                Environment::of_guest(options.log.as_deref())
            },
            settling: Settling::new(now),
            failed_shells: 0,
            children,
            power: None,
            last_read: now,
            next_open: now,
        };
        core.watch(&core.children, Source::Children, 0)?;
        Ok(core)
    }

    /// Serves the host.
    ///
    /// # Errors
    ///
    /// The loop itself fails; a guest without an agent goes on.
    pub(crate) fn run(&mut self) -> std::io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 64];
        loop {
            let now = Instant::now();
            self.open_port(now);
            let timeout = self
                .wake_at(now)
                .map(|at| timespec(at.saturating_duration_since(now)));
            let (ready, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for event in &*ready {
                let (flags, data) = (event.flags, event.data);
                if let Some((source, number)) = Source::of(data) {
                    self.handle_ready(source, number, flags, now);
                }
            }
            self.handle_time(now);
            self.advance(now);
            self.flush();
            self.prepare_shell();
        }
    }

    fn watch(&self, fd: impl std::os::fd::AsFd, source: Source, number: u32) -> Result<(), Errno> {
        let flags = if source == Source::JobInput {
            OUT_EDGES
        } else {
            EDGES
        };
        epoll::add(&self.epoll, fd, source.token(number), flags)
    }

    fn handle_ready(
        &mut self,
        source: Source,
        number: u32,
        flags: epoll::EventFlags,
        now: Instant,
    ) {
        use epoll::EventFlags;
        match source {
            Source::Port => {
                let is_away = flags.contains(EventFlags::HUP);
                self.port.handle_ready(
                    flags.contains(EventFlags::IN) || is_away,
                    flags.contains(EventFlags::OUT),
                );
                self.read_port(now);
            }
            Source::Children => self.reap(),
            Source::ShellSays => self.handle_shell(number as usize, now),
            Source::ShellOutput => {
                let shell = self
                    .shells
                    .get_mut(number as usize)
                    .and_then(Option::as_mut);
                if let Some(shell) = shell {
                    shell.stdout.handle_ready();
                    shell.stderr.handle_ready();
                    self.touched.extend(shell.operation);
                }
            }
            Source::JobOutput | Source::JobError | Source::JobInput => {
                if let Some(Operation::Job(job)) = self.operations.get_mut(&number) {
                    job.handle_ready();
                    self.touched.insert(number);
                }
            }
            Source::Watch => {
                self.touched.insert(number);
            }
        }
    }

    /// When to look again, if nothing happens until then.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        if !self.touched.is_empty() || (!self.blocked.is_empty() && self.port.backlog() < OUT_MAX) {
            return Some(now);
        }
        let open = self.port.fd().is_none().then_some(self.next_open);
        let quiet = self
            .port
            .decoder
            .is_undecided()
            .then_some(self.last_read + QUIET);
        let operations = self
            .operations
            .values()
            .filter_map(|operation| match operation {
                Operation::Job(job) => job.wake_at(),
                Operation::Wait(watching) => watching.wake_at(),
                Operation::Put(_) | Operation::Get(_) => None,
            });
        let detached = self
            .detached
            .iter()
            .filter_map(|detached| detached.deadline);
        let settle = self.settling.wake_at();
        operations
            .chain(detached)
            .chain(open)
            .chain(quiet)
            .chain(settle)
            .min()
    }

    /// Does what its time has come for.
    fn handle_time(&mut self, now: Instant) {
        if self.port.decoder.is_undecided() && now >= self.last_read + QUIET {
            self.last_read = now;
            if self.port.decoder.handle_quiet() {
                self.handle_frames(now);
            }
        }
        let due = |(id, operation): (&Id, &Operation)| {
            let at = match operation {
                Operation::Job(job) => job.wake_at(),
                Operation::Wait(watching) => watching.wake_at(),
                Operation::Put(_) | Operation::Get(_) => None,
            };
            at.is_some_and(|at| at <= now).then_some(*id)
        };
        let touched = self.touched.len();
        self.touched.extend(self.operations.iter().filter_map(due));
        if self.touched.len() > touched {
            // What a command's process left when it ended a moment ago is to end at the command's deadline, too.
            self.reap();
        }
        self.end_detached(now);
        self.settle(now);
    }

    /// Lets every operation go on that something came for, or that has more to send.
    fn advance(&mut self, now: Instant) {
        let mut ids = std::mem::take(&mut self.touched);
        if self.port.backlog() < OUT_MAX {
            ids.append(&mut self.blocked);
        }
        for id in ids {
            let Some(operation) = self.operations.remove(&id) else {
                continue;
            };
            let goes_on = match operation {
                Operation::Job(job) => self.advance_job(job, now).map(Operation::Job),
                Operation::Wait(watching) => {
                    self.advance_wait(id, watching, now).map(Operation::Wait)
                }
                Operation::Get(mut get) => {
                    if get.pump(&mut self.port) {
                        if get.is_blocked() {
                            self.blocked.insert(id);
                        }
                        Some(Operation::Get(get))
                    } else {
                        None
                    }
                }
                Operation::Put(put) => Some(Operation::Put(put)),
            };
            if let Some(operation) = goes_on {
                self.operations.insert(id, operation);
            }
        }
    }

    /// Sends what the host takes; then the shells go on, when nobody waits for an answer any more.
    fn flush(&mut self) {
        if !self.port.flush() {
            self.handle_hangup();
        }
        // Each message that is taken makes room; to be told so would be to be woken for nothing.
        let is_stuck = self.port.backlog() > 0;
        if is_stuck != self.is_stuck
            && let Some(fd) = self.port.fd()
        {
            self.is_stuck = is_stuck;
            let flags = if is_stuck { OUT_EDGES } else { EDGES };
            let _ = epoll::modify(&self.epoll, fd, Source::Port.token(0), flags);
        }
        for index in std::mem::take(&mut self.idle_shells) {
            if let Some(shell) = self.shells.get(index).and_then(Option::as_ref) {
                shell.go_on();
            }
        }
        if self.port.backlog() == 0
            && let Some(power) = self.power.take()
        {
            crate::system::turn(power);
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
