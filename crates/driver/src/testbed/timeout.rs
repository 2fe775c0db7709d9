//! The global timeout: ends a test that would not end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{after, now};

/// A timer that can be called off.
#[derive(Debug, Default)]
pub(super) struct Timer {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// When the present timer goes off; `None`: it was called off.
    deadline: Option<Instant>,
    /// Tells the present timer from those before it.
    generation: u64,
    /// Whether a timer went off.
    expired: bool,
}

impl Timer {
    /// Calls `expire` after `timeout`, on a thread of its own, unless it is called off before.
    pub(super) fn arm(
        &self,
        timeout: Duration,
        expire: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let deadline = after(now(), timeout);
        let generation = {
            let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.deadline = Some(deadline);
            state.generation += 1;
            state.generation
        };
        self.shared.1.notify_all();
        let shared = Arc::clone(&self.shared);
        let body = move || {
            if goes_off(&shared, generation, deadline) {
                expire();
            }
        };
        std::thread::Builder::new()
            .name("timeout".to_owned())
            .spawn(body)
            .map(|_| ())
    }

    /// Calls the timer off.
    pub(super) fn disarm(&self) {
        self.shared
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .deadline = None;
        self.shared.1.notify_all();
    }

    /// Whether a timer went off.
    pub(super) fn expired(&self) -> bool {
        self.shared
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .expired
    }
}

/// Waits; `false` when the timer is called off or another one is armed.
fn goes_off(shared: &(Mutex<State>, Condvar), generation: u64, deadline: Instant) -> bool {
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.generation != generation || state.deadline.is_none() {
            return false;
        }
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            state.expired = true;
            state.deadline = None;
            return true;
        }
        state = shared
            .1
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
