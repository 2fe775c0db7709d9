//! Everything that the agent can wait for, as events.
//!
//! [`begin`] makes a [`Watch`] of a request; the loop polls it whenever one of its descriptors is ready, or its time has come:
//!
//! - [`mod@file`]: inotify on every folder that leads to the path.
//! - [`port`], [`unix_socket`]: a tight local probe, because the kernel tells nobody that a socket begins to listen.
//! - [`process`]: pidfds, and the kernel's process events.
//! - [`mod@unit`]: systemd's signals, over its own D-Bus socket; so are the phases of a boot.
//! - [`journal`]: what `journalctl --follow` writes, or the kernel's log where there is no journal.
//!
//! Invariants: a look never blocks, and what a watch holds (descriptors, children, rules of a bus) goes with it. Time comes in as
//! `now`.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use hotbed_console::agent::wire::{FailureKind, Wait};
use rustix::event::epoll;
use rustix::process::Pid;

use crate::failure::Failure;

mod boot;
mod bus;
mod file;
mod journal;
mod port;
mod process;
mod resolve;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are I/O")]
mod testing;
#[cfg(test)]
mod tests;
mod unit;
mod unix_socket;

/// Something that is waited for.
pub(crate) trait Watch {
    /// Says which descriptors to wait for, and returns when to look again at the latest. Both may be others after each
    /// [`Watch::poll`].
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, epoll::EventFlags))
    -> Option<Instant>;

    /// Looks whether it has happened: `Ok(Some(found))` ends the wait.
    ///
    /// # Errors
    ///
    /// When it can not happen any more, or can not be found out.
    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure>;

    /// The process that helps it, if there is one.
    fn child(&self) -> Option<Pid> {
        None
    }
}

/// Begins to wait. The caller polls the watch at once.
///
/// # Errors
///
/// When the request makes no sense, or this guest has not what it takes.
pub(crate) fn begin(wait: Wait, now: Instant) -> Result<Box<dyn Watch>, Failure> {
    Ok(match wait {
        Wait::File { path, present } => Box::new(file::FileWatch::new(&path, present)?),
        Wait::Port {
            address,
            port,
            open,
        } => Box::new(port::PortWatch::new(&address, port, open, now)?),
        Wait::UnixSocket {
            path,
            datagram,
            open,
        } => Box::new(unix_socket::UnixSocketWatch::new(
            &path, datagram, open, now,
        )?),
        Wait::Process { process, running } => process::begin(process, running, now)?,
        Wait::Unit {
            unit,
            user,
            states,
            or_fail,
            finished,
        } => Box::new(unit::UnitWatch::new(
            unit::Goal::Unit {
                name: unit::mangle(&unit)?,
                states,
                or_fail,
                finished,
            },
            user.as_deref(),
        )?),
        Wait::Boot(phase) => boot::begin(phase)?,
        Wait::Journal {
            pattern,
            unit,
            past,
        } => journal::begin(&pattern, unit.as_deref(), past)?,
    })
}

/// A pause that grows with the time that has passed: a twentieth of it, within bounds.
fn pause(elapsed: Duration, min: Duration, max: Duration) -> Duration {
    (elapsed / 20).clamp(min, max)
}

/// The earlier of two times, where there are any.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The begin of a file.
fn read_some(path: impl AsRef<std::path::Path>, max: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    #[expect(clippy::disallowed_types, reason = "the I/O shell")]
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
