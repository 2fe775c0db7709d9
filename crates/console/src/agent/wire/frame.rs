//! Bytes to frames and back. Every length check is here.

use super::{HEADER_MAX, MAGIC, PAYLOAD_MAX, PREAMBLE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// What a frame begins with: its magic and two lengths.
const HEAD_LEN: usize = 12;

/// A preamble with the session's number.
const PREAMBLE_LEN: usize = PREAMBLE.len() + 8;

/// The longest frame.
const FRAME_MAX: usize = HEAD_LEN + HEADER_MAX + PAYLOAD_MAX;

/// How many bytes a [`Decoder`] holds: a frame, and room for reads not to become small.
const CAPACITY: usize = FRAME_MAX + (192 << 10);

/// No read is given less room than this.
const SPACE_MIN: usize = 32 << 10;

/// How many bytes of what is no frame are told.
const FOUND_MAX: usize = 32;

/// Why bytes are no frame, or a message cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Neither a frame nor a preamble stands where one must.
    #[error("neither a frame nor a preamble: {}", .0.escape_ascii())]
    NotAFrame(Vec<u8>),
    /// A header is longer than [`HEADER_MAX`].
    #[error("a header of {0} bytes is too long")]
    HeaderTooLong(usize),
    /// A payload is longer than [`PAYLOAD_MAX`].
    #[error("a payload of {0} bytes is too long")]
    PayloadTooLong(usize),
    /// A header is no message.
    #[error("a header that is no message: {0}")]
    NotAMessage(String),
}

/// What was found in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A session begins, or was announced (number 0).
    Preamble {
        /// Its number.
        session: u64,
    },
    /// A frame.
    Message {
        /// Its header.
        message: M,
        /// Its payload, where it was read to.
        payload: &'a [u8],
    },
}

/// Finds frames in a stream. It holds a bounded part of it: what is read goes to [`space`](Self::space), and payloads are borrowed
/// from there.
pub struct Decoder {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    in_session: bool,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("undecided", &(self.end - self.start))
            .field("in_session", &self.in_session)
            .finish()
    }
}

/// One without memory, to stand in for another that is lent.
impl Default for Decoder {
    fn default() -> Self {
        Self {
            buffer: Box::default(),
            start: 0,
            end: 0,
            in_session: false,
        }
    }
}

impl Decoder {
    /// Makes a decoder that waits for a preamble.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
            in_session: false,
        }
    }

    /// Where the next bytes are to be read to. It is not empty if [`poll`](Self::poll) gave all that it could.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let wanted = self
            .frame_len()
            .unwrap_or(0)
            .saturating_sub(self.end - self.start);
        if self.start > 0 && self.buffer.len() - self.end < wanted.max(SPACE_MIN) {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Takes note that so many bytes were read.
    pub fn handle_read(&mut self, len: usize) {
        self.end = (self.end + len).min(self.buffer.len());
    }

    /// Copies as many of these bytes as there is room for, and says how many.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let len = bytes.len().min(space.len());
        space[..len].copy_from_slice(&bytes[..len]);
        self.handle_read(len);
        len
    }

    /// Whether a part of something was read whose rest is to come.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.start < self.end
    }

    /// Forgets everything and waits for a preamble.
    pub fn reset(&mut self) {
        (self.start, self.end) = (0, 0);
        self.in_session = false;
    }

    /// Takes note that nothing more comes for now.
    ///
    /// A frame whose sender vanished in the middle never ends, and swallows the preamble of the next session. Such a preamble (alone,
    /// or with the frame that greets) is the last thing to come, as its sender waits for an answer: then it counts, and the frame is
    /// forgotten. Says whether it was so.
    pub fn handle_quiet(&mut self) -> bool {
        let held = &self.buffer[self.start..self.end];
        if !self.in_session || held.starts_with(&PREAMBLE) {
            return false;
        }
        let Some(at) = memchr::memmem::rfind(held, &PREAMBLE) else {
            return false;
        };
        let rest = &held[at + PREAMBLE.len()..];
        let whole = match rest.len() {
            ..8 => false,
            8 => true,
            len => {
                let (header, payload) = lengths(&rest[8..]);
                rest[8..].starts_with(&MAGIC) && len - 8 == HEAD_LEN + header + payload
            }
        };
        if whole {
            self.start += at;
        }
        whole
    }

    /// Finds the next item. `Ok(None)`: more must be read first.
    ///
    /// # Errors
    ///
    /// What comes is not what a session consists of. The decoder waits for a preamble then.
    pub fn poll<M: DeserializeOwned>(&mut self) -> Result<Option<Item<'_, M>>, WireError> {
        if !self.in_session {
            self.skip_to_preamble();
        }
        let held = &self.buffer[self.start..self.end];
        if is_begun(held, &PREAMBLE) {
            let Some(number) = held.get(PREAMBLE.len()..PREAMBLE_LEN) else {
                return Ok(None);
            };
            let session = u64::from_le_bytes(number.try_into().unwrap_or_default());
            self.start += PREAMBLE_LEN;
            self.in_session = true;
            return Ok(Some(Item::Preamble { session }));
        }
        if !self.in_session {
            return Ok(None);
        }
        match decode(held) {
            Ok(None) => Ok(None),
            Ok(Some((message, payload_at, frame_len))) => {
                let frame_at = self.start;
                self.start += frame_len;
                let payload = &self.buffer[frame_at + payload_at..frame_at + frame_len];
                Ok(Some(Item::Message { message, payload }))
            }
            Err(error) => {
                // The next preamble may have come already.
                self.in_session = false;
                self.start += 1;
                Err(error)
            }
        }
    }

    /// Skips to where a preamble stands, or may be about to stand.
    fn skip_to_preamble(&mut self) {
        let held = &self.buffer[self.start..self.end];
        self.start = memchr::memmem::find(held, &PREAMBLE).map_or_else(
            || self.end - held.len().min(PREAMBLE.len() - 1),
            |at| self.start + at,
        );
        // What is kept may hold no beginning of a preamble at its front.
        while self.start < self.end && !is_begun(&self.buffer[self.start..self.end], &PREAMBLE) {
            self.start += 1;
        }
    }

    /// The length of the frame that is being read, if it is known.
    fn frame_len(&self) -> Option<usize> {
        let held = &self.buffer[self.start..self.end];
        if !self.in_session || held.len() < HEAD_LEN || !held.starts_with(&MAGIC) {
            return None;
        }
        let (header, payload) = lengths(held);
        Some(HEAD_LEN + header.min(HEADER_MAX) + payload.min(PAYLOAD_MAX))
    }
}

/// Whether bytes begin with this, or may do so when more have come.
fn is_begun(bytes: &[u8], with: &[u8]) -> bool {
    let len = bytes.len().min(with.len());
    len > 0 && bytes[..len] == with[..len]
}

/// The two lengths in the head of a frame; zero where it is not whole.
fn lengths(head: &[u8]) -> (usize, usize) {
    let field = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes) as usize
    };
    (field(4), field(8))
}

/// Reads the frame at the front: its message, where its payload begins, and its length.
fn decode<M: DeserializeOwned>(held: &[u8]) -> Result<Option<(M, usize, usize)>, WireError> {
    if held.is_empty() {
        return Ok(None);
    }
    if !is_begun(held, &MAGIC) {
        let found = held[..held.len().min(FOUND_MAX)].to_vec();
        return Err(WireError::NotAFrame(found));
    }
    if held.len() < HEAD_LEN {
        return Ok(None);
    }
    let (header_len, payload_len) = lengths(held);
    if header_len > HEADER_MAX {
        return Err(WireError::HeaderTooLong(header_len));
    }
    if payload_len > PAYLOAD_MAX {
        return Err(WireError::PayloadTooLong(payload_len));
    }
    let payload_at = HEAD_LEN + header_len;
    if held.len() < payload_at + payload_len {
        return Ok(None);
    }
    match postcard::take_from_bytes::<M>(&held[HEAD_LEN..payload_at]) {
        Ok((message, [])) => Ok(Some((message, payload_at, payload_at + payload_len))),
        Ok((_, rest)) => Err(WireError::NotAMessage(format!(
            "{} bytes too many",
            rest.len()
        ))),
        Err(error) => Err(WireError::NotAMessage(error.to_string())),
    }
}

/// Appends what a session begins with.
pub fn encode_preamble(session: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&PREAMBLE);
    out.extend_from_slice(&session.to_le_bytes());
}

/// Appends a frame.
///
/// # Errors
///
/// The message or the payload is too long; nothing is appended then.
pub fn encode_frame<M: Serialize>(
    message: &M,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let frame = OpenFrame::new(message, out)?;
    out.extend_from_slice(payload);
    frame.close(out)
}

/// A frame whose payload is still to be appended, for payloads that are read to where they are sent from.
#[must_use]
#[derive(Debug)]
pub struct OpenFrame {
    at: usize,
    payload_at: usize,
}

impl OpenFrame {
    /// Appends all of a frame but its payload.
    ///
    /// # Errors
    ///
    /// The message is too long; nothing is appended then.
    pub fn new<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<Self, WireError> {
        let at = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]);
        if let Err(error) = postcard::to_io(message, &mut *out) {
            out.truncate(at);
            return Err(WireError::NotAMessage(error.to_string()));
        }
        let payload_at = out.len();
        let header_len = payload_at - at - HEAD_LEN;
        if header_len > HEADER_MAX {
            out.truncate(at);
            return Err(WireError::HeaderTooLong(header_len));
        }
        set_length(&mut out[at + 4..], header_len);
        Ok(Self { at, payload_at })
    }

    /// How long the payload is by now.
    #[must_use]
    pub fn payload_len(&self, out: &[u8]) -> usize {
        out.len().saturating_sub(self.payload_at)
    }

    /// Takes what was appended since as the payload.
    ///
    /// # Errors
    ///
    /// It is too long; the frame is taken back then.
    pub fn close(self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let payload_len = self.payload_len(out);
        if payload_len > PAYLOAD_MAX {
            out.truncate(self.at);
            return Err(WireError::PayloadTooLong(payload_len));
        }
        set_length(&mut out[self.at + 8..], payload_len);
        Ok(())
    }

    /// Takes the frame back.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.at);
    }
}

/// Writes a length that was checked.
fn set_length(field: &mut [u8], len: usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    field[..4].copy_from_slice(&len.to_le_bytes());
}
