//! Does for a frame what a network card would have done: puts its checksum in, and cuts it.

use crate::wire::vnet::{Checksum, Offload, SHORT_HEADER_LEN, Segment, SegmentKind};

/// Pieces of a frame at most: 64 KiB of payload in the smallest pieces that Linux makes.
pub const SEGMENTS_MAX: usize = 1400;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// 802.1Q tags that are looked behind at most.
const TAGS_MAX: usize = 2;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const TCP_CHECKSUM: usize = 16;
const TCP: u8 = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Puts the checksum in. What lies outside of the frame is left alone.
pub fn complete(frame: &mut [u8], checksum: Checksum) {
    let start = usize::from(checksum.start);
    let place = start + usize::from(checksum.offset);
    let Some(covered) = frame.get(start..) else {
        return;
    };
    let sum = match !fold(sum(covered)) {
        0 => 0xffff, // Zero says that there is none; both mean the same otherwise.
        sum => sum,
    };
    if let Some(bytes) = frame.get_mut(place..place + 2) {
        bytes.copy_from_slice(&sum.to_be_bytes());
    }
}

/// A TCP segment that is longer than what goes over a wire, and how it is cut.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    frame: &'a [u8],
    kind: SegmentKind,
    network: usize,
    transport: usize,
    payload: usize,
    size: usize,
    count: usize,
}

/// Why a frame cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSegments {
    /// It is not what its sender says.
    #[error("a frame is to be cut, but is no TCP segment")]
    NotTcp,
    /// It would come to more than [`SEGMENTS_MAX`].
    #[error("a frame is to be cut into {0} pieces; {SEGMENTS_MAX} are the most")]
    TooMany(usize),
}

impl<'a> Segments<'a> {
    /// Looks at the headers of a frame that is to be cut.
    ///
    /// # Errors
    ///
    /// [`BadSegments`].
    pub fn new(
        frame: &'a [u8],
        segment: Segment,
        checksum: Checksum,
    ) -> Result<Segments<'a>, BadSegments> {
        let bad = BadSegments::NotTcp;
        let network = network_of(frame, segment.kind).ok_or(bad)?;
        let transport = usize::from(checksum.start);
        let tcp = frame.get(transport..transport + TCP_LEN).ok_or(bad)?;
        let payload = transport + usize::from(tcp[12] >> 4) * 4;
        let is_behind = match segment.kind {
            SegmentKind::Tcp4 => {
                let header = frame.get(network..network + IPV4_LEN).ok_or(bad)?;
                let len = usize::from(header[0] & 0xf) * 4;
                header[9] == TCP && len >= IPV4_LEN && network + len == transport
            }
            SegmentKind::Tcp6 => network + IPV6_LEN <= transport,
        };
        if !is_behind || payload < transport + TCP_LEN || payload > frame.len() {
            return Err(bad);
        }
        let size = usize::from(segment.size).max(1);
        let count = (frame.len() - payload).div_ceil(size).max(1);
        if count > SEGMENTS_MAX {
            return Err(BadSegments::TooMany(count));
        }
        Ok(Segments {
            frame,
            kind: segment.kind,
            network,
            transport,
            payload,
            size,
            count,
        })
    }

    /// Counts the pieces.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Appends one piece, a whole frame, to `out`. Nothing, if there is no such piece.
    pub fn append(&self, number: usize, out: &mut Vec<u8>) {
        let from = self.payload + number * self.size;
        let until = self.frame.len().min(from + self.size);
        if number >= self.count {
            return;
        }
        let start = out.len();
        out.extend_from_slice(&self.frame[..self.payload]);
        out.extend_from_slice(&self.frame[from..until]);
        let piece = &mut out[start..];
        self.set_network(number, piece);
        self.set_transport(number, piece);
    }

    fn set_network(&self, number: usize, piece: &mut [u8]) {
        // The lengths fit: no frame is longer than `FRAME_MAX`, and each has some headers.
        let len = piece.len() - self.network;
        let ip = &mut piece[self.network..self.transport];
        match self.kind {
            SegmentKind::Tcp4 => {
                put(ip, 2, len as u16);
                let identity = get(ip, 4).wrapping_add(number as u16);
                put(ip, 4, identity);
                put(ip, 10, 0);
                put(ip, 10, !fold(sum(ip)));
            }
            SegmentKind::Tcp6 => put(ip, 4, (len - IPV6_LEN) as u16),
        }
    }

    fn set_transport(&self, number: usize, piece: &mut [u8]) {
        let (headers, tcp) = piece.split_at_mut(self.transport);
        let ip = &headers[self.network..];
        let addresses = match self.kind {
            SegmentKind::Tcp4 => &ip[12..IPV4_LEN],
            SegmentKind::Tcp6 => &ip[8..IPV6_LEN],
        };
        let mut sequence = [0; 4];
        sequence.copy_from_slice(&tcp[4..8]);
        // A sequence number goes round.
        let sequence = u32::from_be_bytes(sequence).wrapping_add((number * self.size) as u32);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if number + 1 < self.count {
            tcp[13] &= !(FIN | PSH);
        }
        if number > 0 {
            tcp[13] &= !CWR;
        }
        put(tcp, TCP_CHECKSUM, 0);
        let pseudo = sum(addresses) + u64::from(TCP) + tcp.len() as u64;
        let checksum = !fold(pseudo + sum(tcp));
        put(tcp, TCP_CHECKSUM, checksum);
    }
}

/// Finds the network header, behind tags if there are any.
fn network_of(frame: &[u8], kind: SegmentKind) -> Option<usize> {
    let wanted = match kind {
        SegmentKind::Tcp4 => ETHERTYPE_IPV4,
        SegmentKind::Tcp6 => ETHERTYPE_IPV6,
    };
    let mut place = 12;
    for _ in 0..=TAGS_MAX {
        let bytes = frame.get(place..place + 2)?;
        let ethertype = get(bytes, 0);
        if ethertype == wanted {
            return Some(place + 2);
        }
        if !ETHERTYPE_TAGS.contains(&ethertype) {
            return None;
        }
        place += 4;
    }
    None
}

fn get(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

fn put(bytes: &mut [u8], place: usize, value: u16) {
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

/// Adds up 16-bit words; not folded. An odd last byte is the high half of a word.
fn sum(bytes: &[u8]) -> u64 {
    // Four words at a time: the sum of big-endian words is the same modulo 2^16 - 1, whatever the size of the words.
    let mut chunks = bytes.chunks_exact(8);
    let (mut total, mut carries) = (0_u64, 0_u64);
    for chunk in &mut chunks {
        let word = chunk
            .first_chunk()
            .map_or(0, |word| u64::from_be_bytes(*word));
        let (next, has_carried) = total.overflowing_add(word);
        (total, carries) = (next, carries + u64::from(has_carried));
    }
    let mut rest = [0; 8];
    let tail = chunks.remainder();
    rest[..tail.len()].copy_from_slice(tail);
    let rest = u64::from_be_bytes(rest);
    u64::from(fold(total)) + u64::from(fold(rest)) + carries
}

/// Adds the words of a sum up, until one is left.
fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What the fuzzer does with its bytes, a header and a frame: what is put in or cut is no longer than it may be, and nobody's but the
/// sender's.
pub fn fuzz(bytes: &[u8]) {
    let Some((header, frame)) = bytes.split_first_chunk::<SHORT_HEADER_LEN>() else {
        return;
    };
    let Ok(offload) = Offload::parse(header, frame.len()) else {
        return;
    };
    let built = offload.to_bytes(1);
    let short = built.first_chunk().expect("it is longer");
    assert_eq!(Offload::parse(short, frame.len()), Ok(offload));
    let Some(checksum) = offload.checksum else {
        return;
    };
    let mut whole = frame.to_vec();
    complete(&mut whole, checksum);
    let place = usize::from(checksum.start) + usize::from(checksum.offset);
    assert_eq!(whole[..place], frame[..place]);
    assert_eq!(whole[place + 2..], frame[place + 2..]);
    let Some(Ok(segments)) = offload
        .segment
        .map(|one| Segments::new(frame, one, checksum))
    else {
        return;
    };
    assert!(segments.count() <= SEGMENTS_MAX);
    let (mut out, mut payload) = (Vec::new(), Vec::new());
    for number in 0..segments.count() {
        out.clear();
        segments.append(number, &mut out);
        assert!(out.len() <= frame.len());
        assert_eq!(out[..segments.network], frame[..segments.network]);
        payload.extend_from_slice(&out[segments.payload..]);
    }
    assert_eq!(payload, frame[segments.payload..]);
}

#[cfg(test)]
mod tests;
