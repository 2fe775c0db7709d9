//! The blocks of a pcapng file: one section, an interface for each port, a packet for each frame.
//!
//! Everything is little-endian, and time is in nanoseconds. A block is appended to a buffer that the caller writes out.

use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_USER_APPLICATION: u16 = 4;
const OPTION_FLAGS: u16 = 2;
const FLAGS_OUTBOUND: u32 = 2;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_TIME_RESOLUTION: u16 = 9;
/// Ten to the minus nine.
const NANOSECONDS: u8 = 9;
/// Most bytes of a name or a comment; a longer one is cut.
const OPTION_MAX: usize = 1024;

/// Appends what every file begins with.
pub fn section(out: &mut Vec<u8>) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        out.extend_from_slice(&1_u16.to_le_bytes()); // Version 1.0.
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&u64::MAX.to_le_bytes()); // The section is as long as the file.
        option(out, OPTION_USER_APPLICATION, b"hotbed");
        option(out, OPTION_END, b"");
    });
}

/// Appends a port. The first one in a file is interface 0, the next 1, and so on.
pub fn interface(out: &mut Vec<u8>, name: &str) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        out.extend_from_slice(&0_u16.to_le_bytes()); // Reserved.
        out.extend_from_slice(&0_u32.to_le_bytes()); // Frames are never cut.
        option(out, OPTION_INTERFACE_NAME, cut(name).as_bytes());
        option(out, OPTION_TIME_RESOLUTION, &[NANOSECONDS]);
        option(out, OPTION_END, b"");
    });
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came in by its port. Said by no flag, as most captures have such frames alone.
    In,
    /// It went out by its port.
    Out,
}

/// Appends a frame that passed `interface`, so long after 1970, with what is to be said of it, if anything.
pub fn packet(
    out: &mut Vec<u8>,
    interface: u32,
    direction: Direction,
    since_1970: Duration,
    frame: &[u8],
    comment: &str,
) {
    block(out, ENHANCED_PACKET, |out| {
        let nanos = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        let [low, high] = [nanos & 0xffff_ffff, nanos >> 32];
        out.extend_from_slice(&interface.to_le_bytes());
        out.extend_from_slice(&(high as u32).to_le_bytes());
        out.extend_from_slice(&(low as u32).to_le_bytes());
        let len = len_u32(frame.len()).to_le_bytes();
        out.extend_from_slice(&len); // In the file, and
        out.extend_from_slice(&len); // on the wire.
        out.extend_from_slice(frame);
        pad(out, frame.len());
        if !comment.is_empty() {
            option(out, OPTION_COMMENT, cut(comment).as_bytes());
        }
        if direction == Direction::Out {
            option(out, OPTION_FLAGS, &FLAGS_OUTBOUND.to_le_bytes());
        }
        if direction == Direction::Out || !comment.is_empty() {
            option(out, OPTION_END, b"");
        }
    });
}

/// Gives the most bytes that [`packet`] appends.
pub fn packet_len(frame_len: usize, comment: &str) -> usize {
    12 + 20 + frame_len.next_multiple_of(4) + 12 + 4 + cut(comment).len().next_multiple_of(4)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(OPTION_MAX)]
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = len_u32(out.len() - start + 4).to_le_bytes();
    out.extend_from_slice(&len);
    out[start + 4..start + 8].copy_from_slice(&len);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn pad(out: &mut Vec<u8>, len: usize) {
    let padding = len.next_multiple_of(4) - len;
    out.extend_from_slice(&[0; 3][..padding]);
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
