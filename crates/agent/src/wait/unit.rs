//! Waits for systemd: its units, and the end of its boot.
//!
//! - [`state`]: what a wait asks systemd, and what the answers and signals mean. No sockets, no clock.
//! - [`name`]: from what a user says to a unit's name.
//!
//! This file connects the two with systemd's own socket (or, where there is none, with the bus), and connects again when systemd
//! has gone away, as it does when it executes itself anew.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::bus::connection::{Connection, Lost};
use super::bus::wire::Call;
use super::file::Presence;
use super::{Failure, FailureKind, Watch, earlier};
use state::State;

pub(super) use name::mangle;
pub(super) use state::Goal;

mod name;
mod state;
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;

/// Where a system that runs systemd says so.
pub(super) const BOOTED: &str = "/run/systemd/system";

/// The pause before another attempt to connect: it grows with their number.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// After as many connections that systemd has closed without a word, it does not want us.
const CONNECTIONS_MAX: u32 = 100;

/// When systemd is asked again though it has not said anything: a change that it did not tell must not make a wait hang.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The pause between two questions for the number of jobs, which changes often while a system boots.
const JOBS_PAUSE: Duration = Duration::from_millis(25);

/// As much is read of the table of users, in bytes.
const USERS_MAX: usize = 1 << 20;

/// A wait for what systemd does.
pub(super) struct UnitWatch {
    state: State,
    /// systemd's own socket.
    private: PathBuf,
    presence: Presence,
    /// The bus, where systemd may be found as well.
    bus: Option<PathBuf>,
    connection: Option<Connection>,
    /// As many connections have ended since systemd's last word.
    lost: u32,
    connect_next: Option<Instant>,
    ask_next: Option<Instant>,
    jobs_next: Option<Instant>,
}

impl UnitWatch {
    pub(super) fn new(goal: Goal, user: Option<&str>) -> Result<Self, Failure> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Failure::new(
                FailureKind::Unsupported,
                "this system does not run systemd",
            ));
        }
        match user {
            None => Self::at(
                goal,
                "/run/systemd/private",
                Some("/run/dbus/system_bus_socket"),
            ),
            Some(user) => {
                let uid = uid(user)?;
                Self::at(goal, &format!("/run/user/{uid}/systemd/private"), None)
            }
        }
    }

    /// Waits for the systemd that has these sockets.
    fn at(goal: Goal, private: &str, bus: Option<&str>) -> Result<Self, Failure> {
        Ok(Self {
            state: State::new(goal),
            private: PathBuf::from(private),
            presence: Presence::new(private)?,
            bus: bus.map(PathBuf::from),
            connection: None,
            lost: 0,
            connect_next: None,
            ask_next: None,
            jobs_next: None,
        })
    }

    /// Connects if it is time to, and asks.
    fn connect(&mut self, now: Instant) {
        if self.connect_next.is_some_and(|next| now < next) {
            return;
        }
        // Looked at first: what comes later is told.
        let is_there = self.presence.look(now);
        let private = Connection::open(&self.private).ok().filter(|_| is_there);
        let is_private = private.is_some();
        let connection = private.or_else(|| Connection::open(self.bus.as_ref()?).ok());
        self.connect_next = match connection {
            Some(mut connection) => {
                if !is_private {
                    join_bus(&mut connection);
                }
                self.connection = Some(connection);
                self.ask(now);
                None
            }
            None if is_there || self.bus.is_some() => Some(now + self.connect_pause()),
            None => None,
        };
    }

    fn connect_pause(&self) -> Duration {
        (CONNECT_PAUSE * self.lost.max(1)).min(CONNECT_PAUSE_MAX)
    }

    /// Asks all anew.
    fn ask(&mut self, now: Instant) {
        if let Some(connection) = &mut self.connection {
            self.state.begin(&mut |call| connection.call(call));
        }
        self.ask_next = Some(now + ASK_AGAIN);
        self.jobs_next = None;
    }

    /// Takes what has come, up to a bound.
    fn take_messages(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(None);
        };
        let mut pumped = connection.pump();
        while pumped.is_ok() {
            match connection.next() {
                Ok(Some(message)) => {
                    self.lost = 0;
                    let send = &mut |call: &Call<'_>| connection.call(call);
                    if let Some(found) = self.state.handle(&message, send)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None) => break,
                Err(lost) => pumped = Err(lost),
            }
        }
        // What the answers have led to goes out at once.
        connection.flush();
        match pumped {
            Ok(()) => Ok(None),
            Err(lost) => self.lose(lost, now).map(|()| None),
        }
    }

    fn lose(&mut self, lost: Lost, now: Instant) -> Result<(), Failure> {
        self.connection = None;
        self.lost += 1;
        self.connect_next = Some(now + self.connect_pause());
        let why = match lost {
            Lost::Closed if self.lost < CONNECTIONS_MAX => return Ok(()),
            Lost::Closed => "it closes every connection".to_owned(),
            Lost::Refused(answer) => format!("it answers {answer:?}"),
            Lost::Garbled => "it does not speak D-Bus".to_owned(),
        };
        Err(Failure::new(
            FailureKind::Os,
            format!("cannot ask systemd at {}: {why}", self.private.display()),
        ))
    }

    /// Asks what it is time to ask.
    fn ask_what_is_due(&mut self, now: Instant) {
        if self.ask_next.is_some_and(|next| next <= now) {
            if self.state.is_asking() {
                // It is slow. Another question would only be one more.
                self.ask_next = Some(now + ASK_AGAIN);
            } else {
                self.ask(now);
            }
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        if self.state.wants_jobs() && self.jobs_next.is_none_or(|next| next <= now) {
            self.state.ask_jobs(&mut |call| connection.call(call));
            self.jobs_next = Some(now + JOBS_PAUSE);
        }
        connection.flush();
    }
}

impl Watch for UnitWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        match &self.connection {
            Some(connection) => {
                connection.interest(watch);
                let jobs = self.jobs_next.filter(|_| self.state.wants_jobs());
                earlier(self.ask_next, jobs)
            }
            // While it pauses, what comes to the folder changes nothing.
            None if self.connect_next.is_some() => self.connect_next,
            None => self.presence.interest(watch),
        }
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        if self.connection.is_none() {
            self.connect(now);
        }
        if let Some(found) = self.take_messages(now)? {
            return Ok(Some(found));
        }
        if self.connection.is_some() {
            self.ask_what_is_due(now);
        }
        Ok(None)
    }
}

/// Makes a bus know us, and send us systemd's signals.
fn join_bus(connection: &mut Connection) {
    let mut call = |member: &str, arguments: &[&str]| {
        connection.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            arguments,
        });
    };
    call("Hello", &[]);
    let from = "type='signal',sender='org.freedesktop.systemd1'";
    for rule in [
        format!("{from},interface='{}'", state::MANAGER),
        format!(
            "{from},interface='{}',arg0='{}'",
            state::PROPERTIES,
            state::UNIT
        ),
        format!(
            "{from},interface='{}',arg0='{}'",
            state::PROPERTIES,
            state::SERVICE
        ),
    ] {
        call("AddMatch", &[&rule]);
    }
}

/// A user's number, from their name or number.
fn uid(user: &str) -> Result<u32, Failure> {
    let table = super::read_some("/etc/passwd", USERS_MAX)
        .map_err(|error| Failure::os("cannot read /etc/passwd", error))?;
    uid_in(&String::from_utf8_lossy(&table), user)
        .or_else(|| user.parse().ok())
        .ok_or_else(|| Failure::new(FailureKind::NotFound, format!("there is no user {user:?}")))
}

fn uid_in(table: &str, user: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_user = fields.next()? == user;
        fields.nth(1).filter(|_| is_user)?.parse().ok()
    })
}
