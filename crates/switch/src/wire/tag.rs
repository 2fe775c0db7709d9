//! The 802.1Q tag: four bytes behind the addresses.

use super::HEADER_LEN;

/// Bytes of a tag.
pub const TAG_LEN: usize = 4;

/// What stands where the type would be, before a tag.
const TAG_TYPE: [u8; 2] = [0x81, 0x00];

/// Bits of the segment's number.
const SEGMENT_BITS: u16 = 0x0fff;

/// A tag: priority, drop eligibility, and segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(u16);

impl Tag {
    /// Makes a tag without priority.
    pub fn new(segment: u16) -> Tag {
        Tag(segment & SEGMENT_BITS)
    }

    /// Gives the number of the segment; 0 if the tag has a priority alone.
    #[inline]
    pub fn segment(self) -> u16 {
        self.0 & SEGMENT_BITS
    }

    /// Gives the same tag with another segment.
    pub fn in_segment(self, segment: u16) -> Tag {
        Tag(self.0 & !SEGMENT_BITS | segment & SEGMENT_BITS)
    }

    /// Builds what stands in a frame.
    pub fn to_bytes(self) -> [u8; TAG_LEN] {
        let [high, low] = self.0.to_be_bytes();
        [TAG_TYPE[0], TAG_TYPE[1], high, low]
    }
}

/// Gives the tag of a frame that has one, and has a whole header behind it. Tags of other types (802.1ad) are none.
#[inline]
pub fn read(frame: &[u8]) -> Option<Tag> {
    let behind = frame.get(HEADER_LEN - 2..HEADER_LEN + TAG_LEN)?;
    (behind[..2] == TAG_TYPE).then(|| Tag(u16::from_be_bytes([behind[2], behind[3]])))
}
