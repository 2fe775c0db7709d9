//! The events of a session, kept so that whoever looks later misses none.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use crate::wire::{Event, Timestamp};

/// How many events are kept. When more come, the oldest go, and are counted as lost.
pub const EVENTS_MAX: usize = 4096;

/// How many bytes of events are kept, as they came from QEMU. When more come, the oldest go; the newest event is
/// kept whatever its size.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// The events of a session: the newest of them, in the order in which QEMU sent them.
#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<Kept>,
    bytes: usize,
    /// The sequence number of the next event.
    next: u64,
}

#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    size: usize,
}

impl History {
    /// Keeps an event whose message was `size` bytes long.
    pub fn push(&mut self, size: usize, name: String, data: Value, timestamp: Option<Timestamp>) {
        let event = Arc::new(Event {
            name,
            data,
            timestamp,
            sequence: self.next,
        });
        self.next += 1;
        self.bytes += size;
        self.events.push_back(Kept { event, size });
        while self.events.len() > 1
            && (self.events.len() > EVENTS_MAX || self.bytes > EVENT_BYTES_MAX)
        {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.size;
            }
        }
    }

    /// Gives the sequence number that the next event will have.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.next
    }

    /// Gives the events from a sequence number on.
    pub fn since(&self, cursor: u64) -> impl Iterator<Item = &Arc<Event>> {
        let skipped = usize::try_from(cursor.saturating_sub(self.oldest())).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped).map(|kept| &kept.event)
    }

    /// Gives how many events from a sequence number on were lost.
    #[must_use]
    pub fn lost_since(&self, cursor: u64) -> u64 {
        self.oldest().saturating_sub(cursor)
    }

    fn oldest(&self) -> u64 {
        self.events
            .front()
            .map_or(self.next, |kept| kept.event.sequence)
    }
}
