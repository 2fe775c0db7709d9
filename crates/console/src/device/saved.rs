//! A device as plain data.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState};

use super::error::Error;
use super::state::Handshake;

/// All that a device knows beyond its configuration. The queues are saved apart: see [`SavedQueue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`State::VERSION`].
    pub(super) version: u16,
    pub(super) driver_features: u64,
    pub(super) is_broken: bool,
    pub(super) handshake: Handshake,
    /// For each port, how many bytes were received of the chain that is next.
    pub(super) taken: Vec<u64>,
    pub(super) emergency: Vec<u8>,
    pub(super) emergency_lost: u64,
}

impl State {
    /// The version of this form.
    pub const VERSION: u16 = 1;
}

/// A split queue as plain data.
///
/// After it was restored, interrupt the guest once for it: whether it still had to be interrupted is not part of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    max_size: u16,
    next_avail: u16,
    next_used: u16,
    event_idx: bool,
    size: u16,
    ready: bool,
    desc_table: u64,
    avail_ring: u64,
    used_ring: u64,
}

impl From<&Queue> for SavedQueue {
    fn from(queue: &Queue) -> SavedQueue {
        let state = queue.state();
        SavedQueue {
            max_size: state.max_size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx: state.event_idx_enabled,
            size: state.size,
            ready: state.ready,
            desc_table: state.desc_table,
            avail_ring: state.avail_ring,
            used_ring: state.used_ring,
        }
    }
}

impl TryFrom<SavedQueue> for Queue {
    type Error = Error;

    fn try_from(saved: SavedQueue) -> Result<Queue, Error> {
        Queue::try_from(QueueState {
            max_size: saved.max_size,
            next_avail: saved.next_avail,
            next_used: saved.next_used,
            event_idx_enabled: saved.event_idx,
            size: saved.size,
            ready: saved.ready,
            desc_table: saved.desc_table,
            avail_ring: saved.avail_ring,
            used_ring: saved.used_ring,
        })
        .map_err(|error| Error::State(format!("a queue that cannot be: {error}")))
    }
}
