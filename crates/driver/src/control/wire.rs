//! Messages: a tag, a length, a payload.

use serde::{Deserialize, Serialize};

use crate::machine::program::TerminalSize;

#[cfg(test)]
mod tests;

/// The longest payload.
pub(super) const PAYLOAD_MAX: usize = 64 << 10;
/// A tag and a length.
const HEAD: usize = 5;

/// A message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The client wants a shell. The first message.
    Open(Open),
    /// There it is, and whether it is a terminal. The server's first message, unless it is `Failed`.
    Opened {
        /// Whether the shell has a terminal.
        is_terminal: bool,
    },
    /// What was typed.
    Input(Vec<u8>),
    /// There is no more input.
    InputEnd,
    /// The client's terminal has another size.
    Resize(TerminalSize),
    /// What the shell says.
    Output(Vec<u8>),
    /// What it says of errors, if that comes apart.
    Errors(Vec<u8>),
    /// It has ended. The server's last message.
    Ended(i32),
    /// It could not be opened, or was lost. The server's last message.
    Failed {
        /// The client asked for what there is not.
        is_usage: bool,
        /// Why.
        text: String,
    },
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// The machine.
    pub(super) machine: String,
    /// The columns and rows of its terminal and what `TERM` says, if it sits at one.
    pub(super) terminal: Option<(u16, u16, String)>,
}

impl Message {
    /// The message as bytes. What is too long is cut into several.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let mut add = |tag: u8, payload: &[u8]| {
            bytes.push(tag);
            // No chunk is longer than `PAYLOAD_MAX`.
            bytes.extend(u32::try_from(payload.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(payload);
        };
        let mut add_all = |tag: u8, payload: &[u8]| {
            payload
                .chunks(PAYLOAD_MAX)
                .for_each(|piece| add(tag, piece));
        };
        match self {
            Self::Input(payload) => add_all(b'i', payload),
            Self::Output(payload) => add_all(b'o', payload),
            Self::Errors(payload) => add_all(b'e', payload),
            Self::Open(open) => add(b'O', &serde_json::to_vec(open).unwrap_or_default()),
            Self::Opened { is_terminal } => add(b'T', &[u8::from(*is_terminal)]),
            Self::InputEnd => add(b'.', &[]),
            Self::Resize(size) => {
                let [a, b] = size.columns.to_le_bytes();
                let [c, d] = size.rows.to_le_bytes();
                add(b's', &[a, b, c, d]);
            }
            Self::Ended(status) => add(b'X', &status.to_le_bytes()),
            Self::Failed { is_usage, text } => {
                let mut payload = vec![u8::from(*is_usage)];
                let end = text.floor_char_boundary(PAYLOAD_MAX - 1);
                payload.extend(text.as_bytes().get(..end).unwrap_or_default());
                add(b'F', &payload);
            }
        }
    }

    fn decode(tag: u8, payload: &[u8]) -> Option<Self> {
        Some(match tag {
            b'i' => Self::Input(payload.to_vec()),
            b'o' => Self::Output(payload.to_vec()),
            b'e' => Self::Errors(payload.to_vec()),
            b'O' => Self::Open(serde_json::from_slice(payload).ok()?),
            b'T' => Self::Opened {
                is_terminal: payload.first()? != &0,
            },
            b'.' => Self::InputEnd,
            b's' => {
                let &[a, b, c, d] = payload else { return None };
                Self::Resize(TerminalSize {
                    columns: u16::from_le_bytes([a, b]),
                    rows: u16::from_le_bytes([c, d]),
                })
            }
            b'X' => Self::Ended(i32::from_le_bytes(payload.try_into().ok()?)),
            b'F' => {
                let (is_usage, text) = payload.split_first()?;
                Self::Failed {
                    is_usage: *is_usage != 0,
                    text: String::from_utf8_lossy(text).into_owned(),
                }
            }
            _ => return None,
        })
    }
}

/// Turns bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

/// The other side is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Decoder {
    /// Takes what was read.
    pub(super) fn handle_read(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(super) fn poll(&mut self) -> Result<Option<Message>, Garbled> {
        let Some((&[tag, a, b, c, d], rest)) = self.bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| Garbled)?;
        if len > PAYLOAD_MAX {
            return Err(Garbled);
        }
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let message = Message::decode(tag, payload).ok_or(Garbled)?;
        self.bytes.drain(..HEAD + len);
        Ok(Some(message))
    }
}

/// What the fuzzer does with its bytes: whatever pieces they come in, the same messages are in them, and a message that is sent on
/// arrives as it is.
pub(super) fn fuzz(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    let (found, _) = decode_pieces(bytes, usize::from(size).max(1));
    let (whole, _) = decode_pieces(bytes, bytes.len().max(1));
    assert_eq!(found, whole, "pieces changed the messages");
    let mut sent = Vec::new();
    for message in found {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let (arrived, is_whole) = decode_pieces(&bytes, PAYLOAD_MAX);
        assert!(
            is_whole,
            "what we encode is not whole messages: {message:?}"
        );
        sent.extend(arrived);
    }
    for message in sent {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let (arrived, _) = decode_pieces(&bytes, PAYLOAD_MAX);
        assert_eq!(arrived, [message], "a round trip changed the message");
    }
}

/// The messages in these bytes up to the first that is none, and whether that is all of the bytes.
fn decode_pieces(bytes: &[u8], size: usize) -> (Vec<Message>, bool) {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(size) {
        decoder.handle_read(piece);
        loop {
            match decoder.poll() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(Garbled) => return (found, false),
            }
        }
        assert!(
            decoder.bytes.len() < HEAD + PAYLOAD_MAX,
            "what waits for its end is longer than a message"
        );
    }
    (found, decoder.bytes.is_empty())
}
