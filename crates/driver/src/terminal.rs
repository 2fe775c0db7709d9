//! Sessions: what is typed at this host goes to a shell in a guest, and what that says comes back.
//!
//! The near end is a terminal, which is raw meanwhile, or any pair of files; the far end a shell, of a machine of this process or,
//! by way of [`control`](crate::control), of another one.
//!
//! Invariant: a terminal that was made raw is given back as it was, also by [`restore`] when the process ends early.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::call::now;
use crate::machine::program::{OutputStream, TerminalSize};
use crate::{Call, Error};

/// Typed in a raw terminal, it leaves the session: Ctrl-].
pub const LEAVE: u8 = 0x1d;
/// The most bytes of input that are taken at once.
const INPUT_MAX: usize = 16 << 10;
/// The most bytes that are written at once: less than a pipe that is ready takes for certain.
const OUTPUT_MAX: usize = 4 << 10;
/// The size of a terminal that does not say.
const USUAL_SIZE: TerminalSize = TerminalSize {
    columns: 80,
    rows: 24,
};

/// The near end of a session.
#[derive(Debug, Clone, Copy)]
pub struct Near<'a> {
    /// Where input comes from.
    pub input: BorrowedFd<'a>,
    /// Where output goes.
    pub output: BorrowedFd<'a>,
    /// Where error output goes, if it comes apart.
    pub errors: BorrowedFd<'a>,
}

/// What comes from a far end.
pub(crate) enum Said {
    /// Nothing, so far.
    Nothing,
    /// Output.
    Output(OutputStream, Vec<u8>),
    /// The last thing: with which status the shell ended.
    Ended(i32),
}

/// The far end of a session.
pub(crate) trait Far: Sync {
    /// Whether it is a terminal, which does with lines and Ctrl-C what is to be done.
    fn is_terminal(&self) -> bool;
    /// Takes input.
    fn write(&self, bytes: &[u8], call: &Call<'_>) -> Result<(), Error>;
    /// There is no more input.
    fn end_input(&self, call: &Call<'_>) -> Result<(), Error>;
    /// The near end has another size now.
    fn resize(&self, size: TerminalSize, call: &Call<'_>) -> Result<(), Error>;
    /// Waits for what comes, until then at the longest.
    fn poll(&self, until: Instant, call: &Call<'_>) -> Result<Said, Error>;
}

impl Near<'_> {
    /// The size of the terminal that input comes from; `None` if it comes from something else.
    #[must_use]
    pub fn terminal_size(&self) -> Option<TerminalSize> {
        if !isatty(self.input) {
            return None;
        }
        let size = tcgetwinsize(self.input).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        Some(size.map_or(USUAL_SIZE, |size| TerminalSize {
            columns: size.ws_col,
            rows: size.ws_row,
        }))
    }

    /// Brings both ends together until the far one ends, and gives its status; `None` when the session was left.
    pub(crate) fn connect(&self, far: &dyn Far, call: &Call<'_>) -> Result<Option<i32>, Error> {
        let _raw = match far.is_terminal() && isatty(self.input) {
            true => Some(Raw::make(self.input)?),
            false => None,
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let bring = || {
                let ended = self.bring_output(far, &over, call);
                over.store(true, Ordering::Release);
                ended
            };
            let output = std::thread::Builder::new()
                .name("terminal".to_owned())
                .spawn_scoped(scope, bring)
                .map_err(Error::host("cannot start a thread"))?;
            let taken = self.take_input(far, &over, call);
            if !matches!(taken, Ok(Input::Ended)) {
                over.store(true, Ordering::Release);
            }
            let ended = output.join().unwrap_or_else(|_| {
                Err(Error::Machine("the terminal's thread panicked".to_owned()))
            });
            match (taken?, ended) {
                (Input::Left, _) => Ok(None),
                (Input::Ended, ended) => ended,
            }
        })
    }

    /// Writes what the far end says; gives its status, or `None` when the session is over before.
    fn bring_output(
        &self,
        far: &dyn Far,
        over: &AtomicBool,
        call: &Call<'_>,
    ) -> Result<Option<i32>, Error> {
        loop {
            let slice = call.slice(&doing)?;
            match far.poll(slice, call)? {
                Said::Nothing => {}
                Said::Output(OutputStream::Stdout, bytes) => {
                    write(self.output, &bytes, over, call)?;
                }
                Said::Output(OutputStream::Stderr, bytes) => {
                    write(self.errors, &bytes, over, call)?;
                }
                Said::Ended(status) => return Ok(Some(status)),
            }
            if over.load(Ordering::Acquire) {
                return Ok(None);
            }
        }
    }

    /// Gives what is typed to the far end until that has ended. Resizes it on the way.
    fn take_input(
        &self,
        far: &dyn Far,
        over: &AtomicBool,
        call: &Call<'_>,
    ) -> Result<Input, Error> {
        let is_raw = far.is_terminal() && isatty(self.input);
        let mut size = self.terminal_size();
        let mut has_ended = false;
        let mut buffer = vec![0; INPUT_MAX];
        while !over.load(Ordering::Acquire) {
            let slice = call.slice(&doing)?;
            if is_raw && self.terminal_size() != size {
                size = self.terminal_size();
                far.resize(size.unwrap_or(USUAL_SIZE), call)?;
            }
            let input = (!has_ended).then_some((self.input, PollFlags::IN));
            if !wait(input, slice)? {
                continue;
            }
            let count = match rustix::io::read(self.input, &mut buffer) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                // What a terminal says when the other side of it is gone.
                Err(Errno::IO) => 0,
                Err(error) => return Err(Error::host("cannot read what is typed")(error.into())),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            if is_raw && let Some(at) = bytes.iter().position(|&byte| byte == LEAVE) {
                far.write(bytes.get(..at).unwrap_or_default(), call)?;
                return Ok(Input::Left);
            }
            if bytes.is_empty() {
                has_ended = true;
                far.end_input(call)?;
            } else {
                far.write(bytes, call)?;
            }
        }
        Ok(Input::Ended)
    }
}

/// How the near end's part of a session ended.
enum Input {
    /// The far end has ended.
    Ended,
    /// Somebody typed [`LEAVE`].
    Left,
}

fn doing() -> String {
    "somebody is at the terminal".to_owned()
}

/// Writes all of it; gives up when the session is over.
fn write(
    target: BorrowedFd<'_>,
    mut bytes: &[u8],
    over: &AtomicBool,
    call: &Call<'_>,
) -> Result<(), Error> {
    let mut patience = 0;
    while !bytes.is_empty() {
        let slice = call.slice(&doing)?;
        if !wait(Some((target, PollFlags::OUT)), slice)? {
            // What was said before the end is still wanted, unless nobody takes it.
            patience += usize::from(over.load(Ordering::Acquire));
            if patience > 1 {
                return Ok(());
            }
            continue;
        }
        let piece = bytes.get(..OUTPUT_MAX).unwrap_or(bytes);
        match rustix::io::write(target, piece) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Error::host("cannot write to the terminal")(error.into())),
        }
    }
    Ok(())
}

/// Waits until the file is ready, or for nothing but the time; says whether it is.
pub(crate) fn wait(
    file: Option<(BorrowedFd<'_>, PollFlags)>,
    until: Instant,
) -> Result<bool, Error> {
    let left = until.saturating_duration_since(now());
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut files = Vec::from_iter(file.map(|(file, flags)| PollFd::from_borrowed_fd(file, flags)));
    match poll(&mut files, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Error::host("cannot wait for the terminal")(error.into())),
    }
}

/// The terminal that is raw, and how it was.
static RAW: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A terminal that is raw for as long as this lives.
struct Raw;

impl Raw {
    fn make(terminal: BorrowedFd<'_>) -> Result<Self, Error> {
        let failed = |error: Errno| Error::host("cannot use the terminal")(error.into());
        let mut raw = RAW.lock().unwrap_or_else(PoisonError::into_inner);
        if raw.is_some() {
            return Err(Error::Argument(
                "somebody is at the terminal already: one session at a time".to_owned(),
            ));
        }
        let own = terminal.try_clone_to_owned();
        let own = own.map_err(Error::host("cannot use the terminal"))?;
        let before = tcgetattr(&own).map_err(failed)?;
        let mut now = before.clone();
        now.make_raw();
        tcsetattr(&own, OptionalActions::Drain, &now).map_err(failed)?;
        *raw = Some((own, before));
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives a terminal that is raw back as it was. For those who end the process while somebody may be at it.
pub fn restore() {
    let raw = RAW.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((terminal, before)) = raw {
        // A terminal that is gone needs nothing.
        let _: io::Result<()> =
            tcsetattr(terminal.as_fd(), OptionalActions::Now, &before).map_err(io::Error::from);
    }
}
