//! Follows the console logs of all machines of a testbed, on one thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;

use super::ConsoleLog;
use crate::call::{after, now};
use crate::process::{Owner, wait_readable};

/// How often the files are looked at when the system has no more inotify objects to give.
const LOOK: Duration = Duration::from_millis(20);

/// Looks at console logs as soon as something is written to them.
#[derive(Debug)]
pub(crate) struct Tail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    owner: Owner,
}

#[derive(Debug)]
struct Shared {
    logs: Mutex<Vec<Weak<ConsoleLog>>>,
    /// Tells of changes; without it the files are looked at again and again.
    changes: Option<OwnedFd>,
    stop: OwnedFd,
}

impl Tail {
    pub(crate) fn start() -> io::Result<Self> {
        let changes =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            logs: Mutex::default(),
            changes,
            stop,
        });
        let body = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("consoles".to_owned())
            .spawn(move || body.follow())?;
        Ok(Self {
            shared,
            thread: Some(thread),
            owner: Owner::here(),
        })
    }

    /// Follows one more file.
    pub(crate) fn follow(&self, log: &Arc<ConsoleLog>) -> io::Result<()> {
        if let Some(changes) = &self.shared.changes {
            inotify::add_watch(changes, log.path(), inotify::WatchFlags::MODIFY)?;
        }
        self.shared
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(log));
        Ok(())
    }
}

impl Shared {
    fn follow(&self) {
        loop {
            let woken = match &self.changes {
                Some(changes) => wait_readable(
                    &[changes.as_fd(), self.stop.as_fd()],
                    after(now(), Duration::MAX),
                ),
                None => wait_readable(&[self.stop.as_fd()], now() + LOOK),
            };
            let stopped = || wait_readable(&[self.stop.as_fd()], now()).unwrap_or(true);
            if woken.is_err() || stopped() {
                return;
            }
            self.forget_changes();
            let logs: Vec<_> = self
                .logs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .filter_map(Weak::upgrade)
                .collect();
            // One look at each is cheap, so it does not matter which of them has changed.
            for log in logs {
                log.advance();
            }
        }
    }

    /// What is written after this wakes the thread again.
    fn forget_changes(&self) {
        let mut events = [0_u8; 4096];
        while let Some(changes) = &self.changes
            && rustix::io::read(changes, &mut events).is_ok_and(|count| count > 0)
        {}
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !self.owner.is_here() {
            return;
        }
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
