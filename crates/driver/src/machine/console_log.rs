//! What a machine's console says: whole on disk, line by line to the log, searchable without being held in memory.
//!
//! A thread reads QEMU's output (and that of its start script) as fast as it comes and appends it to a file. Who looks for text
//! reads the file; in memory there are only offsets into it. So a guest may say as much as it likes: nothing waits for a reader.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::Log;
use crate::call::{after, now};
use crate::process::wait_readable;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// The most bytes of one line; a longer one is cut into several.
pub(crate) const LINE_MAX: usize = 64 << 10;
/// How much of the end is looked at for the last lines.
const TAIL: u64 = 16 << 10;
/// How long the reader may take for what is in the pipe when QEMU is gone but somebody still holds it.
const DRAIN_GRACE: Duration = Duration::from_millis(300);

/// The file with all that a machine's console said, over all its boots in this run.
#[derive(Debug)]
pub(crate) struct ConsoleLog {
    path: PathBuf,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

/// Offsets into the file.
#[derive(Debug, Default)]
struct State {
    /// The end of what was written.
    end: u64,
    /// Where the present boot began.
    boot: u64,
    /// Where the next search for text begins.
    cursor: u64,
    /// Whether somebody may still write.
    open: bool,
    /// Whether a failure to write was told.
    failed: bool,
}

impl ConsoleLog {
    /// Makes the file, in the place of one from an earlier run.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the beginning of a boot: older lines are not searched any more.
    fn begin_boot(&self) {
        let mut state = self.state();
        state.boot = state.end;
        state.cursor = state.end;
        state.open = true;
    }

    fn append(&self, bytes: &[u8], machine: &str, log: &Log) {
        let mut state = self.state();
        match self.file.write_all_at(bytes, state.end) {
            Ok(()) => state.end += bytes.len() as u64,
            Err(error) if !state.failed => {
                state.failed = true;
                log.warning(&format!(
                    "the console log of {machine} has gaps: cannot write {}: {error}",
                    self.path.display()
                ));
            }
            Err(_) => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    fn end_boot(&self) {
        self.state().open = false;
        self.changed.notify_all();
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let len =
            usize::try_from(to.saturating_sub(from)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// All lines of the present boot, joined by newlines.
    pub(crate) fn text(&self) -> io::Result<String> {
        let (from, to) = {
            let state = self.state();
            (state.boot, state.end)
        };
        let bytes = self.read(from, to)?;
        let lines: Vec<String> = bytes
            .strip_suffix(b"\n")
            .unwrap_or(&bytes)
            .split(|&byte| byte == b'\n')
            .map(line_text)
            .collect();
        Ok(lines.join("\n"))
    }

    /// The last lines, for an error message.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let (boot, end) = {
            let state = self.state();
            (state.boot, state.end)
        };
        let bytes = self
            .read(boot.max(end.saturating_sub(TAIL)), end)
            .unwrap_or_default();
        let lines: Vec<String> = bytes
            .split(|&byte| byte == b'\n')
            .map(line_text)
            .filter(|line| !line.is_empty())
            .collect();
        lines
            .get(lines.len().saturating_sub(count)..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Takes the next whole line that nobody has searched. `Ok(None)` at `until`, or when no line can come any more.
    pub(crate) fn next_line(&self, until: Instant) -> io::Result<Option<String>> {
        let mut state = self.state();
        let mut searched = state.cursor;
        let mut line: Vec<u8> = Vec::new();
        loop {
            while searched < state.end {
                let chunk = self.read(searched, state.end.min(searched + CHUNK as u64))?;
                let newline = chunk.iter().position(|&byte| byte == b'\n');
                let taken = newline
                    .map_or(chunk.len(), |at| at + 1)
                    .min(LINE_MAX - line.len());
                line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
                searched += taken as u64;
                if line.ends_with(b"\n") || line.len() >= LINE_MAX {
                    state.cursor = searched;
                    return Ok(Some(line_text(line.strip_suffix(b"\n").unwrap_or(&line))));
                }
            }
            if !state.open && !line.is_empty() {
                state.cursor = searched;
                return Ok(Some(line_text(&line)));
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() || !state.open {
                return Ok(None);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether lines may still come.
    pub(crate) fn is_open(&self) -> bool {
        self.state().open
    }
}

/// A line as the NixOS driver keeps it: bytes that are not UTF-8 and carriage returns left out, no space at its end.
fn line_text(line: &[u8]) -> String {
    let mut text: String = line.utf8_chunks().map(|chunk| chunk.valid()).collect();
    text.retain(|c| c != '\r');
    text.truncate(text.trim_end().len());
    text
}

/// The thread that reads a console.
#[derive(Debug)]
pub(crate) struct Reader {
    thread: Option<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
}

impl Reader {
    /// Begins a boot in `console` and reads `pipe` from now on.
    pub(crate) fn start(
        console: Arc<ConsoleLog>,
        pipe: PipeReader,
        machine: String,
        log: Arc<Log>,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        console.begin_boot();
        let body = move || {
            read_all(&console, pipe, &stopped, &machine, &log);
            console.end_boot();
        };
        let thread = std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(body)?;
        Ok(Self {
            thread: Some(thread),
            stop,
        })
    }

    /// Reads what is left and ends the thread, even when somebody holds the other end of the pipe.
    pub(crate) fn finish(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.finish();
    }
}

fn read_all(console: &ConsoleLog, mut pipe: PipeReader, stop: &OwnedFd, machine: &str, log: &Log) {
    let mut buffer = vec![0; CHUNK];
    let mut line = Vec::new();
    let mut end: Option<Instant> = None;
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                console.append(bytes, machine, log);
                show_lines(bytes, &mut line, machine, log);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match end {
                None => {
                    let forever = after(now(), Duration::MAX);
                    let _ = wait_readable(&[pipe.as_fd(), stop.as_fd()], forever);
                    if wait_readable(&[stop.as_fd()], now()).unwrap_or(true) {
                        end = Some(now() + DRAIN_GRACE);
                    }
                }
                // Whatever QEMU wrote is in the pipe by now; what comes later is of no one we know.
                Some(_) => break,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        if end.is_some_and(|end| now() >= end) {
            break;
        }
    }
    if !line.is_empty() {
        log.log_serial(&line_text(&line), machine);
    }
}

/// Shows the lines that `bytes` complete; the beginning of the next one stays in `line`.
fn show_lines(bytes: &[u8], line: &mut Vec<u8>, machine: &str, log: &Log) {
    for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
        line.extend_from_slice(piece);
        if line.ends_with(b"\n") || line.len() >= LINE_MAX {
            log.log_serial(&line_text(line), machine);
            line.clear();
        }
    }
}

/// Writes all of `bytes` to a guest's console, or to wherever else somebody may not be reading; `false` at `until`.
pub(crate) fn write_until(
    mut pipe: impl Write + AsFd,
    bytes: &mut &[u8],
    until: Instant,
) -> io::Result<bool> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !crate::process::wait_writable(&[pipe.as_fd()], until)? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
