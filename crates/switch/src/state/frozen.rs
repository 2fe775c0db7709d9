//! All that a switch holds at one instant, and its form as bytes, which another process can go on from.
//!
//! Ports are told by their names, times by how far they are off. Bytes are a version, and what serde makes of the values in the order of
//! their fields; whoever changes one of these types gives the form another version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::delay::Stage;
use super::impair::fate::Progress;
use super::impair::{DELAY_MAX, Impairment};
use super::rules::{Rules, Way};
use crate::wire::vnet::HEADER_LEN;
use crate::wire::{FRAME_MAX, MacAddr};

/// What the bytes begin with: the last one is the version.
const MAGIC: [u8; 8] = *b"hbswitc\x02";

/// The most bytes that are read.
pub const FROZEN_BYTES_MAX: usize = 1 << 30;

/// The farthest time that is read: no impairment has a frame wait for longer.
pub(crate) const AHEAD_MAX: Duration = DELAY_MAX.saturating_mul(8);

/// The highest counter that is read: it can be counted on from there.
pub(crate) const COUNTER_MAX: u64 = 1 << 62;

/// All that a switch holds at one instant: stations, frames under way, and what is asked of ports and links.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    pub(crate) stations: Vec<Heard>,
    pub(crate) queued: Vec<Queued>,
    pub(crate) under_way: Vec<UnderWay>,
    pub(crate) links: Vec<(Link, Progress)>,
    pub(crate) rules: Rules,
}

/// Where frames come from and where they go; `None` if that is all the same.
pub(crate) type Link = [Option<String>; 2];

/// A station, and the port at which it was heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) port: String,
    pub(crate) segment: u16,
    pub(crate) address: MacAddr,
    pub(crate) silent_for: Duration,
}

/// A frame that waits for a port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) port: String,
    /// What a guest that shares its memory has in front of a frame; nothing, for all others.
    pub(crate) header: Vec<u8>,
    pub(crate) frame: Vec<u8>,
}

/// A frame that waits in a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    pub(crate) left: Duration,
    pub(crate) stage: Stage,
    pub(crate) ingress: String,
    pub(crate) egress: String,
    pub(crate) segment: u16,
    pub(crate) link: Link,
    pub(crate) frame: Vec<u8>,
}

/// Why bytes are not the state of a switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadState {
    /// They begin with something else.
    #[error("it is none of this version")]
    Version,
    /// They are cut off, or damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// There is something in them that no switch holds.
    #[error("it holds {0}")]
    Impossible(&'static str),
}

impl Frozen {
    /// Counts the frames that it holds.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.queued.len() + self.under_way.len()
    }

    /// Gives the impairments that were asked for.
    pub fn impairments(&self) -> impl Iterator<Item = (&Way, &Impairment)> {
        let asked = self.rules.impairments().iter();
        asked.map(|asked| (&asked.way, &asked.impairment))
    }

    /// Gives its form as bytes. What was asked for a port by its number, and not by its name, is left out: the number may be another
    /// port's by then.
    ///
    /// # Errors
    ///
    /// [`BadState::Damaged`] when it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadState> {
        let mut frozen = self.clone();
        frozen.rules.forget_numbered();
        postcard::to_extend(&frozen, MAGIC.to_vec()).map_err(damaged)
    }

    /// Takes it from its form as bytes.
    ///
    /// # Errors
    ///
    /// [`BadState`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Frozen, BadState> {
        let state = bytes.strip_prefix(&MAGIC).ok_or(BadState::Version)?;
        if state.len() > FROZEN_BYTES_MAX {
            return Err(BadState::Impossible("more than a switch can"));
        }
        let (frozen, rest): (Frozen, &[u8]) = postcard::take_from_bytes(state).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(BadState::Damaged("something follows it".to_owned()));
        }
        frozen.check()?;
        Ok(frozen)
    }

    /// Tells whether a switch can go on from it.
    fn check(&self) -> Result<(), BadState> {
        let frames = self.under_way.iter().map(|under_way| &under_way.frame);
        let mut frames = frames.chain(self.queued.iter().map(|queued| &queued.frame));
        if frames.any(|frame| frame.len() > FRAME_MAX) {
            return Err(BadState::Impossible("a frame that is too long"));
        }
        if self
            .queued
            .iter()
            .any(|queued| queued.header.len() > HEADER_LEN)
        {
            return Err(BadState::Impossible("a header that is too long"));
        }
        if self.under_way.iter().any(|frame| frame.left > AHEAD_MAX) {
            return Err(BadState::Impossible("a frame that takes too long"));
        }
        if !self.links.iter().all(|(_, progress)| progress.is_sound()) {
            return Err(BadState::Impossible("a link that was never so"));
        }
        if !self.rules.is_sound() {
            return Err(BadState::Impossible("rules that there cannot be"));
        }
        Ok(())
    }
}

fn damaged(error: postcard::Error) -> BadState {
    BadState::Damaged(error.to_string())
}

/// What the fuzzer does with its bytes: what was read is written and read again the same.
pub fn fuzz(bytes: &[u8]) {
    let with_magic = [&MAGIC[..], bytes].concat();
    for bytes in [bytes, &with_magic] {
        if let Ok(frozen) = Frozen::from_bytes(bytes) {
            assert!(frozen.frames() <= bytes.len());
            let mut kept = frozen.clone();
            kept.rules.forget_numbered();
            let written = frozen.to_bytes().expect("it was read");
            assert_eq!(Frozen::from_bytes(&written), Ok(kept));
        }
    }
}

#[cfg(test)]
mod tests;
