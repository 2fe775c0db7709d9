//! What waits for a slow port: frames, in order, in a ring of bytes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Frames that wait for a port at most, unless it is told otherwise.
pub const QUEUE_FRAMES_MAX: usize = 1024;

/// Bytes that wait for a port at most, unless it is told otherwise.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Which frame is lost when a port's queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The new one: what waits goes first. As a network card does.
    #[default]
    DropNewest,
    /// Those that have waited for longest, until the new one fits: whoever looks late sees what is new. A frame that a
    /// stream has taken in part stays, and then the new one is lost.
    DropOldest,
}

/// A bounded queue of frames. What happens to a frame that does not fit is up to the caller: [`Overflow`].
///
/// The ring is allocated when the first frame must wait, and kept: most ports never need one.
#[derive(Debug)]
pub struct Queue {
    ring: Box<[u8]>,
    head: usize,
    used: usize,
    waiting: VecDeque<Waiting>,
    frames_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Bytes in the ring; fewer and fewer, while a stream takes the frame in pieces.
    left: u32,
    /// Bytes of the frame.
    frame_len: u32,
    /// Some of it is gone already, so that the rest must follow.
    has_begun: bool,
}

/// What left a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Popped {
    /// Frames of which the last byte left.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
}

/// A frame, or what is left of one, as the ring has it: in two pieces when it goes over the end.
pub type Pieces<'a> = [&'a [u8]; 2];

impl Queue {
    /// Makes an empty queue.
    pub fn new(frames_max: usize, bytes_max: usize) -> Queue {
        let bytes_max = bytes_max.min(u32::MAX as usize);
        Queue {
            ring: Box::default(),
            head: 0,
            used: 0,
            waiting: VecDeque::new(),
            frames_max,
            bytes_max,
        }
    }

    /// Tells whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Counts the frames that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends the bytes that stand for a frame of `frame_len` bytes; false when it was lost because the queue is full.
    #[must_use]
    pub fn push(&mut self, parts: Pieces<'_>, frame_len: usize) -> bool {
        let left = parts[0].len() + parts[1].len();
        if self.waiting.len() >= self.frames_max || left > self.bytes_max - self.used {
            return false;
        }
        if self.ring.is_empty() {
            self.ring = vec![0; self.bytes_max].into_boxed_slice();
            self.waiting.reserve(self.frames_max.min(QUEUE_FRAMES_MAX));
        }
        for part in parts {
            self.append(part);
        }
        // Both fit: `left` is at most `bytes_max`, and a frame is smaller than what it is sent as.
        self.waiting.push_back(Waiting {
            left: left as u32,
            frame_len: frame_len as u32,
            has_begun: false,
        });
        true
    }

    /// Appends as [`Queue::push`] does, and makes room for it if need be; gives how many frames were lost for it, be it the
    /// new one itself.
    #[must_use]
    pub fn push_over(&mut self, overflow: Overflow, parts: Pieces<'_>, frame_len: usize) -> u64 {
        let mut lost = 0;
        while !self.push(parts, frame_len) {
            lost += 1;
            let has_begun = self.waiting.front().is_none_or(|first| first.has_begun);
            if overflow == Overflow::DropNewest || has_begun {
                break;
            }
            self.pop_frames(1);
        }
        lost
    }

    /// Takes the first frame for one of which a part was sent.
    pub fn begin_first(&mut self) {
        if let Some(first) = self.waiting.front_mut() {
            first.has_begun = true;
        }
    }

    /// Gives the frames that wait, first come first.
    pub fn frames(&self) -> impl Iterator<Item = Pieces<'_>> {
        let mut at = self.head;
        self.waiting.iter().map(move |frame| {
            let pieces = self.pieces(at, frame.left as usize);
            at = self.wrap(at + frame.left as usize);
            pieces
        })
    }

    /// Gives the frames of which nothing was sent, first come first.
    pub fn whole_frames(&self) -> impl Iterator<Item = Pieces<'_>> {
        let begun = self.waiting.front().is_some_and(|first| first.has_begun);
        self.frames().skip(usize::from(begun))
    }

    /// Gives the frame that is next.
    pub fn front(&self) -> Option<Pieces<'_>> {
        self.frames().next()
    }

    /// Gives all bytes that wait, as one stream.
    pub fn bytes(&self) -> Pieces<'_> {
        self.pieces(self.head, self.used)
    }

    /// Takes off the first `count` frames.
    pub fn pop_frames(&mut self, count: usize) -> Popped {
        let mut popped = Popped::default();
        for _ in 0..count {
            let Some(frame) = self.waiting.pop_front() else {
                break;
            };
            self.head = self.wrap(self.head + frame.left as usize);
            self.used -= frame.left as usize;
            popped.frames += 1;
            popped.bytes += u64::from(frame.frame_len);
        }
        popped
    }

    /// Takes off the first `len` bytes. What is left of a frame stays the first one.
    pub fn pop_bytes(&mut self, len: usize) -> Popped {
        let (mut len, mut popped) = (len.min(self.used), Popped::default());
        while let Some(first) = self.waiting.front_mut() {
            if len < first.left as usize {
                first.left -= len as u32;
                first.has_begun |= len > 0;
                self.head = self.wrap(self.head + len);
                self.used -= len;
                break;
            }
            len -= first.left as usize;
            let whole = self.pop_frames(1);
            popped.frames += whole.frames;
            popped.bytes += whole.bytes;
        }
        popped
    }

    fn append(&mut self, part: &[u8]) {
        let start = self.wrap(self.head + self.used);
        let until_end = part.len().min(self.ring.len() - start);
        let (first, second) = part.split_at(until_end);
        self.ring[start..start + first.len()].copy_from_slice(first);
        self.ring[..second.len()].copy_from_slice(second);
        self.used += part.len();
    }

    fn pieces(&self, start: usize, len: usize) -> Pieces<'_> {
        let until_end = len.min(self.ring.len() - start);
        [
            &self.ring[start..start + until_end],
            &self.ring[..len - until_end],
        ]
    }

    fn wrap(&self, at: usize) -> usize {
        if at >= self.ring.len() {
            at - self.ring.len()
        } else {
            at
        }
    }
}
