//! What a link does to the frames that pass it: how that is asked for. [`fate`] has what comes of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod fate;

/// Longest delay, jitter and wait that can be asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(600);

/// Frames that wait in one link at most, unless it is told otherwise.
pub const LINK_FRAMES_MAX: usize = 65_536;

/// Bytes that wait in one link at most, unless it is told otherwise.
pub const LINK_BYTES_MAX: usize = 32 << 20;

/// What a link does to the frames that pass it, in one direction.
///
/// In this order: a link that is down takes nothing; a frame may be lost, then damaged and doubled; it waits until
/// [`Impairment::rate`] lets it go, and is then under way for [`Impairment::delay`] and some [`Impairment::jitter`].
/// Frames keep their order, but for those that [`Impairment::reorder`] picks.
///
/// All chances are drawn from the seed, the names of the link's ports and the number of the frame on the link, by
/// [`Philox`](super::random::Philox): the same frames have the same fate again. Only how long a frame waits for the
/// rate, and whether it finds the queue full, depends on when it comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Impairment {
    /// What all chances are drawn from.
    pub seed: u64,
    /// Nothing passes.
    pub is_down: bool,
    /// How frames are lost.
    pub loss: Loss,
    /// Chance that a frame comes twice.
    pub duplicate: f64,
    /// Chance that one bit of a frame is turned over, behind its Ethernet header.
    pub corrupt: f64,
    /// Chance that a frame is late, so that those behind it overtake it.
    pub reorder: f64,
    /// How late such a frame is.
    pub reorder_by: Duration,
    /// How long every frame is under way.
    pub delay: Duration,
    /// How much that varies.
    pub jitter: Jitter,
    /// How many bytes pass in a second.
    pub rate: Option<Rate>,
    /// Most frames that wait in this link; more are lost.
    pub queue_frames_max: usize,
    /// Most bytes that wait in this link; more are lost.
    pub queue_bytes_max: usize,
}

/// How a link loses frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Loss {
    /// Each with the same chance.
    Uniform(f64),
    /// In bursts, after Gilbert and Elliott: the link is in a good or in a bad state, and may change with each frame.
    Bursts {
        /// Chance to turn bad, for each frame while it is good.
        to_bad: f64,
        /// Chance to turn good, for each frame while it is bad. A bad time has 1 / `to_good` frames on average.
        to_good: f64,
        /// Chance that a frame is lost while the link is good.
        lost_in_good: f64,
        /// Chance that a frame is lost while the link is bad.
        lost_in_bad: f64,
    },
}

/// How a delay varies from frame to frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jitter {
    /// How much; what it means is said by each [`Distribution`].
    pub spread: Duration,
    /// How often it is how much.
    pub distribution: Distribution,
}

/// How often a delay varies by how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distribution {
    /// From `spread` less to `spread` more, all alike.
    #[default]
    Uniform,
    /// Around the delay, with `spread` as the standard deviation: the sum of eight uniform draws, so that it ends at
    /// 4.9 deviations.
    Normal,
    /// Never less than the delay, `spread` more on average, and now and then much more: a Pareto distribution with
    /// the exponent 4 (one frame in a hundred takes six times `spread` or more, one in ten thousand 27 times).
    Pareto,
}

/// A token bucket: how much passes at once, and how it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits that pass in a second, Ethernet headers included.
    pub bits_per_second: u64,
    /// Bytes that pass at once after a pause. With 0, each frame takes the time that its own bits take.
    pub burst_bytes: u32,
    /// Longest that a frame waits for its turn; one that would wait for longer is lost.
    pub wait_max: Duration,
}

impl Default for Impairment {
    fn default() -> Impairment {
        Impairment {
            seed: 0,
            is_down: false,
            loss: Loss::Uniform(0.0),
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(1),
            delay: Duration::ZERO,
            jitter: Jitter::default(),
            rate: None,
            queue_frames_max: LINK_FRAMES_MAX,
            queue_bytes_max: LINK_BYTES_MAX,
        }
    }
}

impl Rate {
    /// Makes a rate without bursts, at which a frame waits for 200 ms at most.
    pub fn new(bits_per_second: u64) -> Rate {
        Rate {
            bits_per_second,
            burst_bytes: 0,
            wait_max: Duration::from_millis(200),
        }
    }
}

/// Why an impairment cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadImpairment {
    /// A chance that is less than 0, more than 1, or no number.
    #[error("`{0}` is not between 0 and 1")]
    Chance(&'static str),
    /// A time above [`DELAY_MAX`].
    #[error("`{0}` is more than {DELAY_MAX:?}")]
    Time(&'static str),
    /// Nothing would ever pass.
    #[error("a rate of 0 bits per second (set the link down instead)")]
    NoRate,
}

impl Impairment {
    /// Tells whether it can be.
    ///
    /// # Errors
    ///
    /// [`BadImpairment`] says which field is out of bounds.
    pub fn check(&self) -> Result<(), BadImpairment> {
        let losses = match self.loss {
            Loss::Uniform(chance) => [chance, 0.0, 0.0, 0.0],
            Loss::Bursts {
                to_bad,
                to_good,
                lost_in_good,
                lost_in_bad,
            } => [to_bad, to_good, lost_in_good, lost_in_bad],
        };
        let others = [
            (self.duplicate, "duplicate"),
            (self.corrupt, "corrupt"),
            (self.reorder, "reorder"),
        ];
        for (chance, name) in losses.map(|chance| (chance, "loss")).iter().chain(&others) {
            if !(0.0..=1.0).contains(chance) {
                return Err(BadImpairment::Chance(name));
            }
        }
        let wait_max = self.rate.map_or(Duration::ZERO, |rate| rate.wait_max);
        for (time, name) in [
            (self.delay, "delay"),
            (self.jitter.spread, "jitter"),
            (self.reorder_by, "reorder_by"),
            (wait_max, "wait_max"),
        ] {
            if time > DELAY_MAX {
                return Err(BadImpairment::Time(name));
            }
        }
        match self.rate {
            Some(rate) if rate.bits_per_second == 0 => Err(BadImpairment::NoRate),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
