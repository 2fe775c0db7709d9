//! What is sent to the guest next, and what that which arrives means. No sockets, no clock.
//!
//! A [`Session`] has at most one command whose answer is waited for. What is to be sent waits in a queue, so that a guest
//! that does not read holds nobody up.

use crate::wire::{Event, Parser};
use crate::{Command, Error, script};
use std::collections::VecDeque;

mod put;
#[cfg(test)]
mod tests;

use put::Put;

/// How many bytes may wait for the guest to read them.
pub const BACKLOG_MAX: usize = 64 << 20;

/// How much of what the guest said last, and of a script, an error shows.
const EXCERPT_MAX: usize = 200;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status as the shell gives it: 0 to 255, 128 + n after signal n, 124 after a timeout.
    pub status: i32,
}

/// What became known about a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing new came in time; ask again.
    Pending,
    /// The next piece of its standard output, never empty.
    Output(Vec<u8>),
    /// All output so far belongs to an attempt of a [`Repeat`](crate::Repeat) that another one follows: forget it.
    Discard,
    /// It ended. All its output was handed out before.
    Done(Exit),
}

/// The host's end of the channel.
#[derive(Debug)]
pub struct Session {
    name: String,
    parser: Parser,
    ready: bool,
    closed: bool,
    last: u64,
    /// What the command whose answer is waited for does, for errors.
    waiting_for: Option<String>,
    put: Option<Put>,
    progress: VecDeque<Progress>,
    failure: Option<Error>,
    queue: Vec<u8>,
    sent: usize,
}

impl Session {
    /// Makes a session with this name: it should be random, and is letters and digits.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            parser: Parser::new(&name),
            name,
            ready: false,
            closed: false,
            last: 0,
            waiting_for: None,
            put: None,
            progress: VecDeque::new(),
            failure: None,
            queue: Vec::new(),
            sent: 0,
        }
    }

    /// Takes bytes from the guest, at most [`INPUT_MAX`](crate::wire::INPUT_MAX) at once.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.parser.handle_input(bytes);
        while let Some(event) = self.parser.poll_event() {
            self.handle_event(event);
        }
    }

    /// Takes it that nothing will come any more.
    pub fn handle_close(&mut self) {
        self.closed = true;
        self.drop_queue();
    }

    /// Takes it that nothing can be sent any more, though something may still come.
    pub fn handle_unsendable(&mut self) {
        self.drop_queue();
    }

    /// Takes it that so many bytes of [`poll_transmit`](Self::poll_transmit) were sent.
    pub fn handle_sent(&mut self, len: usize) {
        self.sent += len;
        if self.sent >= self.queue.len() {
            self.drop_queue();
        }
    }

    /// Gives the bytes that are to be sent.
    #[must_use]
    pub fn poll_transmit(&self) -> &[u8] {
        &self.queue[self.sent..]
    }

    /// Gives what became known about the command begun last; `Pending` when more input is needed.
    ///
    /// # Errors
    ///
    /// As [`Shell::poll_output`](crate::Shell::poll_output).
    pub fn poll_progress(&mut self) -> Result<Progress, Error> {
        if let Some(progress) = self.progress.pop_front() {
            return Ok(progress);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.closed {
            return Err(self.closed_error());
        }
        if self.waiting_for.is_none() {
            return Err(Error::NotReady);
        }
        Ok(Progress::Pending)
    }

    /// Whether input would only pile up: there is progress that nobody asked for yet.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.progress.is_empty()
    }

    /// Whether there is a root shell.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The last of what the guest sent outside of answers.
    #[must_use]
    pub fn heard(&self) -> &[u8] {
        self.parser.heard()
    }

    /// The error for a stream that has ended.
    #[must_use]
    pub fn closed_error(&self) -> Error {
        let said = String::from_utf8_lossy(&self.parser.last(EXCERPT_MAX)).into_owned();
        Error::Closed {
            waiting_for: self.waiting(),
            said,
        }
    }

    /// Forgets the root shell; another one will announce itself.
    pub fn expect_ready(&mut self) {
        self.forget();
        self.parser.reset();
        self.drop_queue();
        self.ready = false;
    }

    /// Takes it that there is a root shell, and teaches it.
    pub fn assume_ready(&mut self) {
        self.ready = true;
        self.queue
            .extend_from_slice(script::prelude(&self.name).as_bytes());
    }

    /// Begins a command; the answer to an earlier one is not waited for any more.
    ///
    /// # Errors
    ///
    /// As [`Shell::begin`](crate::Shell::begin).
    pub fn begin(&mut self, command: &Command<'_>) -> Result<(), Error> {
        let line = command.line(self.last + 1)?;
        self.start(
            &line,
            format!("waiting for the answer to `{}`", excerpt(command.script)),
        )
    }

    /// Begins a command whose answer is not waited for.
    ///
    /// # Errors
    ///
    /// As [`Shell::begin`](crate::Shell::begin).
    pub fn begin_detached(&mut self, script: &str) -> Result<(), Error> {
        self.begin(&Command::new(script))?;
        self.abandon();
        Ok(())
    }

    /// Queues bytes as they are. An answer is not waited for any more: the guest would take them for a word about that.
    ///
    /// # Errors
    ///
    /// [`Error::Backlog`], [`Error::Closed`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.closed {
            return Err(self.closed_error());
        }
        let waiting = self.poll_transmit().len();
        if waiting + bytes.len() > BACKLOG_MAX {
            return Err(Error::Backlog(waiting));
        }
        self.abandon();
        self.enqueue(bytes);
        Ok(())
    }

    /// Queues the line that begins the next thing.
    fn start(&mut self, line: &str, waiting_for: String) -> Result<(), Error> {
        if !self.ready && !self.closed {
            return Err(Error::NotReady);
        }
        self.send(line.as_bytes())?;
        self.last += 1;
        self.parser.want(Some(self.last));
        self.waiting_for = Some(waiting_for);
        Ok(())
    }

    /// Waits for no answer any more, and tells the guest, so that it does not wait for a word about the answer either.
    fn abandon(&mut self) {
        if self.put.is_some() {
            self.abandon_put();
        } else if self.waiting_for.is_some() {
            self.enqueue(script::end(&self.name).as_bytes());
        }
        self.forget();
    }

    fn enqueue(&mut self, bytes: &[u8]) {
        if self.sent > self.queue.len() / 2 {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
        self.queue.extend_from_slice(bytes);
    }

    fn drop_queue(&mut self) {
        self.queue.clear();
        self.sent = 0;
    }

    /// Waits for no answer any more.
    fn forget(&mut self) {
        self.parser.want(None);
        self.waiting_for = None;
        self.put = None;
        self.progress.clear();
        self.failure = None;
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Announced => {
                self.put = None;
                if self.waiting_for.is_some() {
                    self.fail(|waiting_for| Error::Restarted { waiting_for });
                }
                self.drop_queue(); // It was meant for the shell before.
                self.assume_ready();
            }
            Event::Output(piece) => self.progress.push_back(Progress::Output(piece)),
            Event::Paused => self.enqueue(script::go_on(&self.name).as_bytes()),
            Event::Discard => self.progress.push_back(Progress::Discard),
            Event::End(status) => {
                self.put_over();
                self.waiting_for = None;
                self.progress.push_back(Progress::Done(Exit {
                    status: status.into(),
                }));
            }
            Event::Go => {
                if let Some(Put::Asked { len }) = self.put {
                    self.put = Some(Put::Going {
                        left: len,
                        chunk: 0,
                    });
                    self.put_going(&[], len, 0);
                }
            }
            Event::Stop => {
                if matches!(self.put, Some(Put::Going { .. })) {
                    self.end_put();
                    self.put_over();
                }
            }
            Event::Unable(what) => self.fail(|_| Error::Unable(what)),
            Event::Garbled(found) => self.fail(|waiting_for| Error::Garbled {
                waiting_for,
                found: found.into(),
            }),
        }
    }

    /// The command's answer will not come; what came of it before stays.
    fn fail(&mut self, error: impl FnOnce(String) -> Error) {
        let failure = error(self.waiting());
        let progress = std::mem::take(&mut self.progress);
        self.abandon();
        self.progress = progress;
        self.failure = Some(failure);
    }

    fn waiting(&self) -> String {
        match &self.waiting_for {
            Some(waiting_for) => waiting_for.clone(),
            None if self.ready => "nothing was asked".into(),
            None => "waiting for the root shell".into(),
        }
    }
}

/// The start of a script, on one line.
fn excerpt(script: &str) -> String {
    let line: String = script
        .chars()
        .take(EXCERPT_MAX + 1)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    match line.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
