//! What a session's operations are at: where what arrives belongs, and who may send how much.

use super::Error;
use super::wire::{
    Decoder, Entry, Event, Exit, Id, Item, PAYLOAD_MAX, Request, Stream, VERSION, WINDOW,
    WireError, encode_frame, encode_preamble,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How many bytes may wait for the guest before no more is asked of it.
pub const BACKLOG_MAX: usize = 16 << 20;

/// How many operations there may be at once, abandoned ones among them.
pub const OPERATIONS_MAX: usize = 4096;

/// Leave to send more is given in pieces of this size, not for every few bytes.
const CREDIT_STEP: u32 = WINDOW / 4;

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// The kernel's `boot_id`: another one means that the guest has rebooted.
    pub boot_id: String,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// By itself or by a signal.
    pub exit: Exit,
    /// How long it ran.
    pub duration: Duration,
    /// Its deadline came, and its tree was killed.
    pub timed_out: bool,
}

/// What there is of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet.
    Pending,
    /// A piece of what it writes.
    Output(Stream, Vec<u8>),
    /// What a repeated command wrote so far does not count: another attempt follows.
    Discard,
    /// It has ended, and all output was given.
    Exited(Ended),
    /// It is detached and runs, and nothing more will be heard of it.
    Detached,
}

/// What there is of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetProgress {
    /// Nothing yet.
    Pending,
    /// What it is: this comes first.
    Entry(Entry),
    /// Bytes at an offset; what lies between two pieces is a hole. Of a folder, a piece of the tar stream.
    Data(u64, Vec<u8>),
    /// That was all.
    Done,
}

/// What came for an operation and was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Output(Stream, u64, Vec<u8>),
    Discard,
    Entry(Entry),
}

/// How an operation ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(String),
    Exited(Ended),
    Detached,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    pieces: VecDeque<Piece>,
    /// How much more the guest may send.
    leave: u32,
    /// How much of what was taken it was not given leave for again yet.
    owed: u32,
    /// How much more may be sent to the guest.
    pub(super) credit: u32,
    pub(super) pid: Option<u32>,
    pub(super) outcome: Option<Result<Outcome, Error>>,
    is_detached: bool,
    /// Nobody wants to hear of it any more.
    is_abandoned: bool,
}

/// How far a session is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The greeting was sent.
    Greeting,
    /// It was answered.
    Ready(Hello),
    /// It is over.
    Over(Error),
}

/// A session with an agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) phase: Phase,
    number: u64,
    /// Whether a preamble of this session has come.
    is_answered: bool,
    operations: BTreeMap<Id, Operation>,
    next_id: Id,
    out: Vec<u8>,
    sent: usize,
}

impl Session {
    /// Begins a session with this number, which must not be zero.
    pub(super) fn new(number: u64) -> Self {
        let mut session = Self {
            phase: Phase::Greeting,
            number,
            is_answered: false,
            operations: BTreeMap::new(),
            next_id: 1,
            out: Vec::new(),
            sent: 0,
        };
        session.greet();
        session
    }

    /// Sends the greeting (again).
    pub(super) fn greet(&mut self) {
        if matches!(self.phase, Phase::Greeting) && self.out.is_empty() {
            encode_preamble(self.number, &mut self.out);
            self.request(&Request::Hello { version: VERSION }, &[]);
        }
    }

    /// What is to be sent.
    pub(super) fn poll_transmit(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// Takes note that so many bytes were sent.
    pub(super) fn handle_sent(&mut self, len: usize) {
        self.sent += len;
        if self.sent >= self.out.len() {
            self.out.clear();
            self.out.shrink_to(PAYLOAD_MAX * 2);
            self.sent = 0;
        } else if self.sent >= BACKLOG_MAX {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Ends the session, and with it all operations.
    pub(super) fn handle_end(&mut self, error: Error) {
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        self.end_operations(&error);
        self.out = Vec::new();
        self.sent = 0;
        self.phase = Phase::Over(error);
    }

    fn end_operations(&mut self, error: &Error) {
        self.operations.retain(|_, operation| {
            operation.outcome.get_or_insert_with(|| Err(error.clone()));
            !operation.is_abandoned
        });
    }

    /// Takes what has come. Names each operation that something came for.
    pub(super) fn handle_input(&mut self, decoder: &mut Decoder, came: &mut dyn FnMut(Id)) {
        while !matches!(self.phase, Phase::Over(_)) {
            let result = match decoder.poll::<Event>() {
                Ok(None) => return,
                Ok(Some(Item::Preamble { session })) => {
                    self.handle_preamble(session, came);
                    Ok(())
                }
                // The end of an earlier session.
                Ok(Some(Item::Message { .. })) if !self.is_answered => Ok(()),
                Ok(Some(Item::Message { message, payload })) => {
                    if let Some(id) = message.id() {
                        came(id);
                    }
                    self.handle_event(message, payload)
                }
                Err(error) if !self.is_answered => {
                    let _: WireError = error; // It waits for the next preamble.
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(what) = result {
                self.operations.keys().for_each(|id| came(*id));
                self.handle_end(Error::Garbled(what));
            }
        }
    }

    fn handle_preamble(&mut self, session: u64, came: &mut dyn FnMut(Id)) {
        if session == self.number {
            self.is_answered = true;
            return;
        }
        if self.is_answered {
            // The agent knows of no session: it was started anew, and so is this.
            self.operations.keys().for_each(|id| came(*id));
            self.end_operations(&Error::Restarted);
            self.number = self.number.wrapping_add(1).max(1);
            self.is_answered = false;
            self.phase = Phase::Greeting;
        }
        // It may not have read what was sent before it was there.
        self.out.clear();
        self.sent = 0;
        self.greet();
    }

    fn handle_event(&mut self, event: Event, payload: &[u8]) -> Result<(), String> {
        if let Event::Hello {
            version,
            capabilities,
            boot_id,
        } = event
        {
            if version != VERSION {
                self.handle_end(Error::Version { theirs: version });
            } else if matches!(self.phase, Phase::Greeting) {
                self.phase = Phase::Ready(Hello {
                    capabilities,
                    boot_id,
                });
            }
            return Ok(());
        }
        let id = event.id().unwrap_or_default();
        let Some(operation) = self.operations.get_mut(&id) else {
            return Err(format!("an answer to operation {id}, which there is not"));
        };
        if operation.outcome.is_some() {
            return Err(format!("an answer to operation {id}, which has ended"));
        }
        operation.handle_event(event, payload)?;
        if operation.is_abandoned && operation.outcome.is_some() {
            self.operations.remove(&id);
        }
        Ok(())
    }

    /// Begins an operation.
    pub(super) fn begin(
        &mut self,
        is_detached: bool,
        payload: &[u8],
        request: impl FnOnce(Id) -> Request,
    ) -> Result<Id, Error> {
        match &self.phase {
            Phase::Greeting => return Err(Error::NotReady),
            Phase::Over(error) => return Err(error.clone()),
            Phase::Ready(_) => {}
        }
        let waiting = self.poll_transmit().len();
        if waiting > BACKLOG_MAX || self.operations.len() >= OPERATIONS_MAX {
            return Err(Error::Backlog(waiting));
        }
        while self.operations.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        encode_frame(&request(id), payload, &mut self.out).map_err(Error::TooLarge)?;
        self.next_id = self.next_id.wrapping_add(1);
        let operation = Operation {
            pieces: VecDeque::new(),
            leave: WINDOW,
            owed: 0,
            credit: WINDOW,
            pid: None,
            outcome: None,
            is_detached,
            is_abandoned: false,
        };
        self.operations.insert(id, operation);
        Ok(id)
    }

    /// Sends a request about an operation, unless that has ended.
    pub(super) fn request_about(&mut self, id: Id, request: &Request) {
        if self.operation(id).outcome.is_none() {
            self.request(request, &[]);
        }
    }

    fn request(&mut self, request: &Request, payload: &[u8]) {
        if !matches!(self.phase, Phase::Over(_)) {
            // Those that come here are a few bytes long, or were cut to size.
            let _ = encode_frame(request, payload, &mut self.out);
        }
    }

    /// Sends as much input as there is leave for, and says how much. Of what an operation that has ended does not want any more,
    /// all counts as sent.
    pub(super) fn send_input(&mut self, id: Id, offset: u64, bytes: &[u8]) -> usize {
        let operation = self.operation(id);
        if operation.outcome.is_some() {
            return bytes.len();
        }
        let len = bytes.len().min(operation.credit as usize).min(PAYLOAD_MAX);
        if len > 0 {
            operation.credit -= u32::try_from(len).unwrap_or(operation.credit);
            let end = false;
            self.request(&Request::Input { id, offset, end }, &bytes[..len]);
        }
        len
    }

    /// Takes the next piece of what came, and gives leave for more.
    pub(super) fn take(&mut self, id: Id) -> Option<Piece> {
        let operation = self.operation(id);
        let piece = operation.pieces.pop_front();
        if let Some(Piece::Output(_, _, bytes)) = &piece {
            operation.owed += u32::try_from(bytes.len()).unwrap_or_default();
        }
        if operation.owed >= CREDIT_STEP && operation.outcome.is_none() {
            let bytes = std::mem::take(&mut operation.owed);
            operation.leave += bytes;
            self.request(&Request::Credit { id, bytes }, &[]);
        }
        piece
    }

    /// An operation that was begun and not dropped.
    pub(super) fn operation(&mut self, id: Id) -> &mut Operation {
        self.operations
            .get_mut(&id)
            .expect("an operation is kept until it is dropped")
    }

    /// Forgets an operation; what is not over is cancelled.
    pub(super) fn drop_operation(&mut self, id: Id) {
        let operation = self.operation(id);
        if operation.outcome.is_some() {
            self.operations.remove(&id);
            return;
        }
        operation.is_abandoned = true;
        operation.pieces = VecDeque::new();
        if !operation.is_detached {
            self.request(&Request::Cancel { id }, &[]);
        }
    }
}

impl Operation {
    fn handle_event(&mut self, event: Event, payload: &[u8]) -> Result<(), String> {
        match event {
            Event::Started { pid, .. } => {
                self.pid = Some(pid);
                if self.is_detached {
                    self.outcome = Some(Ok(Outcome::Detached));
                }
            }
            Event::Output { stream, offset, .. } => {
                let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                self.leave = self
                    .leave
                    .checked_sub(len)
                    .ok_or("more output than there was leave for")?;
                if !self.is_abandoned && len > 0 {
                    self.keep(Piece::Output(stream, offset, payload.to_vec()))?;
                }
            }
            Event::Discard { .. } => {
                self.discard();
                self.keep(Piece::Discard)?;
            }
            Event::Entry { entry, .. } => self.keep(Piece::Entry(entry))?,
            Event::Credit { bytes, .. } => {
                self.credit = self.credit.saturating_add(bytes).min(WINDOW);
            }
            Event::Exited {
                exit,
                micros,
                timed_out,
                ..
            } => {
                self.outcome = Some(Ok(Outcome::Exited(Ended {
                    exit,
                    duration: Duration::from_micros(micros),
                    timed_out,
                })));
            }
            Event::Done { found, .. } => self.outcome = Some(Ok(Outcome::Done(found))),
            Event::Failed { kind, message, .. } => {
                self.outcome = Some(Err(Error::Failed { kind, message }));
            }
            Event::Hello { .. } => {}
        }
        Ok(())
    }

    /// Forgets the output of an attempt that did not count. It was never taken, so it is owed.
    fn discard(&mut self) {
        for piece in self.pieces.drain(..) {
            if let Piece::Output(_, _, bytes) = piece {
                self.owed += u32::try_from(bytes.len()).unwrap_or_default();
            }
        }
    }

    fn keep(&mut self, piece: Piece) -> Result<(), String> {
        let piece = match piece {
            Piece::Output(stream, offset, bytes) => match self.join(stream, offset, bytes) {
                Some(bytes) => Piece::Output(stream, offset, bytes),
                None => return Ok(()),
            },
            piece => piece,
        };
        if self.pieces.len() >= PIECES_MAX {
            return Err("more pieces than are kept".to_owned());
        }
        self.pieces.push_back(piece);
        Ok(())
    }

    /// Appends bytes to one of the last two pieces, where they belong there, or else gives them back: a guest that sends single
    /// bytes, by turns of both streams, takes no more memory than another.
    fn join(&mut self, stream: Stream, offset: u64, bytes: Vec<u8>) -> Option<Vec<u8>> {
        for piece in self.pieces.iter_mut().rev().take(2) {
            let Piece::Output(last, at, held) = piece else {
                break;
            };
            let goes_on = offset == *at + held.len() as u64 || (offset == 0 && *at == 0);
            if *last == stream {
                if goes_on && held.len() + bytes.len() <= JOINED_MAX {
                    held.extend_from_slice(&bytes);
                    return None;
                }
                break;
            }
        }
        Some(bytes)
    }
}

/// Pieces are joined up to this size.
const JOINED_MAX: usize = 64 << 10;

/// How many pieces of an operation are kept. With [`WINDOW`] that is one for each 128 bytes.
const PIECES_MAX: usize = 8192;
