//! The ports of a switch. `forward` is the way between them, and `ruled` that way where something was asked of ports or
//! links.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::Config;
use super::observe::Observer;
use super::port::{self, Link, Port, Transport};
use super::ruled::{Marks, Ruled};
use super::token::Token;
use crate::error::Error;
use crate::report::{Counters, LostPort, PortInfo, Totals};
use crate::state::queue::{Overflow, Queue};
use crate::state::{PortId, Stations};
use crate::sys::{BATCH, RecvBatch};
use crate::wire::stream::{self, Deframer};
use crate::wire::{FRAME_MAX, Span};

/// All ports, who is behind them, and the batch of frames that is on its way.
pub(super) struct Fabric {
    pub(super) epoll: Arc<OwnedFd>,
    config: Config,
    /// Port 1 is at place 0.
    pub(super) slots: Vec<Slot>,
    pub(super) stations: Stations,
    /// Ports that have pending frames.
    pub(super) touched: Vec<PortId>,
    pub(super) ruled: Ruled,
    pub(super) observers: Vec<Observer>,
    /// Of ports that are gone, and of the switch as such.
    pub(super) totals: Totals,
    /// Ports that were taken off for what their peers did, the latest of them.
    pub(super) lost: VecDeque<LostPort>,
    #[cfg(feature = "vhost-user")]
    pub(super) crossing: super::guest::Crossing,
}

/// Ports of which it is remembered why they were lost.
const LOST_MAX: usize = 64;

pub(super) struct Slot {
    /// The port that is here, or the next one to be here.
    pub(super) id: PortId,
    pub(super) port: Option<Box<Port>>,
    /// What the rules say about the port. Nothing, for most ports of most switches: their frames go the short way.
    pub(super) marks: Option<Box<Marks>>,
}

impl Fabric {
    pub(super) fn new(config: Config, epoll: Arc<OwnedFd>, stations: Stations) -> Fabric {
        Fabric {
            ruled: Ruled::new(config.delayed_frames_max, config.delayed_bytes_max),
            epoll,
            config,
            slots: Vec::new(),
            stations,
            touched: Vec::new(),
            observers: Vec::new(),
            totals: Totals::default(),
            lost: VecDeque::new(),
            #[cfg(feature = "vhost-user")]
            crossing: super::guest::Crossing::default(),
        }
    }

    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether there is something to do without waiting.
    pub(super) fn is_busy(&self) -> bool {
        #[cfg(feature = "vhost-user")]
        if self.crossing.is_busy() {
            return true;
        }
        false
    }

    pub(super) fn ports_max(&self) -> usize {
        self.config.ports_max
    }

    /// Gives the bounds of a port's queue: frames and bytes.
    pub(super) fn queue_bounds(&self) -> (usize, usize) {
        let (frames_max, bytes_max) = (self.config.queue_frames_max, self.config.queue_bytes_max);
        // A stream must be able to keep the rest of a frame.
        (
            frames_max.max(1),
            bytes_max.max(stream::PREFIX_LEN + FRAME_MAX),
        )
    }

    /// Finds a free place: the one that was asked for, or the first.
    pub(super) fn free_id(&mut self, wanted: Option<u32>) -> Option<PortId> {
        let place = match wanted {
            Some(number) => usize::try_from(number).ok()?.checked_sub(1)?,
            None => self
                .slots
                .iter()
                .position(|slot| slot.port.is_none())
                .unwrap_or(self.slots.len()),
        };
        if place >= self.config.ports_max {
            return None;
        }
        while self.slots.len() <= place {
            let number = u16::try_from(self.slots.len() + 1).ok()?;
            self.slots.push(Slot {
                id: PortId::new(number, 0),
                port: None,
                marks: None,
            });
        }
        let slot = &self.slots[place];
        slot.port.is_none().then_some(slot.id)
    }

    /// Adds a port at a place that [`Fabric::free_id`] gave.
    pub(super) fn add(
        &mut self,
        now: Instant,
        id: PortId,
        name: String,
        socket: OwnedFd,
        transport: Transport,
    ) -> Result<PortId, Error> {
        let (frames_max, bytes_max) = self.queue_bounds();
        let port = Box::new(Port {
            id,
            name,
            socket,
            transport,
            counters: Counters::default(),
            pending: Vec::with_capacity(BATCH),
            queue: Queue::new(frames_max, bytes_max),
            lost: Vec::new(),
            overflow: Overflow::default(),
            awaits_room: false,
            is_held: false,
        });
        if !port.watches_itself() {
            let watched = epoll::add(&self.epoll, &port.socket, data(id), EventFlags::IN);
            watched.map_err(|errno| Error::Port {
                name: port.name.clone(),
                source: errno.into(),
            })?;
        }
        for observer in &mut self.observers {
            observer.add_port(id, &port.name);
        }
        if let Some(slot) = self.slots.get_mut(place_of(id)) {
            slot.port = Some(port);
        }
        if !self.ruled.rules.is_empty() {
            self.apply_rules(now);
        }
        Ok(id)
    }

    /// Takes a port off, if it is still there.
    pub(super) fn close(&mut self, id: PortId) -> bool {
        let Some(slot) = self.slots.get_mut(place_of(id)) else {
            return false;
        };
        let Some(mut port) = slot.port.take_if(|port| port.id == id) else {
            return false;
        };
        // Closing a socket does not take it off epoll if somebody else has a descriptor of it, as with in-process ports.
        let _ = epoll::delete(&self.epoll, &port.socket);
        slot.id = id.next();
        slot.marks = None;
        self.ruled.handle_port_gone(id);
        self.totals.counters += port.counters();
        self.stations.handle_port_gone(id);
        if let Some(fault) = port.take_fault() {
            self.lost.truncate(LOST_MAX - 1);
            self.lost.push_front(LostPort {
                id,
                name: std::mem::take(&mut port.name),
                reason: chain_of(&fault),
            });
        }
        true
    }

    pub(super) fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        port_in(&mut self.slots, id)
    }

    pub(super) fn ports_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.port.as_deref_mut())
    }

    pub(super) fn infos(&self) -> Vec<PortInfo> {
        self.slots
            .iter()
            .filter_map(|slot| slot.port.as_ref())
            .map(|port| port.info())
            .collect()
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.totals;
        for slot in &self.slots {
            if let Some(port) = &slot.port {
                totals.counters += port.counters();
            }
        }
        let stations = self.stations.counters();
        (totals.learned, totals.moved, totals.evicted) =
            (stations.learned, stations.moved, stations.evicted);
        totals
    }

    /// Takes what came in by a port, and passes it on.
    pub(super) fn handle_readable(&mut self, now: Instant, id: PortId, batch: &mut RecvBatch) {
        let Some(port) = port_in(&mut self.slots, id) else {
            return; // Closed by an earlier event of the same round.
        };
        if matches!(port.transport, Transport::Stream(_)) {
            return self.handle_stream(now, id);
        }
        let Some((count, offset)) = port.recv(now, batch) else {
            self.close(id);
            return;
        };
        let truncated = batch
            .received(count)
            .filter(|datagram| datagram.truncated)
            .count();
        port.counters.drops.oversized += truncated as u64;
        let whole = batch.received(count).filter(|datagram| !datagram.truncated);
        let frames = whole.map(|datagram| datagram.span.behind(offset));
        let came_in = self.forward(now, id, batch.bytes(), frames);
        if let Some(port) = port_in(&mut self.slots, id) {
            port.counters += came_in;
        }
    }

    /// Sends what waits for a port that has room again.
    pub(super) fn handle_writable(&mut self, now: Instant, id: PortId) {
        let Some(port) = port_in(&mut self.slots, id) else {
            return;
        };
        let link = port.drain_queue(now);
        settle(&self.epoll, port);
        if link == Link::Down {
            self.close(id);
        }
    }

    fn handle_stream(&mut self, now: Instant, id: PortId) {
        // Out of its place, so that frames can go to other ports while they lie in its buffer.
        let Some(slot) = self.slots.get_mut(place_of(id)) else {
            return;
        };
        let Some(mut port) = slot.port.take_if(|port| port.id == id) else {
            return;
        };
        let link = match &mut port.transport {
            Transport::Stream(deframer) => match port::recv_stream(&port.socket, deframer) {
                Link::Up => self.forward_all(now, id, deframer, &mut port.counters),
                Link::Down => Link::Down,
            },
            _ => Link::Up,
        };
        if let Some(slot) = self.slots.get_mut(place_of(id)) {
            slot.port = Some(port);
        }
        if link == Link::Down {
            self.close(id);
        }
    }

    fn forward_all(
        &mut self,
        now: Instant,
        id: PortId,
        deframer: &mut Deframer,
        counters: &mut Counters,
    ) -> Link {
        let mut spans = [Span::new(0, 0); BATCH];
        loop {
            let mut count = 0;
            let mut link = Link::Up;
            while count < BATCH {
                match deframer.poll_frame() {
                    Ok(Some(span)) => spans[count] = span,
                    Ok(None) => break,
                    Err(_) => {
                        link = Link::Down;
                        break;
                    }
                }
                count += 1;
            }
            let frames = spans[..count].iter().copied();
            *counters += self.forward(now, id, deframer.bytes(), frames);
            if link == Link::Down || count < BATCH {
                return link;
            }
        }
    }
}

/// Asks epoll to say when a socket has room if, and only if, frames wait for it.
pub(super) fn settle(epoll: &OwnedFd, port: &mut Port) {
    let awaits_room = !port.queue.is_empty();
    if awaits_room == port.awaits_room || port.watches_itself() {
        return;
    }
    let flags = if awaits_room {
        EventFlags::IN | EventFlags::OUT
    } else {
        EventFlags::IN
    };
    // It fails only for a descriptor that epoll does not have.
    if epoll::modify(epoll, &port.socket, data(port.id), flags).is_ok() {
        port.awaits_room = awaits_room;
    }
}

/// Says an error with all that is behind it.
fn chain_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn data(id: PortId) -> EventData {
    EventData::new_u64(Token::Data(id).to_u64())
}

pub(super) fn place_of(id: PortId) -> usize {
    usize::from(id.number()).wrapping_sub(1)
}

#[inline]
pub(super) fn port_in(slots: &mut [Slot], id: PortId) -> Option<&mut Port> {
    slots
        .get_mut(place_of(id))?
        .port
        .as_deref_mut()
        .filter(|port| port.id == id)
}
