//! Starts programs, shows what they say, and takes them down again.
//!
//! Every program gets a process group of its own, so that one signal reaches all of it: what cargo started as well as
//! cargo. SIGINT, SIGTERM and SIGHUP to us are passed on to that group, and what is still there after [`GRACE`] is
//! killed. A program that ends but leaves members of its group behind loses them too.
//!
//! Invariant: at most one group runs at a time, and none once [`Runner`] has seen a signal.

mod job;
mod lines;

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub(crate) use self::job::{Job, Outcome};
use self::lines::Lines;
use crate::ui::Ui;

/// How long a program may take to end after a signal, before its group is killed.
const GRACE: Duration = Duration::from_secs(8);

/// After how much silence a plain log says that the program is still running.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a program's output may still arrive after its end.
const DRAIN: Duration = Duration::from_secs(2);

/// The user or the system asked us to stop.
#[derive(Debug)]
pub(crate) struct Interrupted {
    signal: i32,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}", self.signal)
    }
}

impl std::error::Error for Interrupted {}

/// Says with which code to exit after an error.
pub(crate) fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    let signal = error
        .downcast_ref::<Interrupted>()
        .map(|interrupted| interrupted.signal);
    let code = signal.and_then(|signal| u8::try_from(128 + signal).ok());
    ExitCode::from(code.unwrap_or(1))
}

#[derive(Debug, Default)]
struct Running {
    group: Option<Pid>,
    signal: Option<i32>,
    since: Option<Instant>,
}

/// Runs programs, one at a time.
#[derive(Debug)]
pub(crate) struct Runner {
    ui: Ui,
    running: Arc<Mutex<Running>>,
}

impl Runner {
    /// Takes over the signals that ask this process to end.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub(crate) fn new(ui: Ui) -> anyhow::Result<Self> {
        let running = Arc::new(Mutex::new(Running::default()));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .context("signal handlers")?;
        let seen = Arc::clone(&running);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || signals.forever().for_each(|signal| pass_on(&seen, signal)))
            .context("signal thread")?;
        Ok(Self { ui, running })
    }

    /// Whether what a watched program prints is on show line by line, so that it need not be printed again.
    pub(crate) fn shows_lines(&self) -> bool {
        self.ui.shows_lines()
    }

    /// Fails once a signal has asked us to end.
    ///
    /// # Errors
    ///
    /// [`Interrupted`].
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match lock(&self.running).signal {
            Some(signal) => Err(Interrupted { signal }.into()),
            None => Ok(()),
        }
    }

    /// Runs a program under a spinner (or with its lines indented), hands each line to `line`, and keeps the last ones.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or on [`Interrupted`]; not when it fails.
    pub(crate) fn watch(
        &self,
        label: &str,
        job: &Job,
        line: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Outcome> {
        let activity = self.ui.begin(label);
        let mut lines = Lines::new(&activity, job.log.as_deref(), line)?;
        let (reader, writer) = std::io::pipe().context("pipe")?;
        let mut command = job.command();
        command
            .stdout(writer.try_clone().context("pipe")?)
            .stderr(writer);
        let child = self.start(&mut command, &job.name())?;
        drop(command); // It holds the writing end of the pipe.
        let (status, expired) = self.follow(child, Some((reader, &mut lines)), job.limit)?;
        drop(lines.finish());
        self.check()?;
        Ok(Outcome {
            status,
            tail: lines.into_tail(),
            expired,
        })
    }

    /// Runs a program that shows its own progress: it writes where we write.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or on [`Interrupted`]; not when it fails.
    pub(crate) fn hand_over(&self, job: &Job) -> anyhow::Result<Outcome> {
        let child = self.start(&mut job.command(), &job.name())?;
        let (status, expired) = self.follow(child, None, job.limit)?;
        self.check()?;
        Ok(Outcome {
            status,
            tail: Vec::new(),
            expired,
        })
    }

    /// Runs a program that may ask the user something: it shares our terminal and gets its Ctrl-C from there.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or on [`Interrupted`]; not when it fails.
    pub(crate) fn converse(&self, job: &Job) -> anyhow::Result<ExitStatus> {
        self.check()?;
        let mut command = job.command();
        let status = command
            .stdin(Stdio::inherit())
            .status()
            .with_context(|| format!("cannot start {}", job.name()))?;
        self.check()?;
        Ok(status)
    }

    /// Runs a short program and returns what it printed, standard error apart.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or on [`Interrupted`]; not when it fails.
    pub(crate) fn ask(&self, job: &Job) -> anyhow::Result<std::process::Output> {
        self.check()?;
        let output = job
            .command()
            .output()
            .with_context(|| format!("cannot start {}", job.name()))?;
        self.check()?;
        Ok(output)
    }

    fn start(&self, command: &mut Command, name: &str) -> anyhow::Result<Group<'_>> {
        let mut running = lock(&self.running);
        if let Some(signal) = running.signal {
            return Err(Interrupted { signal }.into());
        }
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_child(&child);
        running.group = Some(pid);
        Ok(Group {
            child,
            pid,
            runner: self,
        })
    }

    /// Waits for the end of a program, shows what it says, and enforces the limit and the grace after a signal.
    fn follow(
        &self,
        mut group: Group<'_>,
        mut output: Option<(std::io::PipeReader, &mut Lines<'_>)>,
        limit: Duration,
    ) -> anyhow::Result<(ExitStatus, bool)> {
        let pidfd = rustix::process::pidfd_open(group.pid, PidfdFlags::empty()).context("pidfd")?;
        let (started, mut shown, mut expired) = (Instant::now(), Instant::now(), None);
        loop {
            let ended = wait(&pidfd, output.as_ref().map(|(reader, _)| reader))?;
            if let Some((reader, lines)) = &mut output
                && readable(reader)
            {
                shown = Instant::now();
                if lines.read(reader)? == 0 {
                    output = None;
                }
            } else if ended {
                break;
            }
            if shown.elapsed() >= SILENCE {
                shown = Instant::now();
                if let Some((_, lines)) = &output {
                    lines.activity.still(started.elapsed());
                }
            }
            if expired.is_none() && started.elapsed() > limit {
                expired = Some(Instant::now());
                group.signal(Signal::TERM);
            }
            let asked = lock(&self.running).since.or(expired);
            if asked.is_some_and(|asked| asked.elapsed() > GRACE) {
                group.signal(Signal::KILL);
            }
        }
        group.signal(Signal::KILL); // What the program left behind in its group; the pid is ours until `wait`.
        if let Some((reader, lines)) = &mut output {
            let until = Instant::now() + DRAIN;
            while Instant::now() < until && readable(reader) && lines.read(reader)? > 0 {}
        }
        let status = group.child.wait().context("wait")?;
        group.wait_until_empty();
        Ok((status, expired.is_some()))
    }
}

/// A program and all it started, registered with the runner until it is gone.
struct Group<'a> {
    child: Child,
    pid: Pid,
    runner: &'a Runner,
}

impl Group<'_> {
    fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal); // ESRCH: everybody is gone already.
    }

    /// Waits for what was killed; the system takes a moment, and whoever inherits the dead may take another.
    fn wait_until_empty(&self) {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until && rustix::process::test_kill_process_group(self.pid).is_ok() {
            let _ = rustix::event::poll(
                &mut [],
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 5_000_000,
                }),
            );
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL); // An error took us out of `follow` early.
            drop(self.child.wait());
        }
        lock(&self.runner.running).group = None;
    }
}

/// Passes a signal on to the running group; with nothing to wait for, ends this process.
fn pass_on(running: &Mutex<Running>, signal: i32) {
    let mut running = lock(running);
    let first = running.signal.is_none();
    running.signal = Some(signal);
    running.since.get_or_insert_with(Instant::now);
    let Some(group) = running.group else {
        return; // Whoever runs now asks `check` before it starts something.
    };
    let passed = if first {
        Signal::from_named_raw(signal).unwrap_or(Signal::TERM)
    } else {
        Signal::KILL
    };
    let _ = rustix::process::kill_process_group(group, passed); // ESRCH: it has just ended.
}

/// Waits until the program ends or says something, or a short time has passed; says whether it has ended.
fn wait(pidfd: &rustix::fd::OwnedFd, reader: Option<&std::io::PipeReader>) -> anyhow::Result<bool> {
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    fds.extend(reader.map(|reader| PollFd::new(reader, PollFlags::IN)));
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 250_000_000,
    };
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    Ok(!fds[0].revents().is_empty())
}

fn readable(reader: &std::io::PipeReader) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
    matches!(
        rustix::event::poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0
            })
        ),
        Ok(1..)
    )
}

fn lock(running: &Mutex<Running>) -> std::sync::MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
