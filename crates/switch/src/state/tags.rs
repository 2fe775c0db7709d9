//! Segments: which frames a port takes and gives, by their 802.1Q tags.
//!
//! A frame belongs to a segment, 1 to 4094, or to none (0). Stations are learned in each segment of their own.

use serde::{Deserialize, Serialize};

use crate::wire::tag::{self, TAG_LEN, Tag};
use crate::wire::{Frame, HEADER_LEN};

/// The highest segment.
pub const SEGMENT_MAX: u16 = 4094;

/// What becomes of 802.1Q tags at a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Tags {
    /// Frames go in and out as they are. If the switch has ports of the other kinds, a frame belongs to the segment in its
    /// tag; one without a tag belongs to none, and goes to transparent ports alone.
    #[default]
    Transparent,
    /// The machine knows nothing of segments: all its frames belong to this one, and go in and out without a tag. Frames
    /// that have a tag are dropped.
    Access(u16),
    /// Frames go in and out with a tag, but for those of the native segment.
    Trunk {
        /// The segments that the port takes part in.
        segments: Segments,
        /// The segment of frames without a tag; if there is none, they are dropped.
        native: Option<u16>,
    },
}

/// A set of segments.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u16>", try_from = "Vec<u16>")]
pub struct Segments(Box<[u64; 64]>);

/// A number that no segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no segment {0}: they go from 1 to {SEGMENT_MAX}")]
pub struct NoSegment(pub u16);

/// What must be done to a frame before it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Take off the tag.
    Strip,
    /// Put in this tag, or put it in the place of the one that is there.
    Put(Tag),
}

impl Segments {
    /// Makes a set of all segments.
    pub fn all() -> Segments {
        let mut set = Segments(Box::new([u64::MAX; 64]));
        set.0[0] &= !1; // There is no segment 0,
        set.0[63] &= u64::MAX >> 1; // and no 4095.
        set
    }

    /// Makes a set of some segments.
    ///
    /// # Errors
    ///
    /// [`NoSegment`].
    pub fn of(numbers: &[u16]) -> Result<Segments, NoSegment> {
        let mut set = Segments(Box::new([0; 64]));
        for &number in numbers {
            check(number)?;
            set.0[usize::from(number) / 64] |= 1 << (number % 64);
        }
        Ok(set)
    }

    fn members(&self) -> impl Iterator<Item = u16> {
        (1..=SEGMENT_MAX).filter(|&number| self.contains(number))
    }

    /// Tells whether a segment is in the set.
    pub fn contains(&self, segment: u16) -> bool {
        (1..=SEGMENT_MAX).contains(&segment)
            && self.0[usize::from(segment) / 64] >> (segment % 64) & 1 == 1
    }
}

impl From<Segments> for Vec<u16> {
    fn from(set: Segments) -> Vec<u16> {
        set.members().collect()
    }
}

impl TryFrom<Vec<u16>> for Segments {
    type Error = NoSegment;

    fn try_from(numbers: Vec<u16>) -> Result<Segments, NoSegment> {
        Segments::of(&numbers)
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.members()).finish()
    }
}

impl Tags {
    /// Tells whether it can be.
    ///
    /// # Errors
    ///
    /// [`NoSegment`].
    pub fn check(&self) -> Result<(), NoSegment> {
        match self {
            Tags::Transparent | Tags::Trunk { native: None, .. } => Ok(()),
            Tags::Access(segment)
            | Tags::Trunk {
                native: Some(segment),
                ..
            } => check(*segment),
        }
    }

    /// Gives the segment of a frame that came in by such a port; `None` if it is to be dropped.
    pub fn segment_of(&self, frame: &[u8]) -> Option<u16> {
        let tagged = tag::read(frame).map_or(0, |tag| tag.segment());
        match self {
            Tags::Transparent => Some(if tagged > SEGMENT_MAX { 0 } else { tagged }),
            Tags::Access(segment) => (tagged == 0).then_some(*segment),
            Tags::Trunk { native, .. } if tagged == 0 => *native,
            Tags::Trunk { segments, native } => {
                (segments.contains(tagged) || *native == Some(tagged)).then_some(tagged)
            }
        }
    }

    /// Says how a frame of a segment goes out by such a port; `None` if it does not.
    pub fn change_for(&self, segment: u16, frame: &[u8]) -> Option<Change> {
        let tag = tag::read(frame);
        let untagged = if tag.is_some() {
            Change::Strip
        } else {
            Change::Keep
        };
        let with_tag = || match tag {
            Some(tag) if tag.segment() == segment => Change::Keep,
            Some(tag) => Change::Put(tag.in_segment(segment)),
            None => Change::Put(Tag::new(segment)),
        };
        match self {
            Tags::Transparent if segment == 0 => Some(Change::Keep),
            Tags::Transparent => Some(with_tag()),
            Tags::Access(own) => (*own == segment).then_some(untagged),
            Tags::Trunk { native, .. } if *native == Some(segment) => Some(untagged),
            Tags::Trunk { segments, .. } => segments.contains(segment).then(with_tag),
        }
    }
}

impl Change {
    /// Gives the pieces that the changed frame is made of; `room` is where a tag is put.
    pub fn pieces<'a>(self, frame: &'a [u8], room: &'a mut [u8; TAG_LEN]) -> [&'a [u8]; 3] {
        let (addresses, rest) = frame.split_at(frame.len().min(HEADER_LEN - 2));
        let behind_tag = if tag::read(frame).is_some() {
            rest.get(TAG_LEN..).unwrap_or_default()
        } else {
            rest
        };
        match self {
            Change::Keep => [frame, &[], &[]],
            Change::Strip => [addresses, &[], behind_tag],
            Change::Put(tag) => {
                *room = tag.to_bytes();
                [addresses, room, behind_tag]
            }
        }
    }
}

/// Gives the bytes of payload in a frame: what is behind the header, and the tag if there is one.
pub fn payload_len(frame: &[u8]) -> usize {
    let tag = if tag::read(frame).is_some() {
        TAG_LEN
    } else {
        0
    };
    frame.len().saturating_sub(HEADER_LEN + tag)
}

fn check(segment: u16) -> Result<(), NoSegment> {
    if (1..=SEGMENT_MAX).contains(&segment) {
        Ok(())
    } else {
        Err(NoSegment(segment))
    }
}

/// What the fuzzer does with its bytes: a frame that goes out changed is still the same frame, but for its tag.
pub fn fuzz(bytes: &[u8]) {
    let Some((&[kind, high, low], frame)) = bytes.split_first_chunk() else {
        return;
    };
    let number = u16::from_be_bytes([high, low]) % SEGMENT_MAX + 1;
    let other = Segments::of(&[number]).expect("a segment");
    let tags = match kind % 4 {
        0 => Tags::Transparent,
        1 => Tags::Access(number),
        kind => Tags::Trunk {
            segments: other,
            native: (kind == 2).then_some(1),
        },
    };
    let (Some(parsed), Some(segment)) = (Frame::parse(frame), tags.segment_of(frame)) else {
        return;
    };
    for out in [
        Tags::Transparent,
        Tags::Access(segment),
        Tags::Trunk {
            segments: Segments::all(),
            native: None,
        },
    ] {
        let Some(change) = out.change_for(segment, frame) else {
            assert_eq!(segment, 0, "a segment that a port of its own does not take");
            continue;
        };
        let mut room = [0; TAG_LEN];
        let changed = change.pieces(frame, &mut room).concat();
        let after = Frame::parse(&changed).expect("a whole header");
        assert_eq!(after.target(), parsed.target());
        assert_eq!(after.source(), parsed.source());
        let tag = tag::read(frame).map_or(0, |_| TAG_LEN);
        let rest = &frame[HEADER_LEN - 2 + tag..];
        assert!(changed.ends_with(rest), "the payload was changed");
        assert!(changed.len() <= HEADER_LEN - 2 + TAG_LEN + rest.len());
    }
}

#[cfg(test)]
mod tests;
