//! A program of its own: its pipes or terminal, its user, its folder.

use super::input::Input;
use super::output::Output;
use super::{Job, Purpose};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::sys::{Preparation, prepare};
use crate::tree::{Group, Groups, Tree};
use crate::users::{self, User};
use hotbed_console::agent::wire::{FailureKind, Program, Size, Stderr};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// A process of its own.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) pid: Pid,
    /// The process has ended, and its number may be another's.
    pub(crate) has_ended: bool,
    /// What it has left, where there are no groups.
    pub(crate) orphans: Vec<Pid>,
    pub(crate) group: Group,
    pub(crate) outputs: [Option<Output>; 2],
    terminal: Option<OwnedFd>,
}

impl Own {
    /// All that it has started.
    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree {
            group: &self.group,
            root: (!self.has_ended).then_some(self.pid),
            orphans: &self.orphans,
            spare: None,
        }
    }

    /// Sets the size of its terminal.
    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetwinsize(terminal, window(size));
        }
    }
}

/// Starts a job's program.
pub(crate) fn start(
    job: &mut Job,
    environment: &Environment,
    groups: &mut Groups,
) -> Result<Own, Failure> {
    let user = job.command.user.as_deref().map(users::find).transpose()?;
    let mut command = program(job)?;
    environment.apply(&mut command);
    set_environment(&mut command, job, user.as_ref());
    if let Some(directory) = &job.command.directory {
        command.current_dir(directory);
    }
    let mut preparation = Preparation {
        credentials: user.map(|user| user.credentials),
        ..Preparation::default()
    };
    let mut ends = Ends::default();
    let tried = "cannot make a pipe or a terminal";
    match job.command.terminal {
        Some(size) => {
            ends.open_terminal(&mut command, size)
                .map_err(|error| Failure::os(tried, error))?;
            preparation.controls_terminal = true;
        }
        None => ends
            .open_pipes(&mut command, job, environment)
            .map_err(|error| Failure::os(tried, error))?,
    }
    let (group, cgroup) = groups.make();
    preparation.is_subreaper = cgroup.is_none();
    preparation.cgroup = cgroup;
    prepare(&mut command, preparation);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            groups.release(group);
            let name = command.get_program().to_string_lossy().into_owned();
            return Err(Failure::os(format_args!("cannot run {name}"), error));
        }
    };
    if let Some(fd) = ends.input {
        let input = job.input.get_or_insert_with(Input::default);
        input.open(fd, ends.terminal.is_some());
    }
    Ok(Own {
        pid: Pid::from_child(&child),
        has_ended: false,
        orphans: Vec::new(),
        group,
        outputs: ends.outputs,
        terminal: ends.terminal,
    })
}

fn program(job: &Job) -> Result<Command, Failure> {
    let invalid = |message: &str| Failure::new(FailureKind::Invalid, message);
    match &job.command.program {
        Program::Script { .. } => {
            if job.script.contains(&0) {
                return Err(invalid("a NUL byte in a script"));
            }
            let script = [b"set -euo pipefail; ".as_slice(), &job.script].concat();
            let script: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(script);
            let mut command = Command::new("bash");
            command.arg("-c").arg(script);
            Ok(command)
        }
        Program::Arguments(arguments) => {
            let (program, arguments) = arguments
                .split_first()
                .ok_or_else(|| invalid("no program is named"))?;
            let mut command = Command::new(program);
            command.args(arguments);
            Ok(command)
        }
    }
}

fn set_environment(command: &mut Command, job: &Job, user: Option<&User>) {
    if let Some(user) = user {
        command.env("HOME", &user.home).env("USER", &user.name);
        command.env("LOGNAME", &user.name).env("SHELL", &user.shell);
    }
    if job.command.terminal.is_some() {
        command.env("TERM", "xterm-256color");
    }
    for (name, value) in &job.command.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Our ends of what a program gets.
#[derive(Default)]
struct Ends {
    outputs: [Option<Output>; 2],
    input: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Ends {
    fn open_terminal(&mut self, command: &mut Command, size: Size) -> Result<(), Errno> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, window(size))?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 0);
        command
            .stdin(copy(&theirs)?)
            .stdout(copy(&theirs)?)
            .stderr(theirs);
        self.input = Some(copy(&ours)?);
        self.outputs[0] = Some(Output::new(copy(&ours)?));
        self.terminal = Some(ours);
        Ok(())
    }

    fn open_pipes(
        &mut self,
        command: &mut Command,
        job: &Job,
        environment: &Environment,
    ) -> Result<(), Errno> {
        if job.command.stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            command.stdin(theirs);
            self.input = Some(ours);
        } else {
            command.stdin(Stdio::null());
        }
        let is_kept = !job.command.detached;
        if is_kept {
            let theirs = self.output(0)?;
            if job.command.stderr == Stderr::WithStdout {
                command.stderr(rustix::io::fcntl_dupfd_cloexec(&theirs, 0)?);
            }
            command.stdout(theirs);
        } else {
            command.stdout(Stdio::null());
        }
        match job.command.stderr {
            Stderr::Log => command.stderr(environment.log()),
            Stderr::Apart if is_kept => command.stderr(self.output(1)?),
            Stderr::WithStdout if is_kept => command,
            Stderr::Apart | Stderr::WithStdout => command.stderr(Stdio::null()),
        };
        Ok(())
    }

    /// Makes a pipe, keeps the end to read from and returns the other.
    fn output(&mut self, index: usize) -> Result<OwnedFd, Errno> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        self.outputs[index] = Some(Output::new(ours));
        Ok(theirs)
    }
}

fn window(size: Size) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// The command that packs or unpacks a folder: ourselves.
pub(crate) fn helper(
    purpose: &Purpose,
    arguments: &[String],
) -> hotbed_console::agent::wire::Command {
    let mut all = vec!["/proc/self/exe".to_owned()];
    all.extend_from_slice(arguments);
    let mut command = hotbed_console::agent::wire::Command::new(Program::Arguments(all));
    command.stdin = *purpose == Purpose::PutFolder;
    command.stderr = Stderr::Apart;
    command.directory = Some("/".to_owned());
    command
}
