//! Commands, and the shells that wait for scripts.

use super::{Core, Operation, Source};
use crate::failure::Failure;
use crate::job::{Job, Place, Purpose, ShellOutputs, spawn};
use crate::tree::{Group, Tree};
use crate::zygote::{self, Said, Zygote};
use hotbed_console::agent::wire::{Exit, FailureKind, Id, Program};
use rustix::event::{Timespec, epoll};
use rustix::process::Pid;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How many shells wait for scripts at most; beyond that, each script starts a bash of its own.
const SHELLS_MAX: usize = 4;

/// When so many shells in a row were gone before they had begun, each script has a bash of its own, and says why that does not work.
const FAILED_SHELLS_MAX: usize = 3;

/// How long what a login shell would have is waited for, where it is needed. A profile that takes longer does without us.
const PROFILE_PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// A script that runs for longer has its output read as it comes.
const WATCH_AFTER: Duration = Duration::from_millis(10);

/// The longest script that can be an argument: Linux takes none of 128 KiB.
const ARGUMENT_MAX: usize = 120 << 10;

/// A command that nobody waits for; it still has a deadline.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) deadline: Option<Instant>,
    pub(super) pid: Pid,
    pub(super) group: Group,
}

/// Keeps the numbers that a shell's descriptors have for itself.
pub(super) fn reserve() -> Vec<OwnedFd> {
    let Ok(null) = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) else {
        return Vec::new();
    };
    let numbers = zygote::NUMBERS;
    numbers
        .filter_map(|number| rustix::io::fcntl_dupfd_cloexec(&null, number).ok())
        .collect()
}

impl Core {
    /// Starts a shell that will wait for a script, and says which.
    pub(super) fn start_shell(&mut self) -> Option<usize> {
        if self.reserved.len() < zygote::NUMBERS.len() || self.failed_shells >= FAILED_SHELLS_MAX {
            return None;
        }
        let shell = Zygote::start(&self.environment).ok()?;
        let vacant = self.shells.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.shells.len());
        let number = u32::try_from(index).ok()?;
        self.watch(&shell.said, Source::ShellSays, number).ok()?;
        match self.shells.get_mut(index) {
            Some(vacancy) => *vacancy = Some(shell),
            None => self.shells.push(Some(shell)),
        }
        Some(index)
    }

    /// Finds a shell for a script: one whose child waits already, rather than one that is about to fork it.
    fn find_shell(&mut self) -> Option<usize> {
        let is_idle = |shell: &Zygote| shell.operation.is_none();
        let ready = self.shells.iter_mut().position(|shell| {
            let idle = shell.as_mut().filter(|shell| is_idle(shell));
            idle.is_some_and(|shell| shell.child().is_some())
        });
        let idle = || {
            self.shells
                .iter()
                .position(|shell| shell.as_ref().is_some_and(is_idle))
        };
        if let Some(index) = ready.or_else(idle) {
            return Some(index);
        }
        let count = self.shells.iter().flatten().count();
        (count < SHELLS_MAX).then(|| self.start_shell()).flatten()
    }

    /// Learns what a login shell would have, from the first shell that has read it; waits for one if there is none.
    pub(super) fn learn_environment(&mut self) {
        if !self.environment.is_unread() {
            return;
        }
        if !self.shells.iter().any(Option::is_some) {
            self.start_shell();
        }
        let shells = self.shells.iter_mut().flatten();
        if let Some(shell) = shells.into_iter().find(|shell| shell.reads_profile) {
            if !shell.has_begun {
                shell.await_begin(PROFILE_PATIENCE);
            }
            if shell.has_begun {
                self.environment.learn(shell.shell);
                return;
            }
        }
        self.environment.skip_profile();
    }

    fn shell(&mut self, index: usize) -> Option<&mut Zygote> {
        self.shells.get_mut(index).and_then(Option::as_mut)
    }

    /// Ends a shell; what it has started and left goes on.
    fn retire_shell(&mut self, index: usize) {
        if let Some(mut shell) = self.shells.get_mut(index).and_then(Option::take) {
            shell.child();
            let _ = rustix::process::kill_process(shell.shell, rustix::process::Signal::KILL);
            if shell.has_begun {
                self.failed_shells = 0;
            } else {
                self.failed_shells += 1;
                if shell.reads_profile {
                    self.environment.skip_profile();
                }
            }
        }
        if !self.shells.iter().any(Option::is_some) {
            self.start_shell();
        }
    }

    /// Starts a job; one that is detached is not heard of again.
    pub(super) fn start_job(
        &mut self,
        mut job: Box<Job>,
        now: Instant,
    ) -> Result<Option<Box<Job>>, Failure> {
        if let Some(directory) = &job.command.directory
            && !std::path::Path::new(directory).is_dir()
        {
            let message = format!("there is no folder {directory}");
            return Err(Failure::new(FailureKind::NotFound, message));
        }
        self.begin_attempt(&mut job, now)?;
        if !job.command.detached {
            if matches!(job.place, Place::Own(_)) {
                self.touched.insert(job.id);
            }
            return Ok(Some(job));
        }
        if let Place::Own(own) = job.place {
            self.detached.push(Detached {
                deadline: job.deadline.filter(|deadline| *deadline > now),
                pid: own.pid,
                group: own.group,
            });
        }
        Ok(None)
    }

    /// Starts our own program to pack or unpack a folder.
    pub(super) fn start_helper(
        &mut self,
        id: Id,
        purpose: Purpose,
        arguments: &[String],
        now: Instant,
    ) -> Result<Option<Operation>, Failure> {
        let command = spawn::helper(&purpose, arguments);
        let job = Job::new(id, purpose, command, Vec::new(), now);
        Ok(self.start_job(job, now)?.map(Operation::Job))
    }

    /// Runs a job's command once.
    fn begin_attempt(&mut self, job: &mut Job, now: Instant) -> Result<(), Failure> {
        if self.can_share(job)
            && let Some(index) = self.find_shell()
        {
            let command = &job.command;
            let directory = command.directory.as_deref();
            let text = zygote::text(&job.script, command.stderr, directory, &command.environment)?;
            if let Some(shell) = self.shell(index) {
                shell.run(job.id, &text)?;
                job.place = Place::Shell(index);
                job.watch_at = Some(now + WATCH_AFTER);
                return Ok(());
            }
        }
        if job.script.len() > ARGUMENT_MAX {
            let message = "a script of this length cannot have all of this";
            return Err(Failure::new(FailureKind::Unsupported, message));
        }
        self.learn_environment();
        let own = spawn::start(job, &self.environment, &mut self.groups)?;
        let sources = [Source::JobOutput, Source::JobError];
        for (output, source) in own.outputs.iter().zip(sources) {
            if let Some(output) = output {
                self.watch(&output.fd, source, job.id)
                    .map_err(cannot_watch)?;
            }
        }
        if let Some(fd) = job.input.as_ref().and_then(|input| input.fd()) {
            self.watch(fd, Source::JobInput, job.id)
                .map_err(cannot_watch)?;
        }
        job.tell_start(own.pid, &mut self.port);
        job.place = Place::Own(own);
        Ok(())
    }

    /// Whether a script can run in a waiting shell.
    fn can_share(&self, job: &Job) -> bool {
        let Program::Script { own_bash } = job.command.program else {
            return false;
        };
        let command = &job.command;
        (!own_bash || job.script.len() > ARGUMENT_MAX)
            && !zygote::may_signal_group(&job.script)
            && command.terminal.is_none()
            && command.user.is_none()
            && !command.stdin
            && !command.detached
            && command
                .environment
                .iter()
                .all(|(name, _)| zygote::is_plain_variable(name))
    }

    /// Takes what a shell says.
    pub(super) fn handle_shell(&mut self, index: usize, now: Instant) {
        while let Some(said) = self.shell(index).and_then(Zygote::poll) {
            let operation = self.shell(index).and_then(|shell| shell.operation);
            let job = operation.and_then(|id| match self.operations.get_mut(&id) {
                Some(Operation::Job(job)) => Some(job),
                _ => None,
            });
            self.touched.extend(operation);
            match (said, job) {
                (Said::Ended(status), Some(job)) => {
                    job.exit.get_or_insert(Exit::Code(status));
                }
                (Said::Gone, job) => {
                    if let Some(job) = job {
                        // A script that ended the shell it was forked from has ended itself.
                        job.handle_killed(now, false);
                        self.advance(now);
                    }
                    self.retire_shell(index);
                    return;
                }
                (Said::Ended(_), None) => {}
            }
        }
    }

    /// Lets a job go on; gives it back unless it is over.
    pub(super) fn advance_job(&mut self, mut job: Box<Job>, now: Instant) -> Option<Box<Job>> {
        if job.killed.is_none() && job.deadline.is_some_and(|deadline| deadline <= now) {
            self.kill(&mut job, now, true);
        }
        if let Place::Pause { until } = job.place {
            if job.killed.is_some() {
                job.tell_end(now, &mut self.port);
                return None;
            }
            if until <= now {
                job.handle_attempt(&mut self.port);
                if let Err(failure) = self.begin_attempt(&mut job, now) {
                    self.tell_failure(job.id, &failure);
                    return None;
                }
            }
            return Some(job);
        }
        job.pump_input(&mut self.port);
        if let Place::Shell(index) = job.place
            && !self.attend_shell(&mut job, index, now)
        {
            return Some(job);
        }
        // First this: what is written until nobody can write is read below.
        let is_held = job.exit.is_some() && self.is_held_open(&mut job, now);
        let shell = match job.place {
            Place::Shell(index) => self.shells.get_mut(index).and_then(Option::as_mut),
            _ => None,
        };
        let mut outputs = shell.map(|shell| ShellOutputs {
            stdout: &mut shell.stdout,
            stderr: &mut shell.stderr,
        });
        let is_whole = job.pump(outputs.as_mut(), &mut self.port);
        if job.has_more() {
            self.blocked.insert(job.id);
        }
        let Some(exit) = job.exit else {
            return Some(job);
        };
        if !is_whole && !job.is_given_up(now) {
            job.forget_look();
            return Some(job);
        }
        if is_held {
            return Some(job);
        }
        self.leave_place(&mut job);
        match job.next_attempt(exit, now) {
            Some(until) => {
                job.place = Place::Pause { until };
                Some(job)
            }
            None => {
                job.tell_end(now, &mut self.port);
                None
            }
        }
    }

    /// Looks after a shell that runs a script. Says whether there is something to do about it: for a moment after its start there is not.
    fn attend_shell(&mut self, job: &mut Job, index: usize, now: Instant) -> bool {
        let is_due = job.watch_at.is_some_and(|at| at <= now);
        if job.exit.is_none() && !is_due && job.watch_at.is_some() {
            return false;
        }
        let Some(shell) = self.shells.get_mut(index).and_then(Option::as_mut) else {
            return true;
        };
        let child = shell.child();
        if let Some(child) = child {
            job.tell_start(child, &mut self.port);
        }
        shell.stdout.handle_ready();
        shell.stderr.handle_ready();
        if job.exit.is_none() && !std::mem::replace(&mut shell.is_watched, true) {
            let token = Source::ShellOutput.token(u32::try_from(index).unwrap_or(u32::MAX));
            for output in [&shell.stdout, &shell.stderr] {
                // What cannot be watched is read at the end.
                let _ = epoll::add(&self.epoll, &output.fd, token, super::EDGES);
            }
        }
        // A shell that was just started takes its time to fork.
        let is_late = job.exit.is_none() && child.is_none();
        job.watch_at = is_late.then(|| now + WATCH_AFTER);
        true
    }

    /// Whether something that a script has left holds its output open. The shell itself does, so there is no end to see.
    fn is_held_open(&mut self, job: &mut Job, now: Instant) -> bool {
        let Place::Shell(index) = job.place else {
            return false;
        };
        let Some(shell) = self.shell(index).filter(|_| job.killed.is_none()) else {
            return false;
        };
        if job.was_looked_at(now) {
            return true;
        }
        let tree = shell.tree();
        job.leaves_something = tree.has_left();
        let is_held = job.leaves_something && tree.holds_pipe(&shell.pipes);
        if is_held {
            job.look_again(now);
        }
        is_held
    }

    /// A job's command has ended.
    fn leave_place(&mut self, job: &mut Job) {
        match std::mem::replace(&mut job.place, Place::Pause { until: job.begun }) {
            Place::Shell(index) => {
                if job.killed.is_some() || job.leaves_something {
                    self.retire_shell(index);
                } else if let Some(shell) = self.shells.get_mut(index).and_then(Option::as_mut) {
                    if std::mem::take(&mut shell.is_watched) {
                        for output in [&shell.stdout, &shell.stderr] {
                            let _ = epoll::delete(&self.epoll, &output.fd);
                        }
                    }
                    shell.forget_child();
                    self.idle_shells.push(index);
                }
            }
            Place::Own(own) => {
                self.strays.extend(own.orphans);
                self.groups.release(own.group);
            }
            Place::Pause { .. } => {}
        }
    }

    /// Ends all processes of a job.
    pub(super) fn kill(&mut self, job: &mut Job, now: Instant, timed_out: bool) {
        match &job.place {
            Place::Own(own) => own.tree().kill(),
            Place::Shell(index) => {
                if let Some(shell) = self.shells.get(*index).and_then(Option::as_ref) {
                    shell.tree().kill();
                }
            }
            Place::Pause { .. } => {}
        }
        job.handle_killed(now, timed_out);
    }

    /// Ends a job that nobody waits for any more.
    pub(super) fn abandon(&mut self, mut job: Job) {
        let now = job.begun;
        self.kill(&mut job, now, false);
        self.leave_place(&mut job);
    }

    /// Ends detached commands whose time is over.
    pub(super) fn end_detached(&mut self, now: Instant) {
        for detached in &mut self.detached {
            if detached.deadline.is_some_and(|deadline| deadline <= now) {
                detached.deadline = None;
                let tree = Tree {
                    group: &detached.group,
                    root: Some(detached.pid),
                    orphans: &[],
                    spare: None,
                };
                tree.kill();
            }
        }
    }

    pub(super) fn signal(&mut self, id: Id, signal: i32, tree: bool) {
        if let Some(Operation::Job(job)) = self.operations.get(&id) {
            let shell = match job.place {
                Place::Shell(index) => self.shells.get_mut(index).and_then(Option::as_mut),
                _ => None,
            };
            let shell = shell.map(|shell| (shell.child(), shell.tree()));
            job.signal(signal, tree, shell);
        }
    }
}

fn cannot_watch(error: rustix::io::Errno) -> Failure {
    Failure::os("cannot watch a command's pipe", error)
}
