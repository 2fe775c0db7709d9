//! The header that virtio puts in front of a frame: what a network card has still to do for it.

/// Bytes of the header as virtio 1 has it. A frame that goes to a guest says in the last two in how many buffers it lies.
pub const HEADER_LEN: usize = 12;

/// Bytes of the header without that number, as old drivers have it if they do not merge buffers.
pub const SHORT_HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const SEGMENT_NONE: u8 = 0;
const SEGMENT_TCP4: u8 = 1;
const SEGMENT_TCP6: u8 = 4;
const SEGMENT_ECN: u8 = 0x80;

/// What is left to do for a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// A checksum that is to be put in.
    pub checksum: Option<Checksum>,
    /// The frame is longer than what goes over a wire, and is to be cut.
    pub segment: Option<Segment>,
}

/// A checksum that is to be put in. Where it belongs there is the sum of the pseudo-header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// The first byte of what is summed up; all behind it is, too.
    pub start: u16,
    /// Where the checksum belongs, counted from there.
    pub offset: u16,
}

/// How a frame is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// What is in the frame.
    pub kind: SegmentKind,
    /// Bytes of payload in each piece but the last.
    pub size: u16,
    /// Only the first piece says that the window was reduced (RFC 3168).
    pub has_ecn: bool,
    /// Bytes of all headers, as the sender says: a hint, and no more.
    pub header_len: u16,
}

/// What is in a frame that is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// A header that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOffload {
    /// The checksum would lie outside of the frame.
    #[error("the checksum of a frame lies outside of it")]
    Checksum,
    /// There is no such way to cut frames, or it is one that was not offered.
    #[error("a frame is to be cut in the way {0}, which was not offered")]
    Kind(u8),
    /// Pieces without payload.
    #[error("a frame is to be cut into pieces of no size")]
    Size,
    /// What is to be cut has a checksum in each piece.
    #[error("a frame is to be cut and needs no checksum")]
    NoChecksum,
}

impl Offload {
    /// Reads the header of a frame of `frame_len` bytes.
    ///
    /// # Errors
    ///
    /// [`BadOffload`].
    pub fn parse(header: &[u8; SHORT_HEADER_LEN], frame_len: usize) -> Result<Offload, BadOffload> {
        let [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1] = *header;
        let [header_len, size, start, offset] =
            [[h0, h1], [s0, s1], [c0, c1], [o0, o1]].map(u16::from_le_bytes);
        let checksum = (flags & NEEDS_CHECKSUM != 0).then_some(Checksum { start, offset });
        if checksum.is_some_and(|checksum| checksum.end() > frame_len) {
            return Err(BadOffload::Checksum);
        }
        let kind = match kind & !SEGMENT_ECN {
            SEGMENT_NONE => {
                return Ok(Offload {
                    checksum,
                    segment: None,
                });
            }
            SEGMENT_TCP4 => SegmentKind::Tcp4,
            SEGMENT_TCP6 => SegmentKind::Tcp6,
            kind => return Err(BadOffload::Kind(kind)),
        };
        if size == 0 {
            return Err(BadOffload::Size);
        }
        if checksum.is_none() {
            return Err(BadOffload::NoChecksum);
        }
        let segment = Segment {
            kind,
            size,
            has_ecn: header[1] & SEGMENT_ECN != 0,
            header_len,
        };
        Ok(Offload {
            checksum,
            segment: Some(segment),
        })
    }

    /// Gives the header of a frame that lies in so many buffers.
    pub fn to_bytes(&self, buffers: u16) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |place: usize, value: u16| {
            bytes[place..place + 2].copy_from_slice(&value.to_le_bytes());
        };
        if let Some(segment) = &self.segment {
            put(2, segment.header_len);
            put(4, segment.size);
        }
        if let Some(checksum) = &self.checksum {
            put(6, checksum.start);
            put(8, checksum.offset);
        }
        put(10, buffers);
        bytes[0] = self.checksum.map_or(0, |_| NEEDS_CHECKSUM);
        bytes[1] = self.segment.map_or(SEGMENT_NONE, |segment| {
            let kind = match segment.kind {
                SegmentKind::Tcp4 => SEGMENT_TCP4,
                SegmentKind::Tcp6 => SEGMENT_TCP6,
            };
            kind | if segment.has_ecn { SEGMENT_ECN } else { 0 }
        });
        bytes
    }
}

impl Checksum {
    /// Gives where the frame goes on behind the checksum.
    pub fn end(&self) -> usize {
        usize::from(self.start) + usize::from(self.offset) + 2
    }
}

#[cfg(test)]
mod tests;
