//! Waits for TCP ports.
//!
//! What counts is a connection: so it is tried, again and again, on every address of the name. An attempt that is answered at once
//! (a local one always is, by a connection or a refusal) is followed by the next after a short pause; one that nobody answers
//! goes on beside later ones, because a packet that is lost must not hide that the port is open by now.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::resolve::{Addresses, Resolver};
use super::{Failure, Watch, earlier, pause};

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;

/// The pause after a refusal by this machine.
const LOCAL_PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(15)];

/// The pause after a refusal by another machine: it costs both of them more.
const REMOTE_PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// The pause after a connection, for who waits for the port to close: the server has work with each.
const OPEN_PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// The pause after an attempt that nobody has answered yet. A firewall may log each of them.
const SILENT_PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// When an attempt without an answer has failed. Its packet was sent twice by then: the kernel repeats it after a second.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// As many attempts may go on at once; none is begun while there are more.
const ATTEMPTS_MAX: usize = 64;

/// A port that is to take connections, or to refuse them.
pub(super) struct PortWatch {
    resolver: Resolver,
    is_wanted_open: bool,
    begin: Instant,
    /// Those on their way.
    attempts: Vec<Attempt>,
    /// When the next ones are to begin; when the addresses are known if there is none.
    next: Option<Instant>,
}

/// A connection that is on its way.
struct Attempt {
    socket: OwnedFd,
    target: SocketAddr,
    /// When it has failed.
    until: Instant,
}

/// What is known of a port, or of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open(SocketAddr),
    Closed,
    Unknown,
}

impl PortWatch {
    pub(super) fn new(
        address: &str,
        port: u16,
        is_wanted_open: bool,
        now: Instant,
    ) -> Result<Self, Failure> {
        Ok(Self {
            resolver: Resolver::new(address, port)?,
            is_wanted_open,
            begin: now,
            attempts: Vec::new(),
            next: None,
        })
    }

    fn look(&mut self, now: Instant) -> Result<State, Failure> {
        let had_attempts = !self.attempts.is_empty();
        let state = self.look_at_attempts(now);
        let is_answered = had_attempts && self.attempts.is_empty();
        // Attempts that have to fail get the time for it; those that have to succeed get company.
        let has_turn = self.is_wanted_open || !had_attempts;
        let is_due = self.next.is_none_or(|next| next <= now);
        match state {
            State::Open(_) => Ok(state),
            _ if is_answered && !self.is_wanted_open => Ok(State::Closed),
            _ if is_due && has_turn => self.attempt(now),
            _ => Ok(State::Unknown),
        }
    }

    /// Whether one of the attempts on their way has got through. Those that have ended are dropped.
    fn look_at_attempts(&mut self, now: Instant) -> State {
        let mut state = State::Unknown;
        self.attempts.retain(|attempt| match attempt.state() {
            State::Open(target) => {
                state = State::Open(target);
                false
            }
            State::Closed => false,
            State::Unknown => now < attempt.until,
        });
        state
    }

    /// Begins an attempt on every address, and says when the next are to begin.
    fn attempt(&mut self, now: Instant) -> Result<State, Failure> {
        let Addresses::Known(addresses) = self.resolver.look(now) else {
            self.next = None;
            return Ok(State::Unknown);
        };
        let mut is_local = true;
        let mut state = State::Closed;
        for &target in addresses {
            if self.attempts.len() >= ATTEMPTS_MAX {
                state = State::Unknown;
                break;
            }
            let Some(attempt) = Attempt::begin(target, now)? else {
                continue;
            };
            is_local &= attempt.is_local();
            match attempt.state() {
                open @ State::Open(_) => {
                    state = open;
                    break;
                }
                State::Closed => {}
                State::Unknown => {
                    state = State::Unknown;
                    self.attempts.push(attempt);
                }
            }
        }
        let [min, max] = match state {
            State::Open(_) => OPEN_PAUSE,
            State::Unknown => SILENT_PAUSE,
            State::Closed if is_local => LOCAL_PAUSE,
            State::Closed => REMOTE_PAUSE,
        };
        let elapsed = now.saturating_duration_since(self.begin);
        self.next = Some(now + pause(elapsed, min, max));
        Ok(state)
    }
}

impl Watch for PortWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        for attempt in &self.attempts {
            watch(attempt.socket.as_fd(), EventFlags::OUT);
        }
        let until = self.attempts.iter().map(|attempt| attempt.until).min();
        let (lookup, again) = self.resolver.interest();
        if let Some(lookup) = lookup {
            watch(lookup, EventFlags::IN);
        }
        earlier(self.next.or(again), until)
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        Ok(match self.look(now)? {
            State::Open(target) if self.is_wanted_open => Some(target.to_string()),
            State::Closed if !self.is_wanted_open => Some(String::new()),
            State::Open(_) | State::Closed | State::Unknown => None,
        })
    }
}

impl Attempt {
    /// Begins to connect; none when that has failed already.
    fn begin(target: SocketAddr, now: Instant) -> Result<Option<Self>, Failure> {
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
            Ok(socket) => socket,
            // The kernel has no IPv6.
            Err(Errno::AFNOSUPPORT) => return Ok(None),
            Err(error) => return Err(Failure::os("cannot make a socket", error)),
        };
        let attempt = Self {
            socket,
            target,
            until: now + ATTEMPT_MAX,
        };
        Ok(match rustix::net::connect(&attempt.socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Some(attempt),
            Err(_) => None,
        })
    }

    fn state(&self) -> State {
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        match rustix::event::poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) | Err(_) => State::Unknown,
            Ok(_) => match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) if self.is_own_echo() => State::Closed,
                Ok(Ok(())) => State::Open(self.target),
                Ok(Err(_)) | Err(_) => State::Closed,
            },
        }
    }

    /// Whether it was the port itself that the kernel drew for our side: then the connection is one with itself, and nobody
    /// listens. A reset frees the port at once, for the server that is to come.
    fn is_own_echo(&self) -> bool {
        let is_echo = self.own().is_some_and(|own| own == self.target);
        if is_echo {
            let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
        is_echo
    }

    /// Whether the other side is this machine.
    fn is_local(&self) -> bool {
        self.target.ip().is_loopback() || self.own().is_some_and(|own| own.ip() == self.target.ip())
    }

    fn own(&self) -> Option<SocketAddr> {
        rustix::net::getsockname(&self.socket).ok()?.try_into().ok()
    }
}
