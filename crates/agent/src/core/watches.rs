//! Waits: each is polled when one of its descriptors is ready, or its time has come.

use super::{Core, Source};
use crate::failure::Failure;
use crate::job::{failed, send};
use crate::wait::{self, Watch};
use hotbed_console::agent::wire::{Event, FailureKind, Id, Wait};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// A wait.
pub(super) struct Watching {
    watch: Box<dyn Watch>,
    deadline: Option<Instant>,
    look_at: Option<Instant>,
}

impl Watching {
    /// The process that helps it, if there is one.
    pub(super) fn child(&self) -> Option<Pid> {
        self.watch.child()
    }

    /// When to look again at the latest.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        [self.deadline, self.look_at].into_iter().flatten().min()
    }
}

impl Core {
    /// Begins a wait; it is polled at once.
    pub(super) fn begin_wait(
        &mut self,
        id: Id,
        wait: Wait,
        timeout_ms: Option<u64>,
        now: Instant,
    ) -> Result<Watching, Failure> {
        let timeout = timeout_ms.map(Duration::from_millis);
        self.touched.insert(id);
        Ok(Watching {
            watch: wait::begin(wait, now)?,
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            look_at: None,
        })
    }

    /// Looks whether a wait is over; if not, it is watched again.
    pub(super) fn advance_wait(
        &mut self,
        id: Id,
        mut watching: Watching,
        now: Instant,
    ) -> Option<Watching> {
        let event = match watching.watch.poll(now) {
            Ok(Some(found)) => Event::Done { id, found },
            Ok(None) if watching.deadline.is_some_and(|deadline| deadline <= now) => failed(
                id,
                &Failure::new(FailureKind::TimedOut, "it did not happen in time"),
            ),
            Ok(None) => {
                let epoll = &self.epoll;
                watching.look_at = watching.watch.interest(&mut |fd, flags| {
                    // What is not asked for again is told once at most.
                    let flags = flags | epoll::EventFlags::ONESHOT;
                    let token = Source::Watch.token(id);
                    if epoll::modify(epoll, fd, token, flags) == Err(Errno::NOENT) {
                        let _ = epoll::add(epoll, fd, token, flags);
                    }
                });
                return Some(watching);
            }
            Err(failure) => failed(id, &failure),
        };
        send(&mut self.port, &event);
        None
    }
}
