//! The end of who wants in.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::server::{Peer, Received, Writer, garbled};
use super::wire::{Message, Open};
use super::{FILES, SOCKET, canonical};
use crate::machine::interact::Seat;
use crate::machine::program::{OutputStream, TerminalSize};
use crate::terminal::{Far, Near, Said};
use crate::testbed::directories::temporary_root;
use crate::{Call, Error};

/// What a testbed's directory is called, before its process number.
const PREFIX: &str = "hotbed-";

/// A test that runs in another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTest {
    /// The process that runs it.
    pub pid: u32,
    /// Its testbed's directory.
    pub directory: PathBuf,
}

/// The tests that run a file now, oldest process number first.
///
/// # Errors
///
/// When the file is not there, or the directory of the testbeds cannot be read.
pub fn running_tests(file: &Path) -> Result<Vec<RunningTest>, Error> {
    let wanted = canonical(file).map_err(Error::host(format!("cannot find {}", file.display())))?;
    let root = temporary_root()?;
    let failed = || Error::host(format!("cannot read {}", root.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).map_err(failed())? {
        let directory = entry.map_err(failed())?.path();
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok());
        // What cannot be read is another user's.
        let files = fs::read(directory.join(FILES)).unwrap_or_default();
        let is_it = files
            .split(|&byte| byte == 0)
            .any(|file| file == wanted.as_os_str().as_bytes());
        if let Some(pid) = pid.filter(|_| is_it) {
            found.push(RunningTest { pid, directory });
        }
    }
    found.sort_by_key(|test| test.pid);
    Ok(found)
}

/// Opens a shell in a machine of a running test, and brings it together with the near end. Gives the shell's status, or `None` when
/// the terminal was left.
///
/// # Errors
///
/// [`Error::Argument`] when the test has no such machine; [`Error::Machine`] when the machine is off or the test ends.
pub fn enter(
    test: &RunningTest,
    machine: &str,
    near: &Near<'_>,
    call: &Call<'_>,
) -> Result<Option<i32>, Error> {
    let path = test.directory.join(SOCKET);
    let failed = || {
        Error::host(format!(
            "cannot reach the test that process {} runs",
            test.pid
        ))
    };
    let stream = UnixStream::connect(&path).map_err(failed())?;
    stream.set_nonblocking(true).map_err(failed())?;
    let mut peer = Peer::new(&stream);
    let open = Open {
        machine: machine.to_owned(),
        terminal: Seat::of(near).map(|seat| (seat.size.columns, seat.size.rows, seat.kind)),
    };
    let writer = peer.stream;
    writer.send(&Message::Open(open), call, true)?;
    let is_terminal = match peer.receive(call)? {
        Some(Message::Opened { is_terminal }) => is_terminal,
        Some(Message::Failed { is_usage, text }) => return Err(told(is_usage, text)),
        Some(_) => return Err(garbled()),
        None => return Err(gone()),
    };
    let far = Remote {
        writer,
        peer: Mutex::new(peer),
        is_terminal,
    };
    near.connect(&far, call)
}

/// A shell in another process's machine.
struct Remote<'s> {
    writer: Writer<'s>,
    /// Read from by one thread.
    peer: Mutex<Peer<'s>>,
    is_terminal: bool,
}

fn told(is_usage: bool, text: String) -> Error {
    if is_usage {
        Error::Argument(text)
    } else {
        Error::Machine(text)
    }
}

fn gone() -> Error {
    Error::Machine("the test has ended".to_owned())
}

impl Far for Remote<'_> {
    fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn write(&self, bytes: &[u8], call: &Call<'_>) -> Result<(), Error> {
        self.writer
            .send(&Message::Input(bytes.to_vec()), call, true)
    }

    fn end_input(&self, call: &Call<'_>) -> Result<(), Error> {
        self.writer.send(&Message::InputEnd, call, true)
    }

    fn resize(&self, size: TerminalSize, call: &Call<'_>) -> Result<(), Error> {
        self.writer.send(&Message::Resize(size), call, true)
    }

    fn poll(&self, until: Instant, _call: &Call<'_>) -> Result<Said, Error> {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        match peer.poll(until)? {
            Received::Nothing => Ok(Said::Nothing),
            Received::End => Err(gone()),
            Received::Message(Message::Output(bytes)) => {
                Ok(Said::Output(OutputStream::Stdout, bytes))
            }
            Received::Message(Message::Errors(bytes)) => {
                Ok(Said::Output(OutputStream::Stderr, bytes))
            }
            Received::Message(Message::Ended(status)) => Ok(Said::Ended(status)),
            Received::Message(Message::Failed { is_usage, text }) => Err(told(is_usage, text)),
            Received::Message(_) => Err(garbled()),
        }
    }
}
