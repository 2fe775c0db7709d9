//! A device as plain data.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState};

use super::console::{Config, Console, EMERGENCY_MAX};
use super::error::Error;
use super::state::Handshake;

/// All that a device knows beyond its configuration. The queues are saved apart: see [`SavedQueue`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`State::VERSION`].
    version: u16,
    driver_features: u64,
    is_broken: bool,
    handshake: Handshake,
    /// For each port, how many bytes were received of the chain that is next.
    taken: Vec<u64>,
    emergency: Vec<u8>,
    emergency_lost: u64,
}

impl State {
    /// The version of this form.
    pub const VERSION: u16 = 1;
}

impl Console {
    /// The device as plain data.
    #[must_use]
    pub fn save(&self) -> State {
        State {
            version: State::VERSION,
            driver_features: self.driver_features,
            is_broken: self.is_broken,
            handshake: self.handshake.clone(),
            taken: self.taken.iter().map(|taken| *taken as u64).collect(),
            emergency: self.emergency.clone(),
            emergency_lost: self.emergency_lost,
        }
    }

    /// Makes a device that goes on where the saved one was. The configuration is that of the saved one.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is impossible, or the state is not of such a device.
    pub fn restore(config: Config, state: State) -> Result<Console, Error> {
        let mut console = Console::new(config)?;
        let ports = console.ports.len();
        if state.version != State::VERSION {
            return Err(Error::State(format!("version {}", state.version)));
        }
        if state.handshake.ports().len() != ports || state.taken.len() != ports {
            return Err(Error::State("another number of ports".into()));
        }
        let taken = state.taken.into_iter().map(usize::try_from);
        console.taken = taken
            .collect::<Result<_, _>>()
            .map_err(|_| Error::State("more received than there can be".into()))?;
        console.set_driver_features(state.driver_features);
        console.is_broken = state.is_broken;
        console.handshake = state.handshake;
        console.emergency = state.emergency;
        console.emergency.truncate(EMERGENCY_MAX);
        console.emergency_lost = state.emergency_lost;
        Ok(console)
    }
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
