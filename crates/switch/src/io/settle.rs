//! Waiting until the switch has taken what was there.

use std::sync::mpsc::{SyncSender, sync_channel};

use super::Switch;
use super::engine::Engine;
use crate::error::Error;

/// Rounds of the switch's thread that somebody waits at most: it takes more from a port in these than a socket holds.
const ROUNDS_MAX: u32 = 64;

/// Somebody who waits for a round in which nothing comes in.
pub(super) struct Settling {
    answer: SyncSender<()>,
    /// Frames that had come in by the end of the last round.
    taken: Option<u64>,
    rounds: u32,
}

impl Switch {
    /// Returns when the frames that had come to the switch's sockets before the call have come in.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn settle(&self) -> Result<(), Error> {
        let (answer, answers) = sync_channel(1);
        let settling = Settling {
            answer,
            taken: None,
            rounds: 0,
        };
        self.call(|engine| engine.settling.push(settling))?;
        let stopped = |_| Error::Stopped(self.name.clone());
        answers.recv().map_err(stopped)
    }
}

impl Engine {
    /// Answers those who have waited long enough.
    pub(super) fn end_settling(&mut self) {
        if self.settling.is_empty() {
            return;
        }
        let taken = self.fabric.totals().counters.frames_in;
        let is_paused = self.is_paused;
        self.settling.retain_mut(|settling| {
            settling.rounds += 1;
            let is_quiet = settling.taken == Some(taken) || is_paused;
            settling.taken = Some(taken);
            let has_settled = is_quiet || settling.rounds == ROUNDS_MAX;
            if has_settled {
                let _ = settling.answer.send(());
            }
            !has_settled
        });
    }
}
