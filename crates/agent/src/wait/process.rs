//! Waits for processes.
//!
//! The end of a process is an event of its pidfd. The begin is one of the kernel's process events ([`events`]) where there are such;
//! else, and until those are confirmed, the table of processes is looked through again and again, a part at a time.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hotbed_console::agent::wire::Process;
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Failure, FailureKind, Watch, pause};
use events::{Events, News};

mod events;
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;

/// As many bytes of a process's name does the kernel keep.
const COMM_MAX: usize = 15;

/// The pause between two looks where there are no events.
const LOOK_PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];

/// The pause between two looks at the names of processes that run: a process may take another name.
const NAME_PAUSE: Duration = Duration::from_millis(50);

/// As many processes are looked at in one go.
const PART: usize = 32;

/// As many ends are waited for at once; when they have come, the others are looked for.
const ENDS_MAX: usize = 64;

/// Begins to wait for a process.
pub(super) fn begin(
    process: Process,
    is_wanted: bool,
    now: Instant,
) -> Result<Box<dyn Watch>, Failure> {
    match process {
        Process::Pid(pid) => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| invalid("0 is not a process"))?;
            Ok(Box::new(ByPid {
                pid,
                is_wanted,
                process: None,
                events: is_wanted.then(Events::open).flatten(),
                begin: now,
                next: None,
            }))
        }
        Process::Name(name) if name.is_empty() || name.contains(['\0', '/']) => {
            Err(invalid(&format!("{name:?} is not the name of a process")))
        }
        Process::Name(name) => Ok(Box::new(ByName {
            name: name.as_bytes()[..name.len().min(COMM_MAX)].to_owned(),
            is_wanted,
            events: is_wanted.then(Events::open).flatten(),
            scan: Some(Scan::default()),
            found: HashMap::new(),
            begin: now,
            next: None,
        })),
    }
}

/// A process by its number.
struct ByPid {
    pid: Pid,
    is_wanted: bool,
    /// Once it was seen.
    process: Option<OwnedFd>,
    events: Option<Events>,
    begin: Instant,
    next: Option<Instant>,
}

impl Watch for ByPid {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        if let Some(process) = &self.process {
            watch(process.as_fd(), EventFlags::IN);
        }
        if let Some(events) = &self.events {
            watch(events.fd(), EventFlags::IN);
        }
        self.next
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        let is_confirmed = match &mut self.events {
            Some(events) => {
                events.read(&mut |_| {});
                events.is_confirmed()
            }
            None => false,
        };
        if self.process.is_none() {
            self.process = match pidfd_open(self.pid, PidfdFlags::empty()) {
                Ok(process) => Some(process),
                // `INVAL`, `NOENT`: a thread of a process, which is no process.
                Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => None,
                Err(error) => return Err(Failure::os("cannot watch a process", error)),
            };
        }
        let is_running = self
            .process
            .as_ref()
            .is_some_and(|process| !has_ended(process));
        if !is_running {
            // Another one may get the number.
            self.process = None;
        }
        if is_running == self.is_wanted {
            return Ok(Some(self.pid.to_string()));
        }
        let elapsed = now.saturating_duration_since(self.begin);
        let [min, max] = LOOK_PAUSE;
        self.next = (self.is_wanted && !is_confirmed).then(|| now + pause(elapsed, min, max));
        Ok(None)
    }
}

/// Processes by their name.
struct ByName {
    name: Vec<u8>,
    is_wanted: bool,
    events: Option<Events>,
    /// A look through all processes, on its way.
    scan: Option<Scan>,
    /// Those that run, when they are to end.
    found: HashMap<Pid, OwnedFd>,
    begin: Instant,
    next: Option<Instant>,
}

/// The processes still to be looked at.
#[derive(Default)]
struct Scan {
    rest: Option<Vec<Pid>>,
    /// Some have the name.
    has_found: bool,
}

impl ByName {
    fn is_named(&self, pid: Pid) -> bool {
        let comm = super::read_some(format!("/proc/{pid}/comm"), COMM_MAX + 1);
        comm.is_ok_and(|comm| comm.strip_suffix(b"\n").unwrap_or(&comm) == self.name)
    }

    /// A process by this name that has not ended.
    fn find(&self, pid: Pid) -> Result<Option<OwnedFd>, Failure> {
        if !self.is_named(pid) {
            return Ok(None);
        }
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Ok((!has_ended(&process)).then_some(process)),
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(Failure::os("cannot watch a process", error)),
        }
    }

    /// Looks at some more processes, until one is found that is wanted. The scan is gone when all were looked at.
    fn scan_part(&mut self) -> Result<Option<Pid>, Failure> {
        let Some(mut scan) = self.scan.take() else {
            return Ok(None);
        };
        let mut rest = match scan.rest.take() {
            Some(rest) => rest,
            None => processes()?,
        };
        for pid in rest.split_off(rest.len().saturating_sub(PART)) {
            let Some(process) = self.find(pid)? else {
                continue;
            };
            if self.is_wanted {
                return Ok(Some(pid));
            }
            scan.has_found = true;
            if self.found.len() < ENDS_MAX {
                self.found.insert(pid, process);
            }
        }
        if !rest.is_empty() {
            scan.rest = Some(rest);
        }
        self.scan = Some(scan);
        Ok(None)
    }

    /// Whether all processes were looked at: then, whether any has the name.
    fn end_scan(&mut self) -> Option<bool> {
        let scan = self.scan.take_if(|scan| scan.rest.is_none())?;
        Some(scan.has_found)
    }

    /// Waits until one is there.
    fn poll_begin(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        let mut changed = Vec::new();
        let mut news = News::Some;
        let is_confirmed = match &mut self.events {
            Some(events) => {
                news = events.read(&mut |pid| changed.push(pid));
                events.is_confirmed()
            }
            None => false,
        };
        for pid in changed {
            if self.find(pid)?.is_some() {
                return Ok(Some(pid.to_string()));
            }
        }
        if matches!(news, News::Lost) || self.next.is_some_and(|next| next <= now) {
            self.scan.get_or_insert_default();
        }
        if let Some(pid) = self.scan_part()? {
            return Ok(Some(pid.to_string()));
        }
        self.end_scan();
        let [min, max] = LOOK_PAUSE;
        let elapsed = now.saturating_duration_since(self.begin);
        self.next = match self.scan {
            Some(_) => Some(now),
            None if is_confirmed => None,
            None => Some(now + pause(elapsed, min, max)),
        };
        Ok(None)
    }

    /// Waits until none is there.
    fn poll_end(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        let mut found = std::mem::take(&mut self.found);
        found.retain(|&pid, process| !has_ended(process) && self.is_named(pid));
        self.found = found;
        if self.found.is_empty() {
            // Those that were there may have left children.
            self.scan.get_or_insert_default();
        }
        self.scan_part()?;
        if self.end_scan() == Some(false) {
            return Ok(Some(String::new()));
        }
        self.next = Some(match self.scan {
            Some(_) => now,
            None => now + NAME_PAUSE,
        });
        Ok(None)
    }
}

impl Watch for ByName {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        for process in self.found.values() {
            watch(process.as_fd(), EventFlags::IN);
        }
        if let Some(events) = &self.events {
            watch(events.fd(), EventFlags::IN);
        }
        self.next
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        if self.is_wanted {
            self.poll_begin(now)
        } else {
            self.poll_end(now)
        }
    }
}

/// Whether a process has ended, be it that nobody has asked for its status yet.
fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The processes that there are.
fn processes() -> Result<Vec<Pid>, Failure> {
    let entries =
        std::fs::read_dir("/proc").map_err(|error| Failure::os("cannot read /proc", error))?;
    let pids = entries.filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(pid)
    });
    Ok(pids.collect())
}

fn invalid(message: &str) -> Failure {
    Failure::new(FailureKind::Invalid, message)
}
