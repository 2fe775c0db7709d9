//! One port: a socket, what waits for it, and what went through.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

#[cfg(feature = "vhost-user")]
use super::guest::Guest;
use super::local::Queues;
use super::vxlan::Tunnel;
use super::{sockets, tap};
use crate::error::Error;
use crate::report::{Counters, PortInfo, PortKind};
use crate::state::PortId;
use crate::state::queue::{Overflow, Popped, Queue};
use crate::sys::{self, BATCH, RecvBatch};
use crate::wire::stream::{self, Deframer};
use crate::wire::{Span, vxlan};

/// How long a datagram port without a peer waits before it looks for one again.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// What is behind a port.
#[derive(Debug)]
pub(super) enum Transport {
    /// A VDE client. The connection that it registered by stays open as long as the port.
    Vde { control: OwnedFd, path: PathBuf },
    /// A connected stream.
    Stream(Deframer),
    /// Two datagram sockets that know each other by path.
    Dgram {
        local: PathBuf,
        remote: PathBuf,
        peer: Peer,
    },
    /// An interface of the kernel.
    Tap,
    /// The same LAN on other hosts.
    Vxlan(Box<Tunnel>),
    /// The program itself.
    Local(Arc<Queues>),
    /// A guest that shares its memory.
    #[cfg(feature = "vhost-user")]
    Guest(Box<Guest>),
}

/// Whether the other socket of a datagram port was there when we last looked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    There {
        /// When it was found.
        since: Instant,
    },
    /// Not there; do not look before then.
    Gone { look_again: Instant },
}

/// Whether a port can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Link {
    Up,
    /// The peer hung up, or broke the protocol.
    Down,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) id: PortId,
    pub(super) name: String,
    pub(super) socket: OwnedFd,
    pub(super) transport: Transport,
    pub(super) counters: Counters,
    /// Frames of the batch at hand that go out here.
    pub(super) pending: Vec<Span>,
    pub(super) queue: Queue,
    /// Frames of the batch at hand that found the queue full.
    pub(super) lost: Vec<Span>,
    /// What is lost when the queue is full.
    pub(super) overflow: Overflow,
    /// Whether epoll was asked to say when the socket has room.
    pub(super) awaits_room: bool,
    /// Whether frames wait in the queue whatever room the socket has: the switch stands still.
    pub(super) is_held: bool,
}

impl Port {
    pub(super) fn info(&self) -> PortInfo {
        let kind = match self.transport {
            Transport::Vde { .. } => PortKind::Vde,
            Transport::Stream(_) => PortKind::Stream,
            Transport::Dgram { .. } => PortKind::Dgram,
            Transport::Tap => PortKind::Tap,
            Transport::Vxlan(_) => PortKind::Vxlan,
            Transport::Local(_) => PortKind::Local,
            #[cfg(feature = "vhost-user")]
            Transport::Guest(_) => PortKind::VhostUser,
        };
        let queued = match &self.transport {
            Transport::Local(queues) => queues.to_user().0,
            _ => self.queue.len(),
        };
        PortInfo {
            id: self.id,
            name: self.name.clone(),
            kind,
            queued,
            counters: self.counters(),
        }
    }

    /// Gives what went through.
    pub(super) fn counters(&self) -> Counters {
        let mut counters = self.counters;
        if let Transport::Local(queues) = &self.transport {
            let (_, taken) = queues.to_user();
            (counters.frames_out, counters.bytes_out) = (taken.frames, taken.bytes);
        }
        counters
    }

    /// Whether its descriptors are not waited for as sockets are.
    pub(super) fn watches_itself(&self) -> bool {
        #[cfg(feature = "vhost-user")]
        if matches!(self.transport, Transport::Guest(_)) {
            return true;
        }
        false
    }

    /// Gives what its peer did wrong, if it is to go for that.
    pub(super) fn take_fault(&mut self) -> Option<Error> {
        #[cfg(feature = "vhost-user")]
        if let Transport::Guest(guest) = &mut self.transport {
            return guest.take_fault();
        }
        None
    }

    /// Sends the pending frames, which lie in `bytes`; what the socket has no room for waits in the queue.
    pub(super) fn flush(&mut self, now: Instant, bytes: &[u8]) -> Link {
        let pending = std::mem::take(&mut self.pending);
        let mut link = Link::Up;
        match &mut self.transport {
            Transport::Stream(_) => link = self.send_stream(bytes, &pending),
            Transport::Vde { .. } | Transport::Dgram { .. } => {
                self.send_datagrams(now, bytes, &pending);
            }
            Transport::Tap => tap::send(self, bytes, &pending),
            Transport::Vxlan(tunnel) => tunnel.send(now, bytes, &pending, &mut self.counters),
            Transport::Local(queues) => {
                queues.send(
                    bytes,
                    &pending,
                    self.overflow,
                    &mut self.counters,
                    &mut self.lost,
                );
            }
            #[cfg(feature = "vhost-user")]
            Transport::Guest(guest) => {
                let (waiting, counters) = (&mut self.queue, &mut self.counters);
                link = guest.send(bytes, &pending, waiting, self.overflow, counters);
            }
        }
        self.pending = pending;
        self.pending.clear();
        link
    }

    /// Takes what came in by any port but a stream: how many frames, and how far behind the start of each place in `batch`
    /// they lie. `None` when the peer is gone for good.
    pub(super) fn recv(&mut self, now: Instant, batch: &mut RecvBatch) -> Option<(usize, usize)> {
        match &mut self.transport {
            Transport::Tap => Some((tap::recv(&self.socket, batch)?, 0)),
            Transport::Vxlan(tunnel) => {
                let count = tunnel.recv(now, &self.socket, batch, &mut self.counters);
                Some((count, vxlan::HEADER_LEN))
            }
            Transport::Local(queues) => Some((queues.recv(batch)?, 0)),
            Transport::Stream(_) => Some((0, 0)),
            #[cfg(feature = "vhost-user")]
            Transport::Guest(_) => Some((0, 0)), // It has events of its own.
            Transport::Vde { .. } | Transport::Dgram { .. } => {
                // An error on a datagram socket is about a peer that is gone: a VDE client's connection tells when it
                // is really gone, and a new one may come to a datagram port.
                let Ok(count) = batch.recv(self.socket.as_fd()) else {
                    return Some((0, 0));
                };
                self.find_lost_peer(now);
                Some((count, 0))
            }
        }
    }

    /// Sends what waits in the queue, now that the socket may have room.
    pub(super) fn drain_queue(&mut self, now: Instant) -> Link {
        while !self.queue.is_empty() {
            if matches!(self.transport, Transport::Stream(_)) {
                let slices = self.queue.bytes().map(IoSlice::new);
                match send_slices(&self.socket, &slices) {
                    Ok(len) => count_sent(&mut self.counters, self.queue.pop_bytes(len)),
                    Err(Errno::AGAIN) => return Link::Up,
                    Err(Errno::INTR) => {}
                    Err(_) => return Link::Down,
                }
            } else {
                match sys::send_batch(self.socket.as_fd(), self.queue.frames()) {
                    Ok(0) => return Link::Up,
                    Ok(count) => count_sent(&mut self.counters, self.queue.pop_frames(count)),
                    Err(error) => match self.handle_refusal(now, &error, self.queue.len()) {
                        Verdict::Wait => return Link::Up,
                        Verdict::Retry => {}
                        Verdict::Lost(count) => {
                            self.queue.pop_frames(count);
                        }
                    },
                }
            }
        }
        Link::Up
    }

    /// Looks for the peer of a datagram port, which may have been started since, or anew.
    pub(super) fn find_peer(&mut self, now: Instant) {
        if let Transport::Dgram { remote, peer, .. } = &mut self.transport {
            *peer = match sockets::connect(self.socket.as_fd(), remote) {
                Ok(()) => Peer::There { since: now },
                Err(_) => Peer::Gone {
                    look_again: now + CONNECT_INTERVAL,
                },
            };
        }
    }

    /// Looks for the peer of a datagram port if it was gone, and not just now.
    pub(super) fn find_lost_peer(&mut self, now: Instant) {
        match self.transport {
            Transport::Dgram {
                peer: Peer::Gone { look_again },
                ..
            } if now >= look_again => {
                self.find_peer(now);
            }
            _ => {}
        }
    }

    fn send_datagrams(&mut self, now: Instant, bytes: &[u8], frames: &[Span]) {
        self.find_lost_peer(now);
        let mut frames = frames;
        while self.queue.is_empty() && !frames.is_empty() {
            let datagrams = frames.iter().map(|span| [span.of(bytes), &[]]);
            match sys::send_batch(self.socket.as_fd(), datagrams) {
                Ok(0) => break,
                Ok(count) => {
                    let (sent, rest) = frames.split_at(count.min(frames.len()));
                    self.counters.frames_out += sent.len() as u64;
                    self.counters.bytes_out +=
                        sent.iter().map(|span| span.len() as u64).sum::<u64>();
                    frames = rest;
                }
                Err(error) => match self.handle_refusal(now, &error, frames.len()) {
                    Verdict::Wait => break,
                    Verdict::Retry => {}
                    Verdict::Lost(count) => frames = &frames[count.min(frames.len())..],
                },
            }
        }
        for frame in frames {
            self.enqueue([frame.of(bytes), &[]], *frame);
        }
    }

    /// Says what becomes of the first of `waiting` datagrams, which the socket did not take, and of the others.
    fn handle_refusal(&mut self, now: Instant, error: &io::Error, waiting: usize) -> Verdict {
        let drops = &mut self.counters.drops;
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Verdict::Wait,
            Some(Errno::INTR) => Verdict::Retry,
            Some(Errno::MSGSIZE) => {
                drops.oversized += 1;
                Verdict::Lost(1)
            }
            Some(
                Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE | Errno::PERM,
            ) => {
                match self.transport {
                    // To a new peer, or to nobody. Once in a round is enough, whatever the peer does.
                    Transport::Dgram {
                        peer: Peer::There { since },
                        ..
                    } if since != now => {
                        self.find_peer(now);
                        return Verdict::Retry;
                    }
                    _ => {}
                }
                self.counters.drops.no_peer += waiting as u64;
                Verdict::Lost(waiting)
            }
            _ => {
                drops.refused += 1;
                Verdict::Lost(1)
            }
        }
    }

    fn send_stream(&mut self, bytes: &[u8], frames: &[Span]) -> Link {
        let mut frames = frames.iter().copied();
        if self.queue.is_empty() && !self.is_held {
            let mut prefixes = [[0; stream::PREFIX_LEN]; BATCH];
            for (prefix, frame) in prefixes.iter_mut().zip(frames.clone()) {
                *prefix = stream::prefix(frame.len());
            }
            let mut slices = [IoSlice::new(&[]); 2 * BATCH];
            let mut count = 0;
            for ((pair, prefix), frame) in slices
                .chunks_exact_mut(2)
                .zip(&prefixes)
                .zip(frames.clone())
            {
                pair[0] = IoSlice::new(prefix);
                pair[1] = IoSlice::new(frame.of(bytes));
                count += 2;
            }
            let sent = loop {
                match send_slices(&self.socket, &slices[..count]) {
                    Ok(sent) => break sent,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break 0,
                    Err(_) => return Link::Down,
                }
            };
            if !self.handle_stream_sent(bytes, &mut frames, sent) {
                return Link::Down;
            }
        }
        for frame in frames {
            let prefix = stream::prefix(frame.len());
            self.enqueue([&prefix, frame.of(bytes)], frame);
        }
        Link::Up
    }

    /// Counts the frames that went out whole, and queues what is left of one that went in part.
    ///
    /// False if that does not fit: then the stream is out of step.
    fn handle_stream_sent(
        &mut self,
        bytes: &[u8],
        frames: &mut impl Iterator<Item = Span>,
        mut sent: usize,
    ) -> bool {
        while sent > 0 {
            let Some(frame) = frames.next() else { break };
            let len = stream::PREFIX_LEN + frame.len();
            if sent < len {
                let prefix = stream::prefix(frame.len());
                let prefix_left = prefix.get(sent..).unwrap_or_default();
                let frame_sent = sent.saturating_sub(stream::PREFIX_LEN);
                let frame_left = frame.of(bytes).get(frame_sent..).unwrap_or_default();
                let fits = self.queue.push([prefix_left, frame_left], frame.len());
                self.queue.begin_first();
                return fits;
            }
            sent -= len;
            self.counters.frames_out += 1;
            self.counters.bytes_out += frame.len() as u64;
        }
        true
    }

    fn enqueue(&mut self, parts: [&[u8]; 2], frame: Span) {
        let lost = self.queue.push_over(self.overflow, parts, frame.len());
        self.counters.drops.queue_full += lost;
        if lost > 0 && self.overflow == Overflow::DropNewest {
            self.lost.push(frame);
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        match self {
            Transport::Vde { path, .. } => sockets::unlink(path),
            Transport::Dgram { local, .. } => sockets::unlink(local),
            Transport::Local(queues) => queues.close(),
            Transport::Stream(_) | Transport::Tap | Transport::Vxlan(_) => {}
            #[cfg(feature = "vhost-user")]
            Transport::Guest(_) => {}
        }
    }
}

/// What to do about a datagram that the socket did not take.
enum Verdict {
    /// Keep it, and those behind it, until there is room.
    Wait,
    /// Try again at once.
    Retry,
    /// So many are lost, and counted.
    Lost(usize),
}

/// Reads what is there from a stream, without waiting.
pub(super) fn recv_stream(socket: &OwnedFd, deframer: &mut Deframer) -> Link {
    match rustix::net::recv(socket, deframer.space(), RecvFlags::DONTWAIT) {
        Ok((0, _)) => Link::Down,
        Ok((len, _)) => {
            deframer.handle_read(len);
            Link::Up
        }
        Err(Errno::AGAIN | Errno::INTR) => Link::Up,
        Err(_) => Link::Down,
    }
}

fn send_slices(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)
}

fn count_sent(counters: &mut Counters, popped: Popped) {
    counters.frames_out += popped.frames;
    counters.bytes_out += popped.bytes;
}
