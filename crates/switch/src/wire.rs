//! Bytes to values and back. Every length check of the crate is below here.
//!
//! - [`Frame`]: an Ethernet frame, as far as a switch must understand it.
//! - [`vde`]: the request of a VDE client, and the answer.
//! - [`stream`]: frames behind their lengths, as `qemu -netdev stream` has them.
//! - [`tag`]: 802.1Q tags.
//! - [`vnet`]: what is in front of a frame in the memory of a guest.
//! - [`vxlan`]: what is in front of a frame on its way to another host.
//! - [`filter`]: expressions that say which frames are meant.
//! - [`summary`]: a frame in a line, for people.
//! - [`pcapng`]: the blocks of a capture file.

use std::fmt;

use serde::{Deserialize, Serialize};

mod decode;
pub mod filter;
pub mod pcapng;
pub mod stream;
pub mod summary;
pub mod tag;
pub mod vde;
pub mod vnet;
pub mod vxlan;

/// Bytes of an Ethernet header without a tag: target, source, type.
pub const HEADER_LEN: usize = 14;

/// Most bytes of a frame. QEMU's own buffers end here (its `NET_BUFSIZE`), and it leaves room for
/// 64 KiB of payload behind any header.
pub const FRAME_MAX: usize = 69_632;

/// Address of a station.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Tells whether frames to this address are for many: broadcast and multicast.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame that has a whole header, so that no accessor can fail.
///
/// What is behind the addresses is nobody's business here: an 802.1Q tag goes through untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    header: &'a [u8; HEADER_LEN],
}

impl<'a> Frame<'a> {
    /// Takes the bytes of a frame, or gives `None` for a runt.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        bytes.first_chunk().map(|header| Frame { header })
    }

    /// Gives the station that the frame is for.
    #[inline]
    pub fn target(&self) -> MacAddr {
        let [a, b, c, d, e, g, ..] = *self.header;
        MacAddr([a, b, c, d, e, g])
    }

    /// Gives the station that sent the frame.
    #[inline]
    pub fn source(&self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, g, ..] = *self.header;
        MacAddr([a, b, c, d, e, g])
    }
}

/// Where a frame lies in a buffer that holds many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Names `len` bytes from `start` on; both must be below 4 GiB, as every buffer here is.
    #[inline]
    pub fn new(start: usize, len: usize) -> Span {
        debug_assert!(u32::try_from(start).is_ok(), "a buffer of 4 GiB");
        debug_assert!(u32::try_from(len).is_ok(), "a frame of 4 GiB");
        let (start, len) = (start as u32, len as u32);
        Span { start, len }
    }

    /// Gives the number of bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Tells whether there are no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Gives what lies behind the first `len` bytes.
    #[inline]
    pub fn behind(self, len: usize) -> Span {
        let len = self.len().min(len);
        Span::new(self.start as usize + len, self.len() - len)
    }

    /// Gives the bytes: none, if `buffer` is not the one that the span is of.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.len()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
