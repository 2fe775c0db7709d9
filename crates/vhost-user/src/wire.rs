//! The few bytes that are looked at before the `vhost` crate takes a message from the socket.
//!
//! It reads a message with calls that wait until all of it is there, so a message is looked at first, and taken when it is
//! whole. It also refuses what two front ends send: QEMU a request that is early ([`Enable`]), and User-mode Linux a message that
//! is longer than it need be ([`Regions`]).

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

/// The request `SET_MEM_TABLE` in User-mode Linux's form: there is always room for two regions, even if there is but one, so that the
/// `vhost` crate takes it for damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The regions that there are.
    pub regions: Vec<Region>,
}

/// A region of the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where the guest has it.
    pub guest: u64,
    /// How long it is.
    pub len: u64,
    /// Where the front end has it.
    pub user: u64,
    /// Where it begins in its file.
    pub offset: u64,
}

impl Regions {
    /// The request's number.
    pub const CODE: u32 = 5;

    /// The most regions of a message: each comes with a descriptor.
    pub const COUNT_MAX: usize = 32;

    const HEAD_LEN: usize = 8;
    const REGION_LEN: usize = 32;

    /// Whether there is more room in the message than it has regions, by what is known of it so far.
    #[must_use]
    pub fn is_padded(header: &Header, message: &[u8]) -> bool {
        let count = message.get(HEADER_LEN..).and_then(word);
        count.is_some_and(|(count, _)| {
            let len = (count as usize).saturating_mul(Self::REGION_LEN);
            header.code == Self::CODE && header.size as usize > len.saturating_add(Self::HEAD_LEN)
        })
    }

    /// Reads a whole message whose head was read already.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is too short, or has no regions or too many.
    pub fn parse(header: &Header, message: &[u8]) -> Result<Self, Error> {
        let body = message.get(HEADER_LEN..header.message_len());
        let (count, rest) = body
            .and_then(word)
            .ok_or(Error::Malformed("SET_MEM_TABLE is too short"))?;
        let count = count as usize;
        if !(1..=Self::COUNT_MAX).contains(&count) {
            return Err(Error::Malformed(
                "SET_MEM_TABLE has a wrong number of regions",
            ));
        }
        let regions: Vec<Region> = rest
            .get(4..)
            .unwrap_or_default()
            .chunks_exact(Self::REGION_LEN)
            .take(count)
            .filter_map(Region::parse)
            .collect();
        if regions.len() < count {
            return Err(Error::Malformed("SET_MEM_TABLE is too short"));
        }
        Ok(Self { regions })
    }
}

impl Region {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).filter_map(|number| {
            let number = number.first_chunk()?;
            Some(u64::from_ne_bytes(*number))
        });
        Some(Self {
            guest: numbers.next()?,
            len: numbers.next()?,
            user: numbers.next()?,
            offset: numbers.next()?,
        })
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
