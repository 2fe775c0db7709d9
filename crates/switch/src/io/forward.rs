//! The way of a frame through the switch, as long as nothing was asked of its ports and links.

use std::time::{Instant, SystemTime};

use super::fabric::{Fabric, place_of, port_in, settle};
use super::port::Link;
use crate::report::{Counters, DropCause};
use crate::state::{Egress, PortId};
use crate::wire::pcapng::Direction;
use crate::wire::{Frame, Span};

impl Fabric {
    /// Passes on a batch of frames that came in by one port: decides for each, then sends port by port.
    /// Gives what is to be counted for the port that they came in by.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        ingress: PortId,
        bytes: &[u8],
        spans: impl Iterator<Item = Span>,
    ) -> Counters {
        let mut came_in = Counters::default();
        let is_ruled = self.marks_of(ingress).is_some();
        if !self.observers.is_empty() {
            self.begin_batch();
        }
        for span in spans {
            let frame_bytes = span.of(bytes);
            let Some(frame) = Frame::parse(frame_bytes) else {
                // An empty datagram is how some VDE clients say goodbye.
                came_in.drops.runt += u64::from(!frame_bytes.is_empty());
                continue;
            };
            came_in.frames_in += 1;
            came_in.bytes_in += span.len() as u64;
            for observer in &mut self.observers {
                observer.record(ingress, Direction::In, frame_bytes);
            }
            if is_ruled {
                self.handle_ruled(now, ingress, bytes, span, &mut came_in.drops);
            } else {
                self.decide(now, ingress, 0, frame, bytes, span);
            }
        }
        self.flush(now, bytes);
        came_in
    }

    /// Takes the time for the frames of a batch, once for all of them.
    pub(super) fn begin_batch(&mut self) {
        let now = SystemTime::now();
        for observer in &mut self.observers {
            observer.begin_batch(now);
        }
    }

    /// Gives a frame to the ports that it is for.
    #[inline]
    pub(super) fn decide(
        &mut self,
        now: Instant,
        ingress: PortId,
        segment: u16,
        frame: Frame<'_>,
        bytes: &[u8],
        span: Span,
    ) {
        let egress = self.stations.handle_frame_in(now, ingress, segment, frame);
        match egress {
            Egress::Unicast(port) => {
                self.totals.unicast += 1;
                self.give(now, ingress, segment, port, bytes, span);
            }
            Egress::Flood { except } => {
                self.totals.flooded += 1;
                for place in 0..self.slots.len() {
                    let slot = &self.slots[place];
                    if slot.port.is_some() && slot.id != except {
                        self.give(now, ingress, segment, slot.id, bytes, span);
                    }
                }
            }
            Egress::Drop => self.totals.filtered += 1,
        }
    }

    #[inline]
    fn give(
        &mut self,
        now: Instant,
        ingress: PortId,
        segment: u16,
        egress: PortId,
        bytes: &[u8],
        span: Span,
    ) {
        match self.slots.get(place_of(egress)) {
            Some(slot) if slot.marks.is_some() => {
                self.give_ruled(now, ingress, segment, egress, bytes, span);
            }
            _ => self.put(egress, span),
        }
    }

    /// Has a frame go out by a port with the next flush.
    #[inline]
    pub(super) fn put(&mut self, egress: PortId, span: Span) {
        if let Some(port) = port_in(&mut self.slots, egress) {
            if port.pending.is_empty() {
                self.touched.push(egress);
            }
            port.pending.push(span);
        }
    }

    /// Sends all pending frames, which lie in `bytes`.
    pub(super) fn flush(&mut self, now: Instant, bytes: &[u8]) {
        while let Some(id) = self.touched.pop() {
            let Some(port) = port_in(&mut self.slots, id) else {
                continue;
            };
            for observer in &mut self.observers {
                if observer.has_both_directions() {
                    for span in &port.pending {
                        observer.record(id, Direction::Out, span.of(bytes));
                    }
                }
            }
            let link = port.flush(now, bytes);
            for observer in &mut self.observers {
                for span in &port.lost {
                    let frame = span.of(bytes);
                    observer.record_drop(DropCause::QueueFull, None, Some(id), frame);
                }
            }
            port.lost.clear();
            settle(&self.epoll, port);
            if link == Link::Down {
                self.close(id);
            }
        }
    }
}
