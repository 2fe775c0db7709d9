//! What becomes of each frame on an impaired link. No clock, no shared generator: time comes in as `now`.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{BadImpairment, DELAY_MAX, Distribution, Impairment, Jitter, Loss, Rate};
use crate::report::LinkCounters;
use crate::state::frozen::{AHEAD_MAX, COUNTER_MAX};
use crate::state::random::Philox;
use crate::wire::HEADER_LEN;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Lost(LossCause),
    /// It passes.
    Passes(Passage),
}

/// Why a link lost a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCause {
    /// The link is down.
    Down,
    /// It was drawn.
    Chance,
    /// Too many wait, or it would have to wait for too long.
    QueueFull,
}

/// How a frame passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// When it leaves; `None` is at once.
    pub due: Option<Instant>,
    /// When its second copy leaves, if it has one.
    pub copy: Option<Instant>,
    /// The bit that is turned over, counted from the first bit of the frame.
    pub flip: Option<usize>,
}

/// Decides what becomes of the frames of one link.
#[derive(Debug, Clone)]
pub struct Impairer {
    random: Philox,
    config: Impairment,
    odds: Odds,
    /// Frames so far: the number of the next one.
    number: u64,
    is_bad: bool,
    /// When the token bucket will be full.
    full_at: Option<Instant>,
    /// When the last frame that kept its place leaves.
    last_due: Option<Instant>,
    waiting_frames: usize,
    waiting_bytes: usize,
    counters: LinkCounters,
}

/// How far a link has come, but for the frames that wait in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    number: u64,
    is_bad: bool,
    full_in: Option<Duration>,
    last_due_in: Option<Duration>,
    counters: LinkCounters,
}

impl Progress {
    /// Tells whether a link can go on from it.
    pub(crate) fn is_sound(&self) -> bool {
        let LinkCounters {
            frames,
            lost,
            down,
            queue_full,
            duplicated,
            corrupted,
            reordered,
            waiting,
        } = self.counters;
        let counters = [
            self.number,
            frames,
            lost,
            down,
            queue_full,
            duplicated,
            corrupted,
            reordered,
            waiting,
        ];
        let times = [self.full_in, self.last_due_in];
        counters.iter().all(|counter| *counter <= COUNTER_MAX)
            && times.into_iter().flatten().all(|time| time <= AHEAD_MAX)
    }
}

/// Chances as thresholds for a draw of 32 bits.
#[derive(Debug, Clone, Copy)]
struct Odds {
    to_bad: u64,
    to_good: u64,
    lost_in_good: u64,
    lost_in_bad: u64,
    duplicate: u64,
    corrupt: u64,
    reorder: u64,
}

/// Which block of draws is for what, so that one feature does not change the draws of another.
const BLOCK_CHANCES: u32 = 0;
const BLOCK_DAMAGE: u32 = 1;
const BLOCK_JITTER: u32 = 2;
const BLOCK_COPY_JITTER: u32 = 3;

impl Impairer {
    /// Makes a link that has seen no frame. Links with different `stream`s have nothing in common but the seed.
    ///
    /// # Errors
    ///
    /// [`BadImpairment`].
    pub fn new(config: &Impairment, stream: u64) -> Result<Impairer, BadImpairment> {
        config.check()?;
        Ok(Impairer {
            random: Philox::new(config.seed, stream),
            odds: Odds::new(config),
            config: config.clone(),
            number: 0,
            is_bad: false,
            full_at: None,
            last_due: None,
            waiting_frames: 0,
            waiting_bytes: 0,
            counters: LinkCounters::default(),
        })
    }

    /// Lets the frames that wait in a link before it count here, so that they are not overtaken.
    pub fn take_over(&mut self, before: &Impairer) {
        self.waiting_frames = before.waiting_frames;
        self.waiting_bytes = before.waiting_bytes;
        self.last_due = before.last_due;
    }

    /// Gives how far it has come.
    pub(crate) fn progress(&self, now: Instant) -> Progress {
        let ahead = |time: Option<Instant>| time.and_then(|time| time.checked_duration_since(now));
        Progress {
            number: self.number,
            is_bad: self.is_bad,
            full_in: ahead(self.full_at),
            last_due_in: ahead(self.last_due),
            counters: self.counters,
        }
    }

    /// Goes on from where a link of the same impairment was.
    pub(crate) fn go_on(&mut self, now: Instant, from: &Progress) {
        self.number = from.number;
        self.is_bad = from.is_bad;
        self.full_at = from.full_in.map(|ahead| now + ahead);
        self.last_due = from.last_due_in.map(|ahead| now + ahead);
        self.counters = from.counters;
    }

    /// Counts a frame that waits here, though it did not come in here.
    pub(crate) fn handle_returned(&mut self, len: usize) {
        self.waiting_frames += 1;
        self.waiting_bytes += len;
    }

    /// Decides about the next frame, which has `len` bytes.
    ///
    /// For each time in the answer the link counts a frame that waits, until it hears of it by
    /// [`Impairer::handle_left`].
    pub fn handle_frame(&mut self, now: Instant, len: usize) -> Fate {
        let number = self.number;
        self.number += 1;
        self.counters.frames += 1;
        if self.config.is_down {
            self.counters.down += 1;
            return Fate::Lost(LossCause::Down);
        }
        let [turn, lose, double, reorder] = self.random.draw(number, BLOCK_CHANCES);
        if self.is_lost(turn, lose) {
            self.counters.lost += 1;
            return Fate::Lost(LossCause::Chance);
        }
        let Some(sent) = self.sent_at(now, len) else {
            self.counters.queue_full += 1;
            return Fate::Lost(LossCause::QueueFull);
        };
        let is_late = is_drawn(reorder, self.odds.reorder);
        let due = self.arrival(sent, number, BLOCK_JITTER, is_late);
        let flip = self.damage(number, len);
        // Who goes through a queue for whatever reason must not be overtaken by those behind it.
        let waits = due > now || self.waiting_frames > 0 || flip.is_some();
        if waits && !self.enter(len) {
            self.counters.queue_full += 1;
            return Fate::Lost(LossCause::QueueFull);
        }
        self.counters.corrupted += u64::from(flip.is_some());
        self.counters.reordered += u64::from(is_late);
        let copy = is_drawn(double, self.odds.duplicate)
            .then(|| self.arrival(sent, number, BLOCK_COPY_JITTER, false));
        let copy = copy.filter(|_| self.enter(len));
        self.counters.duplicated += u64::from(copy.is_some());
        Fate::Passes(Passage {
            due: waits.then_some(due),
            copy,
            flip,
        })
    }

    /// Hears that a frame which waited has left, whatever became of it.
    pub fn handle_left(&mut self, len: usize) {
        self.waiting_frames = self.waiting_frames.saturating_sub(1);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(len);
    }

    /// Hears that a frame could not wait, because there is no room for it in the whole switch.
    pub fn handle_refused(&mut self, len: usize) {
        self.handle_left(len);
        self.counters.queue_full += 1;
    }

    /// Gives what happened so far, and what waits.
    pub fn counters(&self) -> LinkCounters {
        LinkCounters {
            waiting: self.waiting_frames as u64,
            ..self.counters
        }
    }

    /// Tells whether nothing passes.
    pub fn is_down(&self) -> bool {
        self.config.is_down
    }

    fn is_lost(&mut self, turn: u32, lose: u32) -> bool {
        let to_turn = if self.is_bad {
            self.odds.to_good
        } else {
            self.odds.to_bad
        };
        self.is_bad ^= is_drawn(turn, to_turn);
        let to_lose = if self.is_bad {
            self.odds.lost_in_bad
        } else {
            self.odds.lost_in_good
        };
        is_drawn(lose, to_lose)
    }

    /// Says when the token bucket lets a frame go, and takes its tokens; `None` if that would be too late.
    fn sent_at(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.config.rate else {
            return Some(now);
        };
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + rate.time_of(len);
        let burst = rate.time_of(rate.burst_bytes as usize);
        let sent = full_at.checked_sub(burst).map_or(now, |at| at.max(now));
        // Its own bits do not count as waiting: a large frame passes even the slowest link.
        if sent.saturating_duration_since(now + rate.time_of(len)) > rate.wait_max {
            return None;
        }
        self.full_at = Some(full_at);
        Some(sent)
    }

    /// Says when a frame that was sent arrives; not before the one ahead of it, unless it is late itself.
    fn arrival(&mut self, sent: Instant, number: u64, block: u32, is_late: bool) -> Instant {
        let Jitter { spread, .. } = self.config.jitter;
        let delay = if spread.is_zero() {
            self.config.delay
        } else {
            vary(
                self.config.delay,
                self.config.jitter,
                self.random.draw(number, block),
            )
        };
        let due = self
            .last_due
            .map_or(sent + delay, |last| last.max(sent + delay));
        if is_late {
            return due + self.config.reorder_by;
        }
        self.last_due = Some(due);
        due
    }

    fn enter(&mut self, len: usize) -> bool {
        let fits = self.waiting_frames < self.config.queue_frames_max
            && self.waiting_bytes + len <= self.config.queue_bytes_max;
        if fits {
            self.waiting_frames += 1;
            self.waiting_bytes += len;
        }
        fits
    }

    fn damage(&self, number: u64, len: usize) -> Option<usize> {
        if self.odds.corrupt == 0 || len <= HEADER_LEN {
            return None;
        }
        let [draw, place, ..] = self.random.draw(number, BLOCK_DAMAGE);
        let bits = (len - HEADER_LEN) * 8;
        is_drawn(draw, self.odds.corrupt).then(|| HEADER_LEN * 8 + place as usize % bits)
    }
}

impl Odds {
    fn new(config: &Impairment) -> Odds {
        let [to_bad, to_good, lost_in_good, lost_in_bad] = match config.loss {
            Loss::Uniform(chance) => [0.0, 0.0, chance, chance],
            Loss::Bursts {
                to_bad,
                to_good,
                lost_in_good,
                lost_in_bad,
            } => [to_bad, to_good, lost_in_good, lost_in_bad],
        }
        .map(threshold);
        Odds {
            to_bad,
            to_good,
            lost_in_good,
            lost_in_bad,
            duplicate: threshold(config.duplicate),
            corrupt: threshold(config.corrupt),
            reorder: threshold(config.reorder),
        }
    }
}

impl Rate {
    /// Says how long so many bytes take.
    fn time_of(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(DELAY_MAX)
    }
}

/// Turns a chance into the number of draws of 2^32 that have it.
fn threshold(chance: f64) -> u64 {
    (chance * (1_u64 << 32) as f64).round() as u64
}

#[inline]
fn is_drawn(draw: u32, threshold: u64) -> bool {
    u64::from(draw) < threshold
}

/// Varies a delay by what was drawn. Only integers and operations that IEEE 754 rounds exactly: it is the same everywhere.
fn vary(delay: Duration, jitter: Jitter, draws: [u32; 4]) -> Duration {
    let spread = jitter.spread.as_nanos() as i128; // Below DELAY_MAX.
    let more = match jitter.distribution {
        Distribution::Uniform => ((i128::from(draws[0]) - (1 << 31)) * spread) >> 31,
        Distribution::Normal => {
            let halves = draws.iter().flat_map(|draw| [draw & 0xffff, draw >> 16]);
            let sum: i128 = halves.map(i128::from).sum();
            // Eight draws below 2^16: twice their sum is 8 * 65,535 on average, and deviates by 107,020.
            (2 * sum - 8 * 65_535) * spread / 107_020
        }
        Distribution::Pareto => {
            let uniform = (f64::from(draws[0]) + 1.0) / (1_u64 << 32) as f64;
            (3.0 * (1.0 / uniform.sqrt().sqrt() - 1.0) * spread as f64) as i128
        }
    };
    let nanos = (delay.as_nanos() as i128 + more).clamp(0, DELAY_MAX.as_nanos() as i128);
    Duration::from_nanos(nanos as u64)
}
