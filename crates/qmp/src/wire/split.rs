//! Where messages end.

use super::{MESSAGE_MAX, Malformed};

/// Cuts a stream of bytes into JSON objects.
///
/// Its work is linear in the bytes: what was looked at stays looked at, however small the pieces that come in.
///
/// ```
/// use hotbed_qmp::wire::Splitter;
///
/// let mut splitter = Splitter::default();
/// splitter.handle_bytes(b"{\"return\"");
/// assert_eq!(splitter.poll_message()?, None);
/// splitter.handle_bytes(b": {}}\r\n");
/// assert_eq!(splitter.poll_message()?, Some(&b"{\"return\": {}}"[..]));
/// # Ok::<(), hotbed_qmp::wire::Malformed>(())
/// ```
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    /// Where the message that is being looked at begins.
    start: usize,
    /// Where to go on looking.
    next: usize,
    /// How many brackets are open at `next`.
    depth: usize,
    /// Whether `next` is in a string, and whether after a backslash in it.
    string: Option<Escape>,
    /// Why this is not QMP. Once it is not, nothing after it can be trusted.
    broken: Option<Malformed>,
}

/// Whether the next character of a string is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    Yes,
}

/// The most memory, in bytes, that is kept for the next message after a long one.
const IDLE_MAX: usize = 1 << 20;

impl Splitter {
    /// Takes the next bytes of the stream.
    ///
    /// Call [`poll_message`](Splitter::poll_message) until it gives none after each call: only that bounds what is
    /// held.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        self.forget_taken();
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the next whole message, or none yet.
    ///
    /// # Errors
    ///
    /// If the stream has something between messages that is not white space, or a message longer than
    /// [`MESSAGE_MAX`]. The stream is then over: each later call gives the same error.
    pub fn poll_message(&mut self) -> Result<Option<&[u8]>, Malformed> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        match self.find_end() {
            Ok(None) => Ok(None),
            Ok(Some(end)) => {
                let message = self.start..end;
                self.start = end;
                Ok(Some(&self.bytes[message]))
            }
            Err(broken) => {
                self.bytes = Vec::new();
                self.broken = Some(broken.clone());
                Err(broken)
            }
        }
    }

    /// Says whether the stream stands inside a message.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }

    fn find_end(&mut self) -> Result<Option<usize>, Malformed> {
        if self.depth == 0 && !self.find_start()? {
            return Ok(None);
        }
        let limit = self.bytes.len().min(self.start.saturating_add(MESSAGE_MAX));
        while self.next < limit {
            let byte = self.bytes[self.next];
            self.next += 1;
            match (self.string, byte) {
                (Some(Escape::Yes), _) => self.string = Some(Escape::No),
                (Some(Escape::No), b'\\') => self.string = Some(Escape::Yes),
                (Some(Escape::No), b'"') => self.string = None,
                (Some(Escape::No), _) => {}
                (None, b'"') => self.string = Some(Escape::No),
                (None, b'{' | b'[') => self.depth += 1,
                (None, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.next));
                    }
                }
                (None, _) => {}
            }
        }
        if self.next - self.start >= MESSAGE_MAX {
            let reason = format!("a message of more than {MESSAGE_MAX} bytes");
            return Err(Malformed::new(reason, &self.bytes[self.start..]));
        }
        Ok(None)
    }

    /// Passes over white space up to the bracket that opens a message; says whether there is one.
    fn find_start(&mut self) -> Result<bool, Malformed> {
        while let Some(&byte) = self.bytes.get(self.next) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.next += 1,
                b'{' => {
                    self.start = self.next;
                    self.next += 1;
                    self.depth = 1;
                    return Ok(true);
                }
                _ => {
                    return Err(Malformed::new(
                        "text outside of a message",
                        &self.bytes[self.next..],
                    ));
                }
            }
        }
        self.start = self.next;
        Ok(false)
    }

    /// Lets go of the bytes of messages that were given.
    ///
    /// The rest is moved only if it is the smaller part, so that all moves together cost no more than the bytes.
    fn forget_taken(&mut self) {
        if self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.next -= self.start;
            self.start = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_MAX {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
impl Splitter {
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
