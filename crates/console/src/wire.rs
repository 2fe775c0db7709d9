//! Finds the answers in what comes from the guest.
//!
//! The form of an answer stands at the top of `script/prelude.sh`. Each carries the session's random name and the number
//! of its command, so that nothing else on the console is taken for one: kernel messages, what a stray process writes,
//! the late answer of an abandoned command. And each part of its output has a length, which is checked before the part
//! is handed out: QEMU drops what the host does not read in time.
//!
//! [`Parser`] looks at each byte once or twice, whatever the pieces, and keeps no more than [`INPUT_MAX`] +
//! [`TEXT_MAX`] + [`BLOCK_MAX`] of them.

use std::collections::VecDeque;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

mod fuzz;
mod head;
#[cfg(test)]
mod tests;

pub use fuzz::fuzz_answers;
use head::{Frame, Head, Kind, Mark, Parsed, Verdict};

/// What the guest prints when its root shell is ready.
pub const ANNOUNCEMENT: &[u8] = b"Spawning backdoor root shell...";

/// How many bytes the parser takes at once.
pub const INPUT_MAX: usize = 64 << 10;

/// The longest text that an answer may begin with; the guest's own limit is lower.
pub const TEXT_MAX: usize = 4 << 10;

/// The longest block of output. A block of this length has another one behind it.
pub const BLOCK_MAX: usize = 64 << 10;

/// A block of base64 of this length has another one behind it.
pub const BASE64_BLOCK: usize = 4 << 10;

/// How much is kept of what is no answer.
pub const HEARD_MAX: usize = 16 << 10;

/// The status of a command that was ended after its timeout.
const TIMED_OUT: u8 = 124;

/// Stands in a text before a byte that says what is meant.
const ESCAPE: u8 = 30;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A root shell announced itself.
    Announced,
    /// A piece of the wanted command's output, never empty.
    Output(Vec<u8>),
    /// The guest waits for leave to send more of the wanted command's output.
    Paused,
    /// The output so far is to be forgotten: another attempt follows.
    Discard,
    /// The wanted command ended with this status.
    End(u8),
    /// The guest's shell could not do its part, for want of this.
    Unable(String),
    /// The guest waits for the bytes of a file.
    Go,
    /// The guest wants no more bytes of a file.
    Stop,
    /// The wanted answer is damaged.
    Garbled(&'static str),
}

/// Where the parser is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Between answers.
    Outside,
    /// Behind the head of an answer that ends with its text.
    Whole(Head),
    /// In a block of a longer answer; the first begins with the text. So many of its bytes hold no mark.
    Block {
        head: Head,
        first: bool,
        searched: usize,
    },
}

/// Turns what comes from the guest, in any pieces, into [`Event`]s.
#[derive(Debug)]
pub struct Parser {
    /// The session's name and a dot.
    name: Vec<u8>,
    name_finder: memmem::Finder<'static>,
    announcement_finder: memmem::Finder<'static>,
    wanted: Option<u64>,
    place: Place,
    /// Base64 of which the rest is in the next block.
    group: Vec<u8>,
    /// What is not decided yet.
    buffer: Vec<u8>,
    heard: Vec<u8>,
    events: VecDeque<Event>,
}

impl Parser {
    /// Makes a parser for the answers of the session with this name.
    #[must_use]
    pub fn new(session: &str) -> Self {
        let name = format!("{session}.").into_bytes();
        Self {
            name_finder: memmem::Finder::new(&name).into_owned(),
            announcement_finder: memmem::Finder::new(ANNOUNCEMENT),
            name,
            wanted: None,
            place: Place::Outside,
            group: Vec::new(),
            buffer: Vec::new(),
            heard: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Sets the number of the command whose answer is wanted. All others are skipped.
    pub fn want(&mut self, number: Option<u64>) {
        self.wanted = number;
        self.events.retain(|event| *event == Event::Announced);
    }

    /// Forgets what was not decided yet.
    pub fn reset(&mut self) {
        self.place = Place::Outside;
        self.buffer.clear();
        self.heard.clear();
        self.events.clear();
    }

    /// Takes bytes from the guest. They should be no more than [`INPUT_MAX`] at once, and
    /// [`poll_event`](Self::poll_event) be asked before more are given: then memory is bounded.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(used) = self.step(at) {
            at += used;
        }
        self.buffer.drain(..at);
    }

    /// Gives the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The last of what the guest sent outside of answers.
    #[must_use]
    pub fn heard(&self) -> &[u8] {
        &self.heard[self.heard.len().saturating_sub(HEARD_MAX)..]
    }

    /// The last bytes from the guest, whatever they are, but for the output that was found.
    #[must_use]
    pub fn last(&self, len: usize) -> Vec<u8> {
        let mut last = self.heard[self.heard.len().saturating_sub(len)..].to_vec();
        last.extend_from_slice(&self.buffer[self.buffer.len().saturating_sub(len)..]);
        last.drain(..last.len().saturating_sub(len));
        last
    }

    /// Goes on from this place in the buffer. Says how much is decided, or nothing if that needs more bytes.
    fn step(&mut self, at: usize) -> Option<usize> {
        match self.place {
            Place::Outside => self.search(at),
            Place::Whole(head) => self.whole(at, head),
            Place::Block {
                head,
                first,
                searched,
            } => self.block(at, head, first, searched),
        }
    }

    /// Looks for the start of an answer, or for an announcement.
    fn search(&mut self, at: usize) -> Option<usize> {
        let rest = &self.buffer[at..];
        let name = self.name_finder.find(rest);
        let announced = self.announcement_finder.find(rest);
        if let Some(start) = announced.filter(|start| name.is_none_or(|name| *start < name)) {
            let used = start + ANNOUNCEMENT.len();
            self.hear(at, used);
            self.events.push_back(Event::Announced);
            return Some(used);
        }
        let Some(name) = name else {
            // What may be the beginning of either stays.
            let used = rest
                .len()
                .checked_sub(ANNOUNCEMENT.len().max(self.name.len() + 1))?;
            self.hear(at, used);
            return (used > 0).then_some(used);
        };
        let after = name + self.name.len();
        let start = name.saturating_sub(1);
        match (
            &rest[start..name],
            head::frame(&rest[after..]),
            head::mark(&rest[after..]),
        ) {
            (b"<", Parsed::Partial, _) | (b"|", _, Parsed::Partial) => {
                self.hear(at, start);
                (start > 0).then_some(start)
            }
            (b"<", Parsed::Value(frame, len), _) => {
                self.hear(at, start);
                self.begin(frame);
                Some(after + len)
            }
            (b"<", Parsed::Wrong, _) => {
                self.garbled(None, "its head");
                Some(after)
            }
            (b"|", _, Parsed::Value((number, _), len)) => {
                self.garbled(Some(number), "it has no head");
                Some(after + len)
            }
            _ => Some(after),
        }
    }

    fn begin(&mut self, frame: Frame) {
        match frame {
            Frame::Go(number) => self.emit(number, Event::Go),
            Frame::Stop(number) => self.emit(number, Event::Stop),
            Frame::Answer(head) if head.kind == Kind::Whole => self.place = Place::Whole(head),
            Frame::Answer(head) => {
                self.group.clear();
                self.place = Place::Block {
                    head,
                    first: true,
                    searched: 0,
                };
            }
        }
    }

    /// Takes an answer that is complete with its text.
    fn whole(&mut self, at: usize, head: Head) -> Option<usize> {
        let rest = &self.buffer[at..];
        let (verdict, len) = match self.mark(rest.get(head.len..)?) {
            Parsed::Partial => return None,
            Parsed::Value((number, Mark::End(verdict)), len) if number == head.number => {
                (verdict, len)
            }
            Parsed::Value(..) | Parsed::Wrong => return Some(self.leave(head.number, 0)),
        };
        let Some(text) = unescape(&rest[..head.len]) else {
            return Some(self.leave(head.number, 0));
        };
        self.output(head.number, text);
        self.end(head.number, verdict);
        Some(head.len + len)
    }

    /// Looks for the mark that ends a block.
    fn block(&mut self, at: usize, head: Head, first: bool, mut searched: usize) -> Option<usize> {
        loop {
            let rest = &self.buffer[at..];
            let bar = memchr::memchr(b'|', &rest[searched..]);
            let start = bar.map_or(rest.len(), |bar| searched + bar);
            if start > TEXT_MAX + BLOCK_MAX {
                return Some(self.leave(head.number, TEXT_MAX + BLOCK_MAX));
            }
            match self.mark(&rest[start..]) {
                Parsed::Value((number, mark), len) if number == head.number => {
                    if self
                        .take_block(at..at + start, head, first, &mark)
                        .is_none()
                    {
                        return Some(self.leave(number, start + len));
                    }
                    return Some(start + len);
                }
                Parsed::Partial => {
                    self.place = Place::Block {
                        head,
                        first,
                        searched: start,
                    };
                    return None;
                }
                // Output that looks like a mark.
                Parsed::Value(..) | Parsed::Wrong => searched = start + 1,
            }
        }
    }

    /// Takes the bytes before a mark, which are a block, with the text before the first one. Does nothing and says so if
    /// they are not what they should be.
    fn take_block(
        &mut self,
        bytes: Range<usize>,
        head: Head,
        first: bool,
        mark: &Mark,
    ) -> Option<()> {
        let bytes = &self.buffer[bytes];
        let (text, block) = bytes.split_at_checked(if first { head.len } else { 0 })?;
        let mut piece = unescape(text)?;
        if first && head.kind == Kind::Nul {
            piece.push(0);
        }
        let full = match mark {
            Mark::Raw(len) => {
                piece.extend_from_slice(block);
                let whole = len.map_or(block.len() < BLOCK_MAX, |len| block.len() == len);
                whole.then_some(BLOCK_MAX)?
            }
            Mark::Base64(len) => {
                self.group.extend_from_slice(block);
                let rest = self.group.split_off(self.group.len() / 4 * 4);
                piece.extend(
                    STANDARD
                        .decode(std::mem::replace(&mut self.group, rest))
                        .ok()?,
                );
                (block.len() == *len).then_some(BASE64_BLOCK)?
            }
            Mark::End(Verdict::Unable(_)) => usize::MAX,
            // A base64 that was ended early may leave an unfinished group, but only then.
            Mark::End(Verdict::Status(TIMED_OUT)) => block.is_empty().then_some(usize::MAX)?,
            Mark::End(_) => (block.is_empty() && self.group.is_empty()).then_some(usize::MAX)?,
        };
        let paused = block.len() == full;
        self.output(head.number, piece);
        if let Mark::End(verdict) = mark {
            self.end(head.number, verdict.clone());
        } else {
            self.place = Place::Block {
                head,
                first: false,
                searched: 0,
            };
        }
        if paused {
            self.emit(head.number, Event::Paused);
        }
        Some(())
    }

    /// Reads the mark that should stand at the start of these bytes.
    fn mark(&self, bytes: &[u8]) -> Parsed<(u64, Mark)> {
        let sign = [b'|'].iter().chain(&self.name);
        let len = self.name.len() + 1;
        if !bytes.iter().take(len).eq(sign.take(bytes.len())) {
            return Parsed::Wrong;
        }
        match bytes.get(len..).map(head::mark) {
            Some(Parsed::Value(mark, mark_len)) => Parsed::Value(mark, len + mark_len),
            Some(Parsed::Wrong) => Parsed::Wrong,
            Some(Parsed::Partial) | None => Parsed::Partial,
        }
    }

    /// The answer with this number is damaged. What follows is looked through for an announcement or an answer.
    fn leave(&mut self, number: u64, used: usize) -> usize {
        self.place = Place::Outside;
        self.garbled(Some(number), "its output");
        used
    }

    fn output(&mut self, number: u64, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.emit(number, Event::Output(piece));
        }
    }

    fn end(&mut self, number: u64, verdict: Verdict) {
        self.place = Place::Outside;
        let event = match verdict {
            Verdict::Status(status) => Event::End(status),
            Verdict::Discard => Event::Discard,
            Verdict::Unable(what) => Event::Unable(what),
        };
        self.emit(number, event);
    }

    /// Without a number the answer is taken for the wanted one: it cannot be told, and must not be lost silently.
    fn garbled(&mut self, number: Option<u64>, what: &'static str) {
        if let Some(number) = number.or(self.wanted) {
            self.emit(number, Event::Garbled(what));
        }
    }

    fn emit(&mut self, number: u64, event: Event) {
        if self.wanted == Some(number) {
            self.events.push_back(event);
        }
    }

    fn hear(&mut self, at: usize, len: usize) {
        self.heard.extend_from_slice(&self.buffer[at..at + len]);
        if self.heard.len() > 2 * HEARD_MAX {
            self.heard.drain(..self.heard.len() - HEARD_MAX);
        }
    }
}

/// Gives the output that a text stands for.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        output.push(match byte {
            &ESCAPE => match bytes.next()? {
                b'0' => ESCAPE,
                b'1' => b'\n',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(output)
}
