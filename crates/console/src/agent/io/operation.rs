//! Operations that were begun. To drop one that has not ended cancels it.

use super::{Agent, State, left, unexpected};
use crate::agent::Error;
use crate::agent::state::{Ended, GetProgress, Outcome, Piece, Progress};
use crate::agent::wire::{Id, Request, Size};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::time::Instant;

/// What all operations have.
#[derive(Debug)]
pub(super) struct Begun {
    agent: Agent,
    id: Id,
    signal: Arc<Condvar>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.session.drop_operation(self.id);
        state.signals.remove(&self.id);
        self.agent.handle.link.transmit(&mut state);
    }
}

impl Begun {
    pub(super) fn new(agent: Agent, id: Id, signal: Arc<Condvar>) -> Self {
        Self { agent, id, signal }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.agent.handle.link.lock()
    }

    /// Asks again and again, whenever something has come, until there is an answer. `None` at `until`.
    fn wait<T>(&self, until: Instant, mut ask: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            let answer = ask(&mut state);
            self.agent.handle.link.transmit(&mut state);
            if answer.is_some() {
                return answer;
            }
            let waited = self.signal.wait_timeout(state, left(until)?);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn outcome(&self, state: &mut State) -> Option<Result<Outcome, Error>> {
        state.session.operation(self.id).outcome.clone()
    }

    fn done(&self, until: Instant) -> Result<Option<String>, Error> {
        match self.wait(until, |state| self.outcome(state)) {
            None => Ok(None),
            Some(Ok(Outcome::Done(found))) => Ok(Some(found)),
            Some(Ok(outcome)) => Err(unexpected(&outcome)),
            Some(Err(error)) => Err(error),
        }
    }

    fn request(&self, request: &Request) {
        let mut state = self.lock();
        state.session.request_about(self.id, request);
        self.agent.handle.link.transmit(&mut state);
    }

    fn cancel(&self) {
        self.request(&Request::Cancel { id: self.id });
    }

    /// Sends input. Says how much was taken: less than all only at `until`.
    fn write(&self, offset: u64, bytes: &[u8], until: Instant) -> usize {
        let mut taken = 0;
        self.wait(until, |state| {
            loop {
                let at = offset + taken as u64;
                let len = state.session.send_input(self.id, at, &bytes[taken..]);
                taken += len;
                if taken == bytes.len() {
                    return Some(());
                }
                if len == 0 {
                    return None;
                }
            }
        });
        taken
    }

    fn end_input(&self) {
        let (id, offset, end) = (self.id, 0, true);
        self.request(&Request::Input { id, offset, end });
    }
}

/// A command that was started.
#[derive(Debug)]
pub struct Running(pub(super) Begun);

impl Running {
    /// Waits until it runs, and gives its process number. `Ok(None)` at `until`.
    ///
    /// # Errors
    ///
    /// It could not be started, or the session ended.
    pub fn pid(&self, until: Instant) -> Result<Option<u32>, Error> {
        let started = self.0.wait(until, |state| {
            let operation = state.session.operation(self.0.id);
            match (operation.pid, &operation.outcome) {
                (Some(pid), _) => Some(Ok(pid)),
                (None, Some(Err(error))) => Some(Err(error.clone())),
                (None, Some(Ok(outcome))) => Some(Err(unexpected(outcome))),
                (None, None) => None,
            }
        });
        started.transpose()
    }

    /// Waits for the next of what the command does. After [`Progress::Exited`] it is that again and again.
    ///
    /// # Errors
    ///
    /// It could not be started, it was cancelled, or the session ended. Output that came before is given first.
    pub fn poll_output(&self, until: Instant) -> Result<Progress, Error> {
        let came = self.0.wait(until, |state| {
            match state.session.take(self.0.id) {
                Some(Piece::Output(stream, _, bytes)) => {
                    return Some(Ok(Progress::Output(stream, bytes)));
                }
                Some(Piece::Discard) => return Some(Ok(Progress::Discard)),
                Some(Piece::Entry(_)) => {
                    let what = "a command's answer holds a file's".to_owned();
                    return Some(Err(Error::Garbled(what)));
                }
                None => {}
            }
            Some(match self.0.outcome(state)? {
                Ok(Outcome::Exited(ended)) => Ok(Progress::Exited(ended)),
                Ok(Outcome::Detached) => Ok(Progress::Detached),
                Ok(outcome) => Err(unexpected(&outcome)),
                Err(error) => Err(error),
            })
        });
        came.unwrap_or(Ok(Progress::Pending))
    }

    /// How the command ended, if that is known by now, whether or not its output was taken.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        match self.0.outcome(&mut self.0.lock()) {
            Some(Ok(Outcome::Exited(ended))) => Some(ended),
            _ => None,
        }
    }

    /// Sends bytes to its standard input, and says how many were taken: fewer than all only at `until`. What a command that has
    /// ended does not read any more goes nowhere.
    pub fn write_stdin(&self, bytes: &[u8], until: Instant) -> usize {
        self.0.write(0, bytes, until)
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) {
        self.0.end_input();
    }

    /// Sends it a signal; with `tree`, to all processes that it has started.
    pub fn signal(&self, signal: i32, tree: bool) {
        let id = self.0.id;
        self.0.request(&Request::Signal { id, signal, tree });
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, size: Size) {
        let id = self.0.id;
        self.0.request(&Request::Resize { id, size });
    }

    /// Ends it with all that it has started. How it ended still comes from [`poll_output`](Self::poll_output).
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// Something that is waited for.
#[derive(Debug)]
pub struct Waiting(pub(super) Begun);

impl Waiting {
    /// Waits until it is there, and says what was found. `Ok(None)` at `until`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], or what ended the session.
    pub fn poll(&self, until: Instant) -> Result<Option<String>, Error> {
        self.0.done(until)
    }
}

/// A file or folder on its way into the guest.
#[derive(Debug)]
pub struct Putting(pub(super) Begun);

impl Putting {
    /// Sends bytes at an offset (what is left out is a hole; of a tar stream the offset is not used), and says how many were taken:
    /// fewer than all only at `until`. Of what the guest could not write all counts as taken; [`finish`](Self::finish) tells why.
    pub fn write(&self, offset: u64, bytes: &[u8], until: Instant) -> usize {
        self.0.write(offset, bytes, until)
    }

    /// Says that this was all. To be called once, before [`poll`](Self::poll).
    pub fn finish(&self) {
        self.0.end_input();
    }

    /// Waits until it is under its name. `Ok(None)` at `until`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], or what ended the session.
    pub fn poll(&self, until: Instant) -> Result<Option<()>, Error> {
        Ok(self.0.done(until)?.map(|_| ()))
    }
}

/// A file or folder on its way out of the guest.
#[derive(Debug)]
pub struct Getting(pub(super) Begun);

impl Getting {
    /// Waits for the next of it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`], or what ended the session.
    pub fn poll(&self, until: Instant) -> Result<GetProgress, Error> {
        let came = self.0.wait(until, |state| {
            match state.session.take(self.0.id) {
                Some(Piece::Output(_, offset, bytes)) => {
                    return Some(Ok(GetProgress::Data(offset, bytes)));
                }
                Some(Piece::Entry(entry)) => return Some(Ok(GetProgress::Entry(entry))),
                Some(Piece::Discard) => {
                    let what = "a file's answer holds a command's".to_owned();
                    return Some(Err(Error::Garbled(what)));
                }
                None => {}
            }
            Some(match self.0.outcome(state)? {
                Ok(Outcome::Done(_)) => Ok(GetProgress::Done),
                Ok(outcome) => Err(unexpected(&outcome)),
                Err(error) => Err(error),
            })
        });
        came.unwrap_or(Ok(GetProgress::Pending))
    }
}
