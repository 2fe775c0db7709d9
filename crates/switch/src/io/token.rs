//! What an epoll event is about, in the 64 bits that epoll keeps for us.

use crate::state::PortId;

/// A descriptor that the switch watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Somebody has a job for the switch's thread.
    Wake,
    /// A connection came to a listener.
    Listener(u32),
    /// A VDE client is about to say what it wants.
    Handshake(u32),
    /// Frames, or room for them.
    Data(PortId),
    /// The connection that a VDE client registered by.
    Control(PortId),
    /// One of the descriptors of a guest that shares its memory. They are numbered, and so are their bits.
    Guest(PortId, u8),
}

/// Set in the bits of a [`Token::Guest`].
const GUEST: u64 = 1 << 63;

impl Token {
    pub(super) fn to_u64(self) -> u64 {
        let (kind, value) = match self {
            Token::Wake => (0, 0),
            Token::Listener(number) => (1, number),
            Token::Handshake(number) => (2, number),
            Token::Data(id) => (3, id.to_u32()),
            Token::Control(id) => (4, id.to_u32()),
            Token::Guest(id, number) => {
                return GUEST | u64::from(id.to_u32()) << 8 | u64::from(number);
            }
        };
        kind << 32 | u64::from(value)
    }

    pub(super) fn from_u64(bits: u64) -> Option<Token> {
        if bits & GUEST != 0 {
            let id = PortId::from_u32((bits >> 8) as u32);
            return Some(Token::Guest(id, bits as u8));
        }
        let value = (bits & 0xffff_ffff) as u32;
        match bits >> 32 {
            0 => Some(Token::Wake),
            1 => Some(Token::Listener(value)),
            2 => Some(Token::Handshake(value)),
            3 => Some(Token::Data(PortId::from_u32(value))),
            4 => Some(Token::Control(PortId::from_u32(value))),
            _ => None,
        }
    }
}
