//! The way of a frame that comes from a guest: to another guest without a stop, and else by way of a copy.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use hotbed_vhost_user::Event;

use super::{Guest, RECEIVE, Taken};
use crate::error::Error;
use crate::io::fabric::{Fabric, place_of, port_in};
use crate::io::port::{Port, Transport};
use crate::io::token::Token;
use crate::report::Counters;
use crate::state::offload::{self, Segments};
use crate::state::{Egress, PortId};
use crate::sys::BATCH;
use crate::wire::{Frame, Span};

/// Frames that are taken from a guest before others have their turn.
const FRAMES_PER_TURN: usize = 256;

/// Bytes of a frame's two addresses.
const ADDRESSES_LEN: usize = 12;

/// Bytes of copied frames that are gathered, but for the last one.
const COPIED_BYTES_MAX: usize = 1 << 18;

/// What is under way from guests.
#[derive(Debug, Default)]
pub(in crate::io) struct Crossing {
    /// Guests that have more frames than were taken in one turn.
    busy: Vec<PortId>,
    /// Guests that have frames that they were not told of.
    untold: Vec<PortId>,
    copied: Copied,
    /// What was taken from a guest at a time.
    taken: Vec<Taken>,
    /// A frame that is to be cut, or has to wait.
    whole: Vec<u8>,
}

/// Frames as all other ports have them: with nothing left to do.
#[derive(Debug, Default)]
struct Copied {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Crossing {
    /// Whether there is something to do at once.
    pub(in crate::io) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }
}

impl Fabric {
    /// Goes on with guests that had more than was taken.
    pub(in crate::io) fn handle_busy(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.crossing.busy) {
            self.with_guest(id, |fabric, port| fabric.transmit(now, port));
        }
    }

    /// Guests, and where their VMMs wait for answers.
    pub(in crate::io) fn guests(&self) -> Vec<(Token, BorrowedFd<'_>)> {
        let ports = self.slots.iter().filter_map(|slot| slot.port.as_deref());
        let guests = ports.filter(|port| matches!(port.transport, Transport::Guest(_)));
        guests
            .map(|port| (Token::Guest(port.id, 0), port.socket.as_fd()))
            .collect()
    }

    /// Sees to all guests: what they did while the switch stood still was not looked at.
    pub(in crate::io) fn look_at_guests(&mut self, now: Instant) {
        let ids: Vec<_> = self.guests().into_iter().map(|(token, _)| token).collect();
        for token in ids {
            if let Token::Guest(id, _) = token {
                self.with_guest(id, |fabric, port| fabric.see_to(now, port));
            }
        }
    }

    /// Gives a guest what waits for it, and takes what it sends.
    fn see_to(&mut self, now: Instant, port: &mut Port) -> Result<Going, Error> {
        if let Transport::Guest(guest) = &mut port.transport {
            guest.drain(&mut port.queue, &mut port.counters)?;
        }
        self.transmit(now, port)
    }

    /// Takes the event of one of a guest's descriptors.
    pub(in crate::io) fn handle_guest(&mut self, now: Instant, id: PortId, number: u8) {
        self.with_guest(id, |fabric, port| {
            let Transport::Guest(guest) = &mut port.transport else {
                return Ok(Going::On);
            };
            match guest.handle(Token::Guest(id, number).to_u64())? {
                Event::Nothing => Ok(Going::On),
                Event::Closed => Ok(Going::Away),
                _ if port.is_held => Ok(Going::On),
                Event::Kick(RECEIVE) => {
                    guest.drain(&mut port.queue, &mut port.counters)?;
                    Ok(Going::On)
                }
                Event::Kick(_) => fabric.transmit(now, port),
                Event::Changed => fabric.see_to(now, port),
            }
        });
    }

    /// Has something done to a guest's port while it is out of its place, so that frames can go to other ports.
    fn with_guest(
        &mut self,
        id: PortId,
        handle: impl FnOnce(&mut Fabric, &mut Port) -> Result<Going, Error>,
    ) {
        let place = place_of(id);
        let slot = self.slots.get_mut(place);
        let Some(mut port) = slot.and_then(|slot| slot.port.take_if(|port| port.id == id)) else {
            return; // Closed by an earlier event of the same round.
        };
        let outcome = handle(self, &mut port);
        let is_gone = !matches!(outcome, Ok(Going::On));
        if let (Err(fault), Transport::Guest(guest)) = (outcome, &mut port.transport) {
            guest.fault = Some(fault);
        }
        if let Some(slot) = self.slots.get_mut(place) {
            slot.port = Some(port);
        }
        if is_gone {
            self.close(id);
        }
        self.tell_guests();
    }

    /// Tells guests of the frames that others put into their memory, once for all of them.
    fn tell_guests(&mut self) {
        while let Some(id) = self.crossing.untold.pop() {
            let Some(port) = port_in(&mut self.slots, id) else {
                continue;
            };
            if let Transport::Guest(guest) = &mut port.transport
                && let Err(fault) = guest.tell()
            {
                guest.fault = Some(fault);
                self.close(id);
            }
        }
    }

    /// Takes what a guest sends, for one turn.
    fn transmit(&mut self, now: Instant, port: &mut Port) -> Result<Going, Error> {
        let id = port.id;
        let Transport::Guest(guest) = &mut port.transport else {
            return Ok(Going::On);
        };
        guest.begin_turn()?;
        let mut counters = Counters::default();
        let turn = self.take_turn(now, id, guest, &mut counters);
        // What was taken before the guest did wrong goes its way.
        self.forward_copied(now, id, &mut counters);
        port.counters += counters;
        if turn? {
            self.crossing.busy.push(id);
        }
        guest.end_turn()?;
        Ok(Going::On)
    }

    /// Takes frames until there are no more, or it is the turn of others: then it is true.
    fn take_turn(
        &mut self,
        now: Instant,
        id: PortId,
        guest: &mut Guest,
        counters: &mut Counters,
    ) -> Result<bool, Error> {
        // Where something was asked of the port, or somebody looks on, each frame must be there as others have it.
        let goes_straight = self.observers.is_empty() && self.marks_of(id).is_none();
        let mut taken = std::mem::take(&mut self.crossing.taken);
        let mut left = FRAMES_PER_TURN;
        let turn = loop {
            taken.clear();
            let count = guest.take(&mut taken, counters);
            // What was taken before the guest did wrong goes its way.
            let passed = self.pass_on(now, id, guest, &taken, goes_straight, counters);
            let done = passed.and_then(|()| guest.give_back(&taken));
            left = match done.and(count) {
                Err(fault) => break Err(fault),
                Ok(0) => match guest.rest() {
                    Err(fault) => break Err(fault),
                    Ok(true) => break Ok(false),
                    Ok(false) => left.saturating_sub(1),
                },
                Ok(count) => left.saturating_sub(count),
            };
            if left == 0 {
                break Ok(true);
            }
        };
        self.crossing.taken = taken;
        turn
    }

    /// Passes on the frames that were taken from a guest: those for one other guest together.
    fn pass_on(
        &mut self,
        now: Instant,
        id: PortId,
        guest: &mut Guest,
        taken: &[Taken],
        goes_straight: bool,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        let mut rest = taken;
        while let Some(first) = rest.first() {
            let straight = goes_straight.then(|| self.straight_way(now, id, rest));
            rest = match straight.flatten() {
                Some((egress, count)) => {
                    let (frames, behind) = rest.split_at(count);
                    self.forward_copied(now, id, counters);
                    self.hand_over(egress, guest, frames);
                    counters.frames_in += count as u64;
                    counters.bytes_in += frames.iter().map(|taken| taken.len as u64).sum::<u64>();
                    behind
                }
                None => {
                    self.copy(now, id, guest, first, counters)?;
                    &rest[1..]
                }
            };
        }
        Ok(())
    }

    /// Gives the guest that the first frames can go to as they are, if there is one, and how many those are: it alone is to have them, and
    /// its driver does what is left to do.
    #[inline]
    fn straight_way(
        &mut self,
        now: Instant,
        id: PortId,
        taken: &[Taken],
    ) -> Option<(PortId, usize)> {
        let first = taken.first()?;
        let frame = Frame::parse(&first.beginning)?;
        let Egress::Unicast(egress) = self.stations.handle_frame_in(now, id, 0, frame) else {
            return None;
        };
        let slot = self.slots.get(place_of(egress))?;
        let port = slot.port.as_deref().filter(|port| port.id == egress)?;
        let Transport::Guest(guest) = &port.transport else {
            return None;
        };
        if slot.marks.is_some() {
            return None;
        }
        let goes_along = |taken: &&Taken| {
            taken.beginning[..ADDRESSES_LEN] == first.beginning[..ADDRESSES_LEN]
                && guest.does(&taken.offload)
        };
        let count = taken.iter().take_while(goes_along).count();
        (count > 0).then_some((egress, count))
    }

    /// Puts frames from one guest's buffers into another's.
    fn hand_over(&mut self, egress: PortId, from: &mut Guest, taken: &[Taken]) {
        self.totals.unicast += taken.len() as u64;
        let Some(port) = port_in(&mut self.slots, egress) else {
            return;
        };
        let Transport::Guest(guest) = &mut port.transport else {
            return;
        };
        let (waiting, counters) = (&mut port.queue, &mut port.counters);
        let was_untold = guest.is_untold;
        let done = match waiting.is_empty() {
            true => guest.receive_from(from, taken, counters),
            false => Ok(0),
        };
        let given = done.and_then(|done| {
            for taken in taken.get(done..).unwrap_or_default() {
                let whole = &mut self.crossing.whole;
                whole.clear();
                from.append(taken, whole);
                guest.wait(&taken.offload, whole, waiting, port.overflow, counters)?;
            }
            Ok(())
        });
        match given {
            Ok(()) => {
                if guest.is_untold && !was_untold {
                    self.crossing.untold.push(egress);
                }
            }
            Err(fault) => {
                guest.fault = Some(fault);
                self.close(egress);
            }
        }
    }

    /// Copies a frame to go the way of all others, with nothing left to do.
    fn copy(
        &mut self,
        now: Instant,
        id: PortId,
        guest: &mut Guest,
        taken: &Taken,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        let Some(checksum) = taken.offload.checksum else {
            self.crossing.copied.add(|bytes| guest.append(taken, bytes));
            self.forward_if_full(now, id, counters);
            return Ok(());
        };
        let Some(segment) = taken.offload.segment else {
            self.crossing.copied.add(|bytes| {
                let start = bytes.len();
                guest.append(taken, bytes);
                offload::complete(&mut bytes[start..], checksum);
            });
            self.forward_if_full(now, id, counters);
            return Ok(());
        };
        let mut whole = std::mem::take(&mut self.crossing.whole);
        whole.clear();
        guest.append(taken, &mut whole);
        let cut = Segments::new(&whole, segment, checksum).map(|segments| {
            for number in 0..segments.count() {
                self.crossing
                    .copied
                    .add(|bytes| segments.append(number, bytes));
                self.forward_if_full(now, id, counters);
            }
        });
        self.crossing.whole = whole;
        Ok(cut?)
    }

    fn forward_if_full(&mut self, now: Instant, id: PortId, counters: &mut Counters) {
        if self.crossing.copied.is_full() {
            self.forward_copied(now, id, counters);
        }
    }

    /// Passes on the frames that were copied.
    fn forward_copied(&mut self, now: Instant, id: PortId, counters: &mut Counters) {
        if self.crossing.copied.spans.is_empty() {
            return;
        }
        let mut copied = std::mem::take(&mut self.crossing.copied);
        *counters += self.forward(now, id, &copied.bytes, copied.spans.iter().copied());
        copied.bytes.clear();
        copied.spans.clear();
        self.crossing.copied = copied;
    }
}

impl Copied {
    fn add(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        append(&mut self.bytes);
        self.spans.push(Span::new(start, self.bytes.len() - start));
    }

    fn is_full(&self) -> bool {
        self.spans.len() >= BATCH || self.bytes.len() >= COPIED_BYTES_MAX
    }
}

/// Whether a guest's port stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    On,
    /// Its front end hung up.
    Away,
}
