//! The way of a frame through the switch where something was asked of its ports or links: an MTU, tags, a partition,
//! impairments. Frames that have to wait, or to be changed, are copied to a queue, and come back from it in time.

use std::collections::HashMap;
use std::time::Instant;

use super::fabric::{Fabric, place_of, port_in};
use crate::report::{DropCause, Drops};
use crate::state::PortId;
use crate::state::delay::{Buffer, DelayQueue, Hop, Stage};
use crate::state::impair::fate::{Fate, Impairer, LossCause, Passage};
use crate::state::rules::{PortSettings, Rules};
use crate::state::tags::{self, Change};
use crate::sys::BATCH;
use crate::wire::tag::TAG_LEN;
use crate::wire::{FRAME_MAX, Frame, Span};

/// Frames that are taken out of the queue before sockets are looked at again.
const RELEASE_MAX: usize = 1024;

/// The rules, what they came to, and the frames that wait because of them.
pub(super) struct Ruled {
    pub(super) rules: Rules,
    pub(super) links: HashMap<u64, RuledLink>,
    pub(super) delayed: DelayQueue,
    /// Whether frames have segments.
    pub(super) knows_tags: bool,
    /// Where frames lie that have come out of the queue.
    released: Vec<u8>,
}

pub(super) struct RuledLink {
    /// The rule that it comes from.
    pub(super) rule: u64,
    pub(super) impairer: Impairer,
}

/// What the rules say about a port.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) settings: PortSettings,
    pub(super) group: u32,
    /// Frames that come in pass an impaired link.
    pub(super) from: bool,
    /// Frames that go out pass an impaired link.
    pub(super) to: bool,
    /// Frames that go out may pass a link between two ports.
    pub(super) between: bool,
}

/// Whether a frame passed a link.
enum Passed {
    Now,
    Later,
    Lost(LossCause),
}

impl Ruled {
    pub(super) fn new(frames_max: usize, bytes_max: usize) -> Ruled {
        Ruled {
            rules: Rules::default(),
            links: HashMap::new(),
            delayed: DelayQueue::new(frames_max, bytes_max),
            knows_tags: false,
            released: Vec::new(),
        }
    }

    pub(super) fn handle_port_gone(&mut self, id: PortId) {
        self.rules.handle_port_gone(id);
        if !self.links.is_empty() {
            self.links
                .retain(|key, _| !ends_of(*key).contains(&Some(id)));
        }
    }

    /// Has a frame pass a link; if it waits, it goes on with `next`.
    fn pass(&mut self, now: Instant, link: u64, next: Hop, frame: &[u8]) -> Passed {
        let Some(RuledLink { impairer, .. }) = self.links.get_mut(&link) else {
            return Passed::Now;
        };
        match impairer.handle_frame(now, frame.len()) {
            Fate::Lost(cause) => Passed::Lost(cause),
            Fate::Passes(Passage { due, copy, flip }) => {
                let next = Hop { link, ..next };
                let passed = match due {
                    Some(due) => self.wait(due, next, frame, flip),
                    None => Passed::Now,
                };
                if let Some(copy) = copy {
                    self.wait(copy, next, frame, None);
                }
                passed
            }
        }
    }

    /// Has a copy of a frame wait in a link that has counted it already.
    fn wait(&mut self, due: Instant, next: Hop, frame: &[u8], flip: Option<usize>) -> Passed {
        let Some(mut buffer) = self.delayed.buffer([frame, &[], &[]]) else {
            if let Some(RuledLink { impairer, .. }) = self.links.get_mut(&next.link) {
                impairer.handle_refused(frame.len());
            }
            return Passed::Lost(LossCause::QueueFull);
        };
        if let Some((byte, bit)) = flip.map(|place| (place / 8, place % 8))
            && let Some(byte) = buffer.bytes_mut().get_mut(byte)
        {
            *byte ^= 0x80 >> bit;
        }
        self.delayed.push(due, next, buffer);
        Passed::Later
    }
}

impl Fabric {
    /// Gives what the rules say about a port, if they say anything.
    #[inline]
    pub(super) fn marks_of(&self, id: PortId) -> Option<&Marks> {
        let slot = self.slots.get(place_of(id))?;
        slot.marks.as_deref().filter(|_| slot.id == id)
    }

    /// Takes a frame that came in by a port with rules.
    pub(super) fn handle_ruled(
        &mut self,
        now: Instant,
        ingress: PortId,
        bytes: &[u8],
        span: Span,
        drops: &mut Drops,
    ) {
        let (frame, Some(marks)) = (span.of(bytes), self.marks_of(ingress)) else {
            return;
        };
        if tags::payload_len(frame) > marks.settings.mtu {
            return self.lose_from(drops, DropCause::Oversized, ingress, frame);
        }
        let segment = if self.ruled.knows_tags {
            marks.settings.tags.segment_of(frame)
        } else {
            Some(0)
        };
        let Some(segment) = segment else {
            return self.lose_from(drops, DropCause::Foreign, ingress, frame);
        };
        if marks.from {
            let next = Hop {
                stage: Stage::Decide,
                ingress,
                egress: ingress,
                segment,
                link: 0,
            };
            match self.ruled.pass(now, link_from(ingress), next, frame) {
                Passed::Now => {}
                Passed::Later => return,
                Passed::Lost(cause) => return self.lose_from(drops, cause.into(), ingress, frame),
            }
        }
        if let Some(frame) = Frame::parse(frame) {
            self.decide(now, ingress, segment, frame, bytes, span);
        }
    }

    /// Gives a frame to a port with rules.
    #[inline(never)]
    pub(super) fn give_ruled(
        &mut self,
        now: Instant,
        ingress: PortId,
        segment: u16,
        egress: PortId,
        bytes: &[u8],
        span: Span,
    ) {
        let (frame, Some(marks)) = (span.of(bytes), self.marks_of(egress)) else {
            return;
        };
        let knows_tags = self.ruled.knows_tags;
        if knows_tags && marks.settings.tags.change_for(segment, frame).is_none() {
            return; // The port takes no part in this segment: nothing is lost.
        }
        let is_oversized = tags::payload_len(frame) > marks.settings.mtu;
        let between = marks.between;
        let is_apart = self.is_apart(ingress, egress);
        let hop = Hop {
            stage: Stage::Enter,
            ingress,
            egress,
            segment,
            link: 0,
        };
        if is_apart {
            return self.lose(DropCause::Partitioned, hop, frame);
        }
        if is_oversized {
            return self.lose(DropCause::Oversized, hop, frame);
        }
        if between {
            let passed = self
                .ruled
                .pass(now, link_between(ingress, egress), hop, frame);
            if !self.has_passed(hop, frame, passed) {
                return;
            }
        }
        self.enter(now, hop, bytes, span);
    }

    /// Has a frame pass the link to its port.
    fn enter(&mut self, now: Instant, hop: Hop, bytes: &[u8], span: Span) {
        let next = Hop {
            stage: Stage::Leave,
            link: 0,
            ..hop
        };
        if self.marks_of(hop.egress).is_some_and(|marks| marks.to) {
            let frame = span.of(bytes);
            let passed = self.ruled.pass(now, link_to(hop.egress), next, frame);
            if !self.has_passed(hop, frame, passed) {
                return;
            }
        }
        self.leave(now, next, bytes, span);
    }

    /// Has a frame go out, with the tag that its port wants.
    fn leave(&mut self, now: Instant, hop: Hop, bytes: &[u8], span: Span) {
        let frame = span.of(bytes);
        if self.is_apart(hop.ingress, hop.egress) {
            // Parted while it was under way.
            return self.lose(DropCause::Partitioned, hop, frame);
        }
        let change = match self.marks_of(hop.egress) {
            Some(marks) if self.ruled.knows_tags => {
                marks.settings.tags.change_for(hop.segment, frame)
            }
            _ => Some(Change::Keep),
        };
        match change {
            None => {}
            Some(Change::Keep) => self.put(hop.egress, span),
            Some(change) => {
                let mut tag = [0; TAG_LEN];
                let pieces = change.pieces(frame, &mut tag);
                if pieces.iter().map(|piece| piece.len()).sum::<usize>() > FRAME_MAX {
                    return self.lose(DropCause::Oversized, hop, frame);
                }
                let changed = self.ruled.delayed.buffer(pieces);
                let next = Hop {
                    stage: Stage::Out,
                    link: 0,
                    ..hop
                };
                match changed {
                    Some(buffer) => self.ruled.delayed.push(now, next, buffer),
                    None => self.lose(DropCause::LinkFull, hop, frame),
                }
            }
        }
    }

    /// Takes frames out of the queue that have arrived by `now`, and has them go on.
    pub(super) fn release(&mut self, now: Instant) {
        let mut released = std::mem::take(&mut self.ruled.released);
        if !self.observers.is_empty() {
            self.begin_batch();
        }
        for _ in 0..RELEASE_MAX / BATCH {
            released.clear();
            let mut count = 0;
            while let Some((due, hop, buffer)) = self.ruled.delayed.pop_due(now) {
                self.arrive(due, hop, &buffer, &mut released);
                self.ruled.delayed.recycle(buffer);
                count += 1;
                if count == BATCH {
                    break;
                }
            }
            if count == 0 {
                break;
            }
            self.flush(now, &released);
        }
        self.ruled.released = released;
    }

    /// Has one frame that has arrived go on.
    fn arrive(&mut self, now: Instant, hop: Hop, buffer: &Buffer, released: &mut Vec<u8>) {
        if let Some(RuledLink { impairer, .. }) = self.ruled.links.get_mut(&hop.link) {
            impairer.handle_left(buffer.bytes().len());
            if impairer.is_down() {
                return self.lose(DropCause::LinkDown, hop, buffer.bytes());
            }
        }
        let span = Span::new(released.len(), buffer.bytes().len());
        released.extend_from_slice(buffer.bytes());
        match hop.stage {
            Stage::Decide => {
                if let Some(frame) = Frame::parse(buffer.bytes()) {
                    self.decide(now, hop.ingress, hop.segment, frame, released, span);
                }
            }
            Stage::Enter => self.enter(now, hop, released, span),
            Stage::Leave => self.leave(now, hop, released, span),
            Stage::Out => self.put(hop.egress, span),
        }
    }

    /// Tells whether a partition is between two ports.
    fn is_apart(&self, ingress: PortId, egress: PortId) -> bool {
        match (self.marks_of(ingress), self.marks_of(egress)) {
            (Some(from), Some(to)) => from.group != to.group,
            _ => false,
        }
    }

    fn has_passed(&mut self, hop: Hop, frame: &[u8], passed: Passed) -> bool {
        if let Passed::Lost(cause) = passed {
            self.lose(cause.into(), hop, frame);
        }
        matches!(passed, Passed::Now)
    }

    /// Counts a frame that is lost on its way to a port, and shows it to who looks on.
    #[cold]
    fn lose(&mut self, cause: DropCause, hop: Hop, frame: &[u8]) {
        if let Some(port) = port_in(&mut self.slots, hop.egress) {
            port.counters.drops.count(cause);
        }
        for observer in &mut self.observers {
            // Until it is decided where a frame goes, it goes to where it came from.
            let to = (hop.egress != hop.ingress).then_some(hop.egress);
            observer.record_drop(cause, Some(hop.ingress), to, frame);
        }
    }

    /// The same for one that is lost before it is known where to it goes.
    #[cold]
    fn lose_from(&mut self, drops: &mut Drops, cause: DropCause, ingress: PortId, frame: &[u8]) {
        drops.count(cause);
        for observer in &mut self.observers {
            observer.record_drop(cause, Some(ingress), None, frame);
        }
    }
}

impl From<LossCause> for DropCause {
    fn from(cause: LossCause) -> DropCause {
        match cause {
            LossCause::Down => DropCause::LinkDown,
            LossCause::Chance => DropCause::Impaired,
            LossCause::QueueFull => DropCause::LinkFull,
        }
    }
}

/// Names the link of all frames that come in by a port. No port has the bits 0: numbers are from 1.
pub(super) fn link_from(port: PortId) -> u64 {
    u64::from(port.to_u32()) << 32
}

/// Names the link of all frames that go out to a port.
pub(super) fn link_to(port: PortId) -> u64 {
    u64::from(port.to_u32())
}

/// Names the link between two ports.
pub(super) fn link_between(from: PortId, to: PortId) -> u64 {
    link_from(from) | link_to(to)
}

/// Gives the ports that a link is named for: where frames come from, and where they go.
pub(super) fn ends_of(link: u64) -> [Option<PortId>; 2] {
    [(link >> 32) as u32, link as u32].map(|bits| (bits != 0).then(|| PortId::from_u32(bits)))
}
