//! Finds the answers in what comes from the guest.
//!
//! The form of an answer stands at the top of `script/prelude.sh`. Each carries the session's random name and the number
//! of its command, so that nothing else on the console is taken for one: kernel messages, what a stray process writes, the
//! late answer of an abandoned command. [`Parser`] looks at each byte once or twice, whatever the pieces, and keeps no more
//! than [`INPUT_MAX`] + [`TEXT_MAX`] of them; output leaves it as it comes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use std::collections::VecDeque;

mod fuzz;
mod head;
#[cfg(test)]
mod tests;

pub use fuzz::fuzz_answers;
use head::{Frame, Head, Kind, Parsed, Verdict};

/// What the guest prints when its root shell is ready.
pub const ANNOUNCEMENT: &[u8] = b"Spawning backdoor root shell...";

/// How many bytes the parser takes at once.
pub const INPUT_MAX: usize = 64 << 10;

/// The longest output that an answer may hold as it is; the guest's own limit is lower.
pub const TEXT_MAX: usize = 4 << 10;

/// How much is kept of what is no answer.
pub const HEARD_MAX: usize = 16 << 10;

/// How much of a stream of base64 is held back until it is clear that it goes on: an announcement in its midst is found.
const HELD_BACK: usize = 32;

/// Stands between the text of an answer and the base64 that follows it.
const SEPARATOR: u8 = 1;

/// The status of a command that was ended after its timeout.
const TIMED_OUT: u8 = 124;

/// What the guest sends for a newline in an answer of kind `~`.
const NEWLINE: u8 = 30;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A root shell announced itself.
    Announced,
    /// A piece of the wanted command's output, never empty.
    Output(Vec<u8>),
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
    /// In the text of a longer answer, of which so much is to come.
    Text(Head, usize),
    /// In the base64 of a longer answer.
    Stream(Head),
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
            buffer: Vec::new(),
            heard: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Sets the number of the command whose answer is wanted. All others are skipped.
    pub fn want(&mut self, number: Option<u64>) {
        self.wanted = number;
        self.events.clear();
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
        while let Some(next) = self.step(at) {
            at = next;
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

    /// What the parser holds, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let output = |event: &Event| {
            if let Event::Output(piece) = event {
                piece.capacity()
            } else {
                0
            }
        };
        self.buffer.capacity()
            + self.heard.capacity()
            + self.events.iter().map(output).sum::<usize>()
    }

    /// Goes on from this place in the buffer. Says up to where it is decided now, or nothing if more bytes are needed.
    fn step(&mut self, at: usize) -> Option<usize> {
        let used = match self.place {
            Place::Outside => self.search(at),
            Place::Whole(head) => self.whole(at, head),
            Place::Text(head, left) => self.text(at, head, left),
            Place::Stream(head) => self.stream(at, head),
        }?;
        debug_assert!(
            used <= self.buffer.len() - at,
            "more was decided than is there"
        );
        Some(at + used)
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
        let sign = name
            .checked_sub(1)
            .and_then(|before| rest.get(before))
            .copied();
        match sign {
            Some(b'<') => match head::frame(&rest[after..]) {
                Parsed::Partial => {
                    self.hear(at, name - 1);
                    (name > 1).then_some(name - 1)
                }
                Parsed::Wrong => {
                    self.garbled(None, "its head");
                    Some(after)
                }
                Parsed::Value(frame, len) => {
                    self.hear(at, name - 1);
                    self.begin(frame);
                    Some(after + len)
                }
            },
            Some(b'|') => match head::tail(&rest[after..]) {
                Parsed::Partial => (name > 1).then(|| {
                    self.hear(at, name - 1);
                    name - 1
                }),
                Parsed::Wrong => Some(after),
                Parsed::Value((number, _), len) => {
                    self.garbled(Some(number), "no head");
                    Some(after + len)
                }
            },
            _ => Some(after),
        }
    }

    fn begin(&mut self, frame: Frame) {
        match frame {
            Frame::Go(number) => self.emit(number, Event::Go),
            Frame::Stop(number) => self.emit(number, Event::Stop),
            Frame::Answer(head) => {
                self.place = match head.kind {
                    Kind::Plain | Kind::Lines => Place::Whole(head),
                    Kind::More | Kind::Nul => Place::Text(head, head.len),
                }
            }
        }
    }

    /// Takes an answer that is complete with its text, all at once: so that nothing of a damaged one is handed out.
    fn whole(&mut self, at: usize, head: Head) -> Option<usize> {
        let rest = &self.buffer[at..];
        let tail = rest.get(head.len..)?;
        match self.tail(tail, head.number) {
            Parsed::Partial => None,
            Parsed::Wrong => {
                self.place = Place::Outside;
                self.garbled(Some(head.number), "its text");
                Some(0)
            }
            Parsed::Value(verdict, len) => {
                let mut text = rest[..head.len].to_vec();
                if head.kind == Kind::Lines {
                    text.iter_mut()
                        .filter(|byte| **byte == NEWLINE)
                        .for_each(|byte| *byte = b'\n');
                }
                self.output(head.number, text);
                self.end(head.number, verdict);
                Some(head.len + len)
            }
        }
    }

    fn text(&mut self, at: usize, head: Head, left: usize) -> Option<usize> {
        let rest = &self.buffer[at..];
        if left > 0 {
            let used = rest.len().min(left);
            let piece = rest[..used].to_vec();
            self.place = Place::Text(head, left - used);
            self.output(head.number, piece);
            return (used > 0).then_some(used);
        }
        if *rest.first()? != SEPARATOR {
            self.place = Place::Outside;
            self.garbled(Some(head.number), "its text");
            return Some(0);
        }
        if head.kind == Kind::Nul {
            self.output(head.number, vec![0]);
        }
        self.place = Place::Stream(head);
        Some(1)
    }

    fn stream(&mut self, at: usize, head: Head) -> Option<usize> {
        let rest = &self.buffer[at..];
        let bar = memchr::memchr(b'|', rest);
        let coded = &rest[..bar.unwrap_or(rest.len())];
        match bar.map(|bar| self.tail(&rest[bar..], head.number)) {
            Some(Parsed::Value(verdict, tail_len)) => {
                let (groups, cut) = coded.split_at(coded.len() / 4 * 4);
                // A base64 that was killed may end in the middle of a group, but only then.
                if !cut.is_empty() && verdict != Verdict::Status(TIMED_OUT) {
                    return Some(self.leave_stream(at, head, alien(coded)));
                }
                let Ok(piece) = STANDARD.decode(groups) else {
                    return Some(self.leave_stream(at, head, alien(coded)));
                };
                let used = coded.len() + tail_len;
                self.output(head.number, piece);
                self.end(head.number, verdict);
                Some(used)
            }
            Some(Parsed::Wrong) => Some(self.leave_stream(at, head, alien(coded))),
            Some(Parsed::Partial) | None => {
                let (groups, held) = coded.split_at(coded.len().saturating_sub(HELD_BACK) / 4 * 4);
                match STANDARD.decode(groups) {
                    Ok(piece)
                        if !groups.ends_with(b"=")
                            && matches!(&held[alien(held)..], b"" | b"=" | b"==") =>
                    {
                        let used = groups.len();
                        self.output(head.number, piece);
                        (used > 0).then_some(used)
                    }
                    _ => Some(self.leave_stream(at, head, alien(coded))),
                }
            }
        }
    }

    /// At `alien` is something that no base64 has. Hands out what was surely before it; then an announcement or an answer
    /// is looked for.
    fn leave_stream(&mut self, at: usize, head: Head, alien: usize) -> usize {
        let used = alien.saturating_sub(HELD_BACK) / 4 * 4;
        let piece = STANDARD
            .decode(&self.buffer[at..at + used])
            .unwrap_or_default();
        self.output(head.number, piece);
        self.place = Place::Outside;
        self.garbled(Some(head.number), "its base64");
        used
    }

    /// Reads the tail that must stand at the start of these bytes.
    fn tail(&self, bytes: &[u8], number: u64) -> Parsed<Verdict> {
        let mark = self.name.len() + 1;
        let seen = &bytes[..bytes.len().min(mark)];
        if !seen
            .iter()
            .eq([b'|'].iter().chain(&self.name).take(seen.len()))
        {
            return Parsed::Wrong;
        }
        if seen.len() < mark {
            return Parsed::Partial;
        }
        match head::tail(&bytes[mark..]) {
            Parsed::Value((found, verdict), len) if found == number => {
                Parsed::Value(verdict, mark + len)
            }
            Parsed::Partial => Parsed::Partial,
            Parsed::Value(..) | Parsed::Wrong => Parsed::Wrong,
        }
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

/// The place of the first byte that is not base64, or that follows its end.
fn alien(coded: &[u8]) -> usize {
    let code = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    coded
        .iter()
        .position(|byte| !code(byte))
        .unwrap_or(coded.len())
}
