//! What is under way on impaired links: copies of frames, by the time at which they arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::PortId;
use crate::wire::FRAME_MAX;

/// Frames that a switch has under way at most, unless it is told otherwise.
pub const DELAYED_FRAMES_MAX: usize = 1 << 20;

/// Bytes that a switch has under way at most, unless it is told otherwise. Each frame takes up one of
/// [the sizes of buffers](BUFFER_SIZES).
pub const DELAYED_BYTES_MAX: usize = 256 << 20;

/// Buffers come in these sizes, and are used again and again.
pub const BUFFER_SIZES: [usize; 4] = [256, 2048, 16 * 1024, FRAME_MAX];

/// Bytes of unused buffers of one size that are kept.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// The next thing that happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It has come in: where does it go?
    Decide,
    /// It has passed between two ports: on its way to the second.
    Enter,
    /// It goes out, with the tag that its port wants.
    Leave,
    /// It goes out as it is.
    Out,
}

/// A frame under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// What happens next.
    pub stage: Stage,
    /// The port that it came in by.
    pub ingress: PortId,
    /// The port that it goes to; while that is not decided, the one that it came in by.
    pub egress: PortId,
    /// The segment that it is in.
    pub segment: u16,
    /// The link that it waits in; 0 if it does not wait for a link.
    pub link: u64,
}

/// Frames by the time at which they arrive; those of the same time, first come first.
#[derive(Debug)]
pub struct DelayQueue {
    order: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    places: Vec<Option<(Hop, Buffer)>>,
    free: Vec<u32>,
    next: u64,
    bytes: usize,
    frames_max: usize,
    bytes_max: usize,
    spare: [Vec<Box<[u8]>>; BUFFER_SIZES.len()],
}

/// A copy of a frame.
#[derive(Debug)]
pub struct Buffer {
    room: Box<[u8]>,
    len: usize,
}

impl Buffer {
    /// Gives the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Gives the frame, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.len]
    }
}

impl DelayQueue {
    /// Makes an empty queue.
    pub fn new(frames_max: usize, bytes_max: usize) -> DelayQueue {
        DelayQueue {
            order: BinaryHeap::new(),
            places: Vec::new(),
            free: Vec::new(),
            next: 0,
            bytes: 0,
            frames_max: frames_max.min(u32::MAX as usize),
            bytes_max,
            spare: [const { Vec::new() }; BUFFER_SIZES.len()],
        }
    }

    /// Tells whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Counts what is under way.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Says when the next frame arrives.
    #[inline]
    pub fn next_due(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((due, ..))| *due)
    }

    /// Gives a buffer with the bytes of `parts`, one behind the other; `None` if there is no room.
    pub fn buffer(&mut self, parts: [&[u8]; 3]) -> Option<Buffer> {
        let len = parts.iter().map(|part| part.len()).sum();
        let class = BUFFER_SIZES.iter().position(|size| *size >= len)?;
        if self.order.len() >= self.frames_max || self.bytes + BUFFER_SIZES[class] > self.bytes_max
        {
            return None;
        }
        let mut room = self.spare[class]
            .pop()
            .unwrap_or_else(|| vec![0; BUFFER_SIZES[class]].into_boxed_slice());
        let mut rest = &mut room[..len];
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        Some(Buffer { room, len })
    }

    /// Takes a frame that arrives at `due`.
    pub fn push(&mut self, due: Instant, hop: Hop, buffer: Buffer) {
        self.bytes += buffer.room.len();
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32 // Below `frames_max`.
        });
        self.places[place as usize] = Some((hop, buffer));
        self.order.push(Reverse((due, self.next, place)));
        self.next += 1;
    }

    /// Gives a frame that has arrived by `now`, with the time at which it was to arrive.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, Hop, Buffer)> {
        let Reverse((due, _, place)) = *self.order.peek()?;
        if due > now {
            return None;
        }
        self.order.pop();
        let (hop, buffer) = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.bytes -= buffer.room.len();
        Some((due, hop, buffer))
    }

    /// Gives all frames, in the order in which they arrive.
    pub fn waiting(&self) -> impl Iterator<Item = (Instant, Hop, &[u8])> {
        let mut order: Vec<_> = self.order.iter().map(|Reverse(place)| *place).collect();
        order.sort_unstable();
        order.into_iter().filter_map(|(due, _, place)| {
            let (hop, buffer) = self.places.get(place as usize)?.as_ref()?;
            Some((due, *hop, buffer.bytes()))
        })
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        let (frames_max, bytes_max) = (self.frames_max, self.bytes_max);
        *self = DelayQueue::new(frames_max, bytes_max);
    }

    /// Takes back a buffer for the next frame.
    pub fn recycle(&mut self, buffer: Buffer) {
        let size = buffer.room.len();
        if let Some(class) = BUFFER_SIZES.iter().position(|one| *one == size)
            && self.spare[class].len() * size < SPARE_BYTES_MAX
        {
            self.spare[class].push(buffer.room);
        }
    }

    /// Lets frames that wait in the links for which `is_over` holds arrive at `now`, in the order in which they came.
    pub fn hurry(&mut self, now: Instant, is_over: impl Fn(u64) -> bool) {
        let mut waiting = std::mem::take(&mut self.order).into_vec();
        for Reverse((due, _, place)) in &mut waiting {
            if let Some((hop, _)) = &self.places[*place as usize]
                && hop.link != 0
                && is_over(hop.link)
            {
                *due = (*due).min(now);
            }
        }
        self.order = waiting.into();
    }
}

#[cfg(test)]
mod tests;
