//! The few bytes that are looked at before the `vhost` crate takes a message from the socket.
//!
//! It reads a message with calls that wait until all of it is there, and refuses one request that QEMU sends early
//! ([`Enable`]); so a message is looked at first, and taken when it is whole.

use crate::Error;

/// Bytes of a message's head.
pub const HEADER_LEN: usize = 12;

/// The most bytes behind the head.
pub const BODY_MAX: u32 = 4096;

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The request's number.
    pub code: u32,
    /// Version and flags.
    flags: u32,
    /// How many bytes follow, at most [`BODY_MAX`].
    size: u32,
}

impl Header {
    /// Reads a head. `Ok(None)` when it is not all there.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for what cannot be the head of a request.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some((code, rest)) = word(bytes) else {
            return Ok(None);
        };
        let Some((flags, rest)) = word(rest) else {
            return Ok(None);
        };
        let Some((size, _)) = word(rest) else {
            return Ok(None);
        };
        if flags & VERSION_MASK != VERSION {
            return Err(Error::Malformed("its version is not 1"));
        }
        if flags & REPLY != 0 {
            return Err(Error::Malformed("it is an answer"));
        }
        if size > BODY_MAX {
            return Err(Error::Malformed("it is too long"));
        }
        Ok(Some(Self { code, flags, size }))
    }

    /// The length of the whole message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        HEADER_LEN + self.size as usize
    }

    /// Whether the front end wants an answer to a request that has none by itself.
    #[must_use]
    pub fn needs_reply(&self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    /// The answer "done" to a request that has none by itself.
    #[must_use]
    pub fn acknowledge(&self) -> [u8; HEADER_LEN + 8] {
        let mut reply = [0; HEADER_LEN + 8];
        reply[..4].copy_from_slice(&self.code.to_ne_bytes());
        reply[4..8].copy_from_slice(&(VERSION | REPLY).to_ne_bytes());
        reply[8..12].copy_from_slice(&8_u32.to_ne_bytes());
        reply
    }
}

/// The request `SET_VRING_ENABLE`, which QEMU's virtio-net sends when its device is reset: before any feature is chosen, so
/// that the `vhost` crate refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enable {
    /// The queue.
    pub index: u32,
    /// Whether it is enabled or disabled.
    pub is_on: bool,
}

impl Enable {
    /// The request's number.
    pub const CODE: u32 = 18;

    /// The length of the whole message.
    pub const MESSAGE_LEN: usize = HEADER_LEN + 8;

    /// Reads a whole message whose head was read already.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is too short or too long, or wants neither on nor off.
    pub fn parse(header: &Header, message: &[u8]) -> Result<Self, Error> {
        if header.message_len() != Self::MESSAGE_LEN || message.len() != Self::MESSAGE_LEN {
            return Err(Error::Malformed("SET_VRING_ENABLE has a wrong length"));
        }
        let body = message.get(HEADER_LEN..).unwrap_or_default();
        match word(body).and_then(|(index, rest)| Some((index, word(rest)?.0))) {
            Some((index, on @ 0..=1)) => Ok(Self {
                index,
                is_on: on == 1,
            }),
            _ => Err(Error::Malformed(
                "SET_VRING_ENABLE wants neither on nor off",
            )),
        }
    }
}

/// The first word and what follows, in the byte order of the machine: both ends are on it.
fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_ne_bytes(*word), rest))
}

const VERSION_MASK: u32 = 0x3;
const VERSION: u32 = 0x1;
const REPLY: u32 = 0x4;
const NEED_REPLY: u32 = 0x8;

#[cfg(test)]
mod tests;
