//! A program that goes on by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hotbed_console::agent::wire::{FailureKind, Stream};
use hotbed_console::agent::{Error as AgentError, Progress, Running};

use super::super::Machine;
use super::super::channel::Conversation;
use super::super::run::Run;
use super::{TerminalSize, status};
use crate::call::{SLICE, after, now};
use crate::terminal::Said;
use crate::{Call, Error};

/// The most bytes of output that wait to be read.
const UNREAD_MAX: usize = 64 << 20;

/// The status of a program that was killed before it could be started in earnest.
const KILLED: i32 = -9;

/// What a program wrote to its standard output, and to its standard error.
pub type Streams = (Vec<u8>, Vec<u8>);

/// A program in the guest that goes on by itself. Dropping it kills the program, with all that it has started.
///
/// What it writes waits in memory until it is read, up to 64 MiB.
#[derive(Debug)]
pub struct Process {
    machine: Arc<Machine>,
    run: Arc<Run>,
    running: Running,
    pid: u32,
    shown: String,
    outputs: Mutex<Outputs>,
    /// Something came, or nobody polls any more.
    came: Condvar,
}

/// What came and was not read yet.
#[derive(Debug, Default)]
struct Outputs {
    stdout: VecDeque<u8>,
    stderr: VecDeque<u8>,
    /// How the program ended; nothing comes after that.
    status: Option<i32>,
    /// It was killed because its time was over.
    timed_out: bool,
    /// Somebody polls for all.
    is_polled: bool,
}

impl Outputs {
    fn of(&mut self, stream: Stream) -> &mut VecDeque<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Process {
    /// Waits until the program runs.
    pub(super) fn begin(
        machine: &Arc<Machine>,
        run: &Arc<Run>,
        running: Running,
        shown: String,
        call: &Call<'_>,
    ) -> Result<Self, Error> {
        let mut process = Self {
            machine: Arc::clone(machine),
            run: Arc::clone(run),
            running,
            pid: 0,
            shown,
            outputs: Mutex::default(),
            came: Condvar::new(),
        };
        loop {
            let slice = call.slice(&|| format!("starting {}", process.shown))?;
            let pid = process.running.pid(slice);
            if let Some(pid) = pid.map_err(|error| process.failed(error))? {
                process.pid = pid;
                return Ok(process);
            }
        }
    }

    /// Its process number in the guest.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What was started, as one would write it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Its status, if it has ended: that of [`Finished`](super::Finished).
    ///
    /// # Errors
    ///
    /// When the guest is lost, or the program has written more than is kept.
    pub fn poll(&self, call: &Call<'_>) -> Result<Option<i32>, Error> {
        self.advance(now(), call, |outputs| outputs.status)
    }

    /// Waits for its end; `None` when `timeout` passes before.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn wait(&self, timeout: Option<Duration>, call: &Call<'_>) -> Result<Option<i32>, Error> {
        let until = after(now(), timeout.unwrap_or(Duration::MAX));
        self.advance(until, call, |outputs| outputs.status)
    }

    /// Whether it has ended because the time of its [`Task`](super::Task) was over.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn has_timed_out(&self, call: &Call<'_>) -> Result<bool, Error> {
        let ended = self.advance(now(), call, |outputs| {
            outputs.status.map(|_| outputs.timed_out)
        })?;
        Ok(ended.unwrap_or(false))
    }

    /// Waits for the next line of its output, its newline included; the last one may have none. `None` when there is no more.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn read_line(&self, stream: Stream, call: &Call<'_>) -> Result<Option<Vec<u8>>, Error> {
        let mut searched = 0;
        let line = self.advance(after(now(), Duration::MAX), call, |outputs| {
            let has_ended = outputs.status.is_some();
            let bytes = outputs.of(stream);
            let newline = bytes.iter().skip(searched).position(|&byte| byte == b'\n');
            let end = match newline {
                Some(at) => searched + at + 1,
                None if has_ended => bytes.len(),
                None => {
                    searched = bytes.len();
                    return None;
                }
            };
            Some(bytes.drain(..end).collect::<Vec<u8>>())
        })?;
        Ok(line.filter(|line| !line.is_empty()))
    }

    /// Takes what it has written, as soon as there is something, but at `until` at the latest; `None` when there is no more.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn read(
        &self,
        stream: Stream,
        until: Instant,
        call: &Call<'_>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.advance(until, call, |outputs| {
            let has_ended = outputs.status.is_some();
            let bytes = outputs.of(stream);
            (has_ended || !bytes.is_empty()).then(|| Vec::from(std::mem::take(bytes)))
        })?;
        match bytes {
            Some(bytes) if bytes.is_empty() => Ok(None),
            bytes => Ok(Some(bytes.unwrap_or_default())),
        }
    }

    /// Waits for its end, and takes all that it writes until then.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn read_to_end(&self, stream: Stream, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read(stream, after(now(), Duration::MAX), call)? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// Gives it all of its input, waits for its end, and takes what it has written to both streams and was not read; `None` when
    /// `timeout` passes before: then it can be asked again, without input.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn communicate(
        &self,
        input: &[u8],
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<Option<Streams>, Error> {
        let until = after(now(), timeout.unwrap_or(Duration::MAX));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let feed = || {
                let mut rest = input;
                while !rest.is_empty() && !over.load(Ordering::Acquire) {
                    let taken = self.running.write_stdin(rest, now() + SLICE);
                    rest = rest.get(taken..).unwrap_or_default();
                }
                if rest.is_empty() {
                    self.running.close_stdin();
                }
            };
            std::thread::Builder::new()
                .name("stdin".to_owned())
                .spawn_scoped(scope, feed)
                .map_err(Error::host("cannot start a thread"))?;
            let said = self.advance(until, call, |outputs| {
                outputs.status?;
                let streams = [Stream::Stdout, Stream::Stderr];
                let [stdout, stderr] = streams.map(|stream| std::mem::take(outputs.of(stream)));
                Some((Vec::from(stdout), Vec::from(stderr)))
            });
            over.store(true, Ordering::Release);
            said
        })
    }

    /// Writes to its input. What a program that has ended does not read goes nowhere.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn write(&self, mut bytes: &[u8], call: &Call<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            let slice = call.slice(&|| format!("writing to {}", self.shown))?;
            let taken = self.running.write_stdin(bytes, slice);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends its input.
    pub fn close_stdin(&self) {
        self.running.close_stdin();
    }

    /// Sends it a signal; with `tree`, to all that it has started, too.
    pub fn signal(&self, signal: i32, tree: bool) {
        self.running.signal(signal, tree);
    }

    /// Kills it with all that it has started.
    pub fn kill(&self) {
        self.running.cancel();
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, size: TerminalSize) {
        self.running.resize(size);
    }

    /// Takes what it has written to either stream, or says that it has ended, as soon as there is something.
    pub(crate) fn poll_any(&self, until: Instant, call: &Call<'_>) -> Result<Said, Error> {
        let said = self.advance(until, call, |outputs| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let bytes = outputs.of(stream);
                if !bytes.is_empty() {
                    return Some(Said::Output(stream, Vec::from(std::mem::take(bytes))));
                }
            }
            outputs.status.map(Said::Ended)
        })?;
        Ok(said.unwrap_or(Said::Nothing))
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what comes until `look` finds what it wants; `None` at `until`. Any number of threads may look at once: one of them
    /// polls for all.
    fn advance<T>(
        &self,
        until: Instant,
        call: &Call<'_>,
        mut look: impl FnMut(&mut Outputs) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let doing = || format!("{} of {} goes on", self.shown, self.machine.name());
        loop {
            let slice = call.slice(&doing)?.min(until);
            let mut outputs = self.outputs();
            if let Some(found) = look(&mut outputs) {
                return Ok(Some(found));
            }
            let is_late = now() >= until;
            if outputs.is_polled {
                let left = slice.saturating_duration_since(now());
                let waited = self.came.wait_timeout(outputs, left);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            } else {
                outputs.is_polled = true;
                drop(outputs);
                let progress = self.running.poll_output(slice);
                let mut outputs = self.outputs();
                outputs.is_polled = false;
                self.came.notify_all();
                if self.handle(&mut outputs, progress)? {
                    continue;
                }
            }
            if is_late {
                return Ok(look(&mut self.outputs()));
            }
        }
    }

    /// Takes one thing that came; says whether it was something.
    fn handle(
        &self,
        outputs: &mut Outputs,
        progress: Result<Progress, AgentError>,
    ) -> Result<bool, Error> {
        match progress {
            Ok(Progress::Output(stream, bytes)) => {
                if outputs.stdout.len() + outputs.stderr.len() + bytes.len() > UNREAD_MAX {
                    return Err(Error::Machine(format!(
                        "{} of {} has written more than {UNREAD_MAX} bytes that nobody has read: read both streams, or have it write to a file",
                        self.shown,
                        self.machine.name()
                    )));
                }
                outputs.of(stream).extend(bytes);
                Ok(true)
            }
            Ok(Progress::Exited(ended)) => {
                outputs.status = Some(status(&ended));
                outputs.timed_out = ended.timed_out;
                Ok(true)
            }
            Ok(Progress::Pending | Progress::Discard | Progress::Detached) => Ok(false),
            Err(AgentError::Failed {
                kind: FailureKind::Cancelled,
                ..
            }) => {
                outputs.status = Some(KILLED);
                Ok(true)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: AgentError) -> Error {
        match self.machine.conversation(&self.run) {
            Some(conversation) => Conversation::failed(&conversation, error),
            None => self.machine.explain(
                &self.run,
                Error::Machine(format!(
                    "{} of {}: {error}",
                    self.shown,
                    self.machine.name()
                )),
            ),
        }
    }
}
