//! From a name to its addresses, without that the loop waits for a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::{Failure, FailureKind};

/// The longest name, in bytes: the name system's own bound.
const NAME_MAX: usize = 253;

/// As many addresses of a name are used.
pub(super) const ADDRESSES_MAX: usize = 16;

/// As much of the table of names is read, in bytes.
const HOSTS_MAX: usize = 1 << 20;

/// As many lookups may run at once; more wait for their turn.
const LOOKUPS_MAX: usize = 16;

/// When a name that nobody knows is looked up again.
const AGAIN: Duration = Duration::from_secs(1);

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// The addresses of a name, looked up again until there are some.
pub(super) struct Resolver {
    name: String,
    port: u16,
    /// Where the table of names is.
    pub(super) hosts: PathBuf,
    addresses: Vec<SocketAddr>,
    lookup: Option<Lookup>,
    next: Option<Instant>,
}

/// What is known of a name.
pub(super) enum Addresses<'a> {
    /// A name server is being asked.
    Unknown,
    /// These; nobody knows the name if there are none.
    Known(&'a [SocketAddr]),
}

/// A thread that asks, because the C library only waits.
struct Lookup {
    done: Arc<OwnedFd>,
    answer: Arc<Mutex<Option<Vec<SocketAddr>>>>,
}

impl Resolver {
    pub(super) fn new(name: &str, port: u16) -> Result<Self, Failure> {
        if name.is_empty() || name.len() > NAME_MAX || name.contains(['\0', ' ', '\n']) {
            return Err(Failure::new(
                FailureKind::Invalid,
                format!("{name:?} is not a host"),
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            port,
            hosts: PathBuf::from("/etc/hosts"),
            addresses: numeric(name, port).into_iter().collect(),
            lookup: None,
            next: None,
        })
    }

    /// What to wait for while the addresses are not known.
    pub(super) fn interest(&self) -> (Option<BorrowedFd<'_>>, Option<Instant>) {
        let done = self.lookup.as_ref().map(|lookup| lookup.done.as_fd());
        (done, self.next)
    }

    /// What is known by now.
    pub(super) fn look(&mut self, now: Instant) -> Addresses<'_> {
        if self.addresses.is_empty() && self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + AGAIN);
            self.addresses = in_hosts(&self.hosts, &self.name, self.port);
            if self.addresses.is_empty() && self.lookup.is_none() {
                self.lookup = Lookup::start(&self.name, self.port);
            }
        }
        if let Some(lookup) = &self.lookup {
            let mut answer = lookup.answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.take() {
                None if self.addresses.is_empty() => return Addresses::Unknown,
                None => {}
                Some(found) => {
                    if self.addresses.is_empty() {
                        self.addresses = found;
                    }
                    drop(answer);
                    self.lookup = None;
                }
            }
        }
        if !self.addresses.is_empty() {
            self.lookup = None;
            self.next = None;
        }
        Addresses::Known(&self.addresses)
    }
}

impl Lookup {
    /// None when too many run, or there is no thread for it.
    fn start(name: &str, port: u16) -> Option<Self> {
        let done = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?);
        let answer = Arc::new(Mutex::new(None));
        let lookup = Self {
            done: Arc::clone(&done),
            answer: Arc::clone(&answer),
        };
        if LOOKUPS.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
            LOOKUPS.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let name = name.to_owned();
        let thread = std::thread::Builder::new()
            .name("lookup".to_owned())
            .spawn(move || {
                let found = (name.as_str(), port).to_socket_addrs();
                let found = found.map(|found| found.take(ADDRESSES_MAX).collect());
                *answer.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(found.unwrap_or_default());
                LOOKUPS.fetch_sub(1, Ordering::Relaxed);
                // It is the first thing written to it, so there is room.
                let _ = rustix::io::write(&done, &1u64.to_ne_bytes());
            });
        if thread.is_err() {
            LOOKUPS.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(lookup)
    }
}

/// An address as it is written; that of a link with the name or the number of its interface, as in `fe80::1%eth1`.
fn numeric(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let (address, scope) = text.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let is_name = !scope.is_empty() && !scope.contains('/') && !scope.starts_with('.');
    let scope = scope.parse::<u32>().ok().or_else(|| {
        let index = is_name.then(|| format!("/sys/class/net/{scope}/ifindex"))?;
        std::fs::read_to_string(index).ok()?.trim().parse().ok()
    })?;
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

/// What the table of names says of a name. `localhost` has its addresses without a table.
fn in_hosts(path: &Path, name: &str, port: u16) -> Vec<SocketAddr> {
    let table = super::read_some(path, HOSTS_MAX).unwrap_or_default();
    let mut found = lines_for(&String::from_utf8_lossy(&table), name, port);
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found.push((Ipv4Addr::LOCALHOST, port).into());
        found.push((Ipv6Addr::LOCALHOST, port).into());
    }
    found
}

fn lines_for(table: &str, name: &str, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for line in table.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|address| numeric(address, port)) else {
            continue;
        };
        let is_named = words.any(|word| word.eq_ignore_ascii_case(name));
        if is_named && !found.contains(&address) && found.len() < ADDRESSES_MAX {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are I/O")]
mod tests {
    use super::super::testing::LONG;
    use super::*;

    fn lines(name: &str) -> Vec<String> {
        let table = "127.0.0.1 localhost # not this one: server\n\
             \n\
             ::1\tlocalhost ip6-localhost\n\
             192.168.1.2 Server server.test # names\n\
             192.168.1.2 server\n\
             2001:db8:1::2 server\n\
             not-an-address server\n\
             fe80::1%7 link\n";
        let found = lines_for(table, name, 80);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn table_of_names_gives_every_address_once_in_its_order() {
        assert_eq!(lines("server"), ["192.168.1.2:80", "[2001:db8:1::2]:80"]);
        assert_eq!(lines("LOCALHOST"), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(lines("server.test"), ["192.168.1.2:80"]);
        assert_eq!(lines("link"), ["[fe80::1%7]:80"]);
        assert!(lines("not").is_empty());
    }

    #[test]
    fn address_needs_no_lookup() {
        let now = Instant::now();
        for text in ["10.0.0.1", "::1", "fe80::1%1", "fe80::1%lo"] {
            let mut resolver = Resolver::new(text, 1).unwrap();
            assert!(
                matches!(resolver.look(now), Addresses::Known([_])),
                "{text}"
            );
            assert!(resolver.interest().0.is_none());
        }
    }

    #[test]
    fn localhost_is_known_without_a_table() {
        let mut resolver = Resolver::new("localhost", 1).unwrap();
        resolver.hosts = PathBuf::from("/nonexistent");
        let Addresses::Known(addresses) = resolver.look(Instant::now()) else {
            panic!("a name server was asked");
        };
        assert_eq!(addresses.len(), 2);
    }

    #[test]
    fn lookup_ends_with_an_event_and_nothing_waits_for_it() {
        let begin = Instant::now();
        let mut resolver = Resolver::new("no-such-host.invalid", 1).unwrap();
        assert!(matches!(resolver.look(begin), Addresses::Unknown));
        assert!(begin.elapsed() < Duration::from_secs(2));
        let done = resolver
            .interest()
            .0
            .expect("an event")
            .try_clone_to_owned()
            .unwrap();
        let mut fds = [rustix::event::PollFd::new(
            &done,
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec::try_from(LONG).unwrap();
        assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1);
        assert!(matches!(resolver.look(begin), Addresses::Known([])));
        assert_eq!(
            resolver.interest().1,
            Some(begin + AGAIN),
            "it is looked up again"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for name in ["", "a b", &"x".repeat(NAME_MAX + 1)] {
            assert!(Resolver::new(name, 1).is_err());
        }
    }
}
