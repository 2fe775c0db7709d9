//! Frames in a byte stream, each behind its length: four bytes, big-endian. `qemu -netdev stream` speaks it.

use super::{FRAME_MAX, Span};

/// Bytes of the length in front of each frame.
pub const PREFIX_LEN: usize = 4;

/// Most bytes taken from a stream at a time, so that one busy stream does not keep the others waiting.
const READ_MAX: usize = 64 * 1024;

/// A length that no frame has: the two ends have lost step, and nothing behind it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream announces a frame of {0} bytes; {FRAME_MAX} is the most")]
pub struct TooLong(pub u32);

/// Cuts a byte stream into frames, without copying them.
///
/// Fill [`Deframer::space`], say how much with [`Deframer::handle_read`], then call [`Deframer::poll_frame`] until
/// it has no more; a frame that is still on its way stays for the next round.
#[derive(Debug)]
pub struct Deframer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Deframer {
    fn default() -> Deframer {
        // A whole frame always fits behind what is left of the last read.
        let buffer = vec![0; PREFIX_LEN + FRAME_MAX + READ_MAX].into_boxed_slice();
        Deframer {
            buffer,
            start: 0,
            end: 0,
        }
    }
}

impl Deframer {
    /// Gives room for the next bytes; never none, once every whole frame was polled.
    pub fn space(&mut self) -> &mut [u8] {
        if self.buffer.len() - self.start < PREFIX_LEN + FRAME_MAX || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let until = self.buffer.len().min(self.end + READ_MAX);
        &mut self.buffer[self.end..until]
    }

    /// Takes the first `len` bytes of [`Deframer::space`] as read.
    pub fn handle_read(&mut self, len: usize) {
        self.end = self.buffer.len().min(self.end + len);
    }

    /// Gives the place of the next whole frame in [`Deframer::bytes`]; empty frames are left out.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; the stream is of no use from then on.
    pub fn poll_frame(&mut self) -> Result<Option<Span>, TooLong> {
        loop {
            let Some(prefix) = self.buffer[self.start..self.end].first_chunk() else {
                return Ok(None);
            };
            let announced = u32::from_be_bytes(*prefix);
            let len = announced as usize;
            if len > FRAME_MAX {
                return Err(TooLong(announced));
            }
            let start = self.start + PREFIX_LEN;
            if self.end - start < len {
                return Ok(None);
            }
            self.start = start + len;
            if len > 0 {
                return Ok(Some(Span::new(start, len)));
            }
        }
    }

    /// Gives the buffer that the spans are of, until the next [`Deframer::space`].
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

/// Builds what goes in front of a frame.
#[inline]
pub fn prefix(len: usize) -> [u8; PREFIX_LEN] {
    debug_assert!(len <= FRAME_MAX, "a frame of {len} bytes");
    (len as u32).to_be_bytes()
}

/// What the fuzzer does with its bytes: cut in pieces or in one go, a stream has the same frames.
///
/// The first byte says how small the pieces are.
pub fn fuzz(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let whole = deframe(stream, READ_MAX);
    let pieces = deframe(stream, usize::from(piece) + 1);
    assert_eq!(whole, pieces, "the size of the pieces changed the frames");
}

/// Gives all frames of a stream that comes in pieces, and whether it lost step.
fn deframe(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let (mut deframer, mut frames, mut rest) = (Deframer::default(), Vec::new(), stream);
    while !rest.is_empty() {
        let space = deframer.space();
        let len = piece.min(rest.len()).min(space.len());
        assert_ne!(len, 0, "no room, though every whole frame was polled");
        space[..len].copy_from_slice(&rest[..len]);
        deframer.handle_read(len);
        rest = &rest[len..];
        loop {
            match deframer.poll_frame() {
                Ok(Some(span)) => frames.push(span.of(deframer.bytes()).to_vec()),
                Ok(None) => break,
                Err(too_long) => return (frames, Some(too_long)),
            }
        }
    }
    (frames, None)
}
