//! The kernel's process events: what begins, and what takes another name.
//!
//! They come over a netlink socket, if the kernel has them and we may have them. Whether they come at all only their
//! confirmation tells: a namespace that gets none gets no refusal either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;

/// The connector's number and group of process events (`CN_IDX_PROC`, `CN_VAL_PROC`).
const PROC: u32 = 1;

/// `PROC_CN_MCAST_LISTEN`
const LISTEN: u32 = 1;

/// Lengths of the headers, in bytes: netlink's, the connector's, an event's.
const NETLINK_LEN: usize = 16;
const CONNECTOR_LEN: usize = 20;
const EVENT_LEN: usize = 16;

/// `PROC_EVENT_NONE`: the confirmation.
const CONFIRMED: u32 = 0;

/// `PROC_EVENT_FORK`, `PROC_EVENT_EXEC`, `PROC_EVENT_COMM`.
const FORK: u32 = 1;
const EXEC: u32 = 2;
const COMM: u32 = 0x200;

/// As many messages are read in one go.
const MESSAGES_MAX: usize = 64;

/// Process events.
pub(super) struct Events {
    socket: OwnedFd,
    is_confirmed: bool,
}

/// What came in one go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// All there is.
    Some,
    /// Not all: some were lost.
    Lost,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// Events will come.
    Confirmed,
    /// This process is new, or has another name.
    Process(Pid),
    /// Nothing of interest.
    Other,
}

impl Events {
    /// None where there are no such events.
    pub(super) fn open() -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        let protocol = Some(netlink::CONNECTOR);
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol).ok()?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, PROC)).ok()?;
        rustix::net::send(&socket, &listen(), SendFlags::empty()).ok()?;
        Some(Self {
            socket,
            is_confirmed: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether events do come. What began before they did, a look must find.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Reads what there is, and hands over each process that is new or has another name.
    pub(super) fn read(&mut self, changed: &mut dyn FnMut(Pid)) -> News {
        let mut news = News::Some;
        let mut buffer = [0; 1024];
        for _ in 0..MESSAGES_MAX {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((len, _)) => match parse(&buffer[..len]) {
                    Message::Confirmed => {
                        // From here on none is missed; those before may be.
                        self.is_confirmed = true;
                        news = News::Lost;
                    }
                    Message::Process(pid) => changed(pid),
                    Message::Other => {}
                },
                Err(Errno::NOBUFS) => news = News::Lost,
                // The rest is told again.
                Err(_) => break,
            }
        }
        news
    }
}

/// The request for events.
fn listen() -> [u8; NETLINK_LEN + CONNECTOR_LEN + 4] {
    let mut bytes = [0; NETLINK_LEN + CONNECTOR_LEN + 4];
    let len = u32::try_from(bytes.len()).expect("a short message");
    bytes[0..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&3u16.to_ne_bytes()); // NLMSG_DONE
    bytes[16..20].copy_from_slice(&PROC.to_ne_bytes());
    bytes[20..24].copy_from_slice(&PROC.to_ne_bytes());
    bytes[32..34].copy_from_slice(&4u16.to_ne_bytes()); // length of the data
    bytes[36..40].copy_from_slice(&LISTEN.to_ne_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Message {
    let Some(event) = bytes.get(NETLINK_LEN + CONNECTOR_LEN..) else {
        return Message::Other;
    };
    let number = |at: usize| {
        let bytes = event.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    // The number of the process, which is that of its first thread, is the second of a pair of numbers.
    let process = match number(0) {
        Some(CONFIRMED) => return Message::Confirmed,
        Some(FORK) => number(EVENT_LEN + 12),
        Some(EXEC | COMM) => number(EVENT_LEN + 4),
        _ => None,
    };
    let process = process.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    process.map_or(Message::Other, Message::Process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u32, numbers: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; NETLINK_LEN + CONNECTOR_LEN];
        bytes.extend(what.to_ne_bytes());
        bytes.resize(bytes.len() + EVENT_LEN - 4, 0);
        for number in numbers {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn event_names_the_process_and_not_its_thread_or_parent() {
        let pid = |pid| Message::Process(Pid::from_raw(pid).unwrap());
        assert_eq!(parse(&event(FORK, &[1, 2, 3, 4])), pid(4));
        assert_eq!(parse(&event(EXEC, &[5, 6])), pid(6));
        assert_eq!(parse(&event(COMM, &[7, 8, 0, 0, 0, 0])), pid(8));
        assert_eq!(parse(&event(CONFIRMED, &[0])), Message::Confirmed);
        assert_eq!(parse(&event(0x8000_0000, &[9, 9])), Message::Other);
    }

    #[test]
    fn message_that_is_cut_off_says_nothing() {
        let whole = event(FORK, &[1, 2, 3, 4]);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Message::Other, "{len}");
        }
        assert_eq!(parse(&event(EXEC, &[0, u32::MAX])), Message::Other);
        assert_eq!(parse(&event(EXEC, &[0, 0])), Message::Other);
    }
}
