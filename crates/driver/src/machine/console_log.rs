//! What a machine's console says: whole on disk, line by line to the log, searchable without being held in memory.
//!
//! QEMU (and its start script) writes into the file itself, which is its standard output. A pipe would do for text that nobody
//! misses: QEMU drops what a guest writes to a virtio console while its other end is full. A file is never full, so a guest may
//! say as much as it likes, and nobody has to keep up with it. [`Tail`] follows the files; in memory there are only offsets.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

mod tail;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::Log;
use crate::call::now;
pub(crate) use tail::Tail;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// The most bytes of one line; a longer one is cut into several.
const LINE_MAX: usize = 64 << 10;
/// How much of the end is looked at for the last lines.
const TAIL: u64 = 16 << 10;

/// The file with all that a machine's console said, over all its boots in this run.
#[derive(Debug)]
pub(crate) struct ConsoleLog {
    machine: String,
    path: PathBuf,
    file: File,
    log: Arc<Log>,
    state: Mutex<State>,
    changed: Condvar,
}

/// How a boot begins that is none from power-on.
#[derive(Debug)]
pub(crate) enum Opening {
    /// With what the boot before it has said, of which this is the continuation.
    GoesOn,
    /// With this text, which belongs to it.
    Said(Vec<u8>),
    /// Nobody is to know yet: it is told by [`Boot::open`].
    Later,
    /// With what had been said by then; what came after it was never said.
    BackTo(View),
}

/// What a console had said at some moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    boot: u64,
    cursor: u64,
    end: u64,
    unsaid: Vec<Range<u64>>,
}

/// Offsets into the file.
#[derive(Debug, Default)]
struct State {
    /// The end of what was looked at.
    end: u64,
    /// Where the present boot began.
    boot: u64,
    /// Where the next search for text begins.
    cursor: u64,
    /// What the present boot never said, because it went back to before; in order.
    unsaid: Vec<Range<u64>>,
    /// Whether somebody may still write.
    open: bool,
    /// How many boots there were.
    boots: u64,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

impl ConsoleLog {
    /// Makes the file, in the place of one from an earlier run.
    pub(crate) fn create(path: &Path, machine: &str, log: &Arc<Log>) -> io::Result<Self> {
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
        let (machine, log) = (machine.to_owned(), Arc::clone(log));
        Ok(Self {
            machine,
            path: path.to_owned(),
            file,
            log,
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

    /// Begins a boot: older lines are not searched any more, unless it goes on from another one. What comes is to be written to
    /// the file that this gives.
    pub(crate) fn begin_boot(
        self: &Arc<Self>,
        opening: Option<&Opening>,
    ) -> io::Result<(Boot, File)> {
        // Everybody who writes to it appends, whoever else does.
        let mut writer = File::options().append(true).open(&self.path)?;
        self.advance();
        let mut state = self.state();
        state.boots += 1;
        state.open_boot(opening, &mut writer)?;
        Ok((
            Boot {
                console: Arc::clone(self),
                number: state.boots,
            },
            writer,
        ))
    }

    /// What it has said so far.
    pub(crate) fn view(&self) -> View {
        self.advance();
        let state = self.state();
        View {
            boot: state.boot,
            cursor: state.cursor,
            end: state.end,
            unsaid: state.unsaid.clone(),
        }
    }

    /// All that the boot of a view had said by then, and how many bytes of that were searched.
    pub(crate) fn said(&self, view: &View) -> io::Result<(Vec<u8>, u64)> {
        let (mut bytes, mut searched) = (Vec::new(), 0);
        for part in parts(view.boot, &view.unsaid, view.end) {
            searched += part.end.min(view.cursor).saturating_sub(part.start);
            bytes.extend(self.read(part.start, part.end)?);
        }
        Ok((bytes, searched))
    }

    /// Takes in what a boot has said elsewhere, and gives the view of that; so many bytes of it were searched.
    pub(crate) fn add_boot(&self, text: &[u8], searched: u64) -> io::Result<View> {
        self.advance();
        let boot = self.state().end;
        let mut writer = File::options().append(true).open(&self.path)?;
        writer.write_all(text)?;
        self.advance();
        let end = self.state().end;
        Ok(View {
            boot,
            cursor: end.min(boot.saturating_add(searched)),
            end,
            unsaid: Vec::new(),
        })
    }

    fn end_boot(&self, number: u64) {
        self.advance();
        let mut state = self.state();
        if state.boots != number || !state.open {
            return;
        }
        state.open = false;
        let rest = std::mem::take(&mut state.line);
        if !rest.is_empty() {
            self.log.log_serial(&line_text(&rest), &self.machine);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Looks at what was written since the last time; gives whether there was something.
    pub(crate) fn advance(&self) -> bool {
        let mut state = self.state();
        let mut advanced = false;
        // The file may have been cut by somebody who needs room: what follows is read all the same.
        let size = self.file.metadata().map_or(state.end, |file| file.len());
        state.end = state.end.min(size);
        while state.end < size {
            let Ok(bytes) = self.read(state.end, size.min(state.end + CHUNK as u64)) else {
                break;
            };
            state.end += bytes.len() as u64;
            self.show_lines(&mut state.line, &bytes);
            advanced = true;
        }
        drop(state);
        if advanced {
            self.changed.notify_all();
        }
        advanced
    }

    /// Shows the lines that `bytes` complete; the beginning of the next one stays in `line`.
    fn show_lines(&self, line: &mut Vec<u8>, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || line.len() >= LINE_MAX {
                self.log.log_serial(&line_text(line), &self.machine);
                line.clear();
            }
        }
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let len =
            usize::try_from(to.saturating_sub(from)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// All that the present boot has said so far, as it is.
    pub(crate) fn boot_bytes(&self) -> io::Result<Vec<u8>> {
        self.advance();
        let parts = {
            let state = self.state();
            parts(state.boot, &state.unsaid, state.end)
        };
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend(self.read(part.start, part.end)?);
        }
        Ok(bytes)
    }

    /// All lines of the present boot, joined by newlines.
    pub(crate) fn text(&self) -> io::Result<String> {
        let bytes = self.boot_bytes()?;
        let lines = bytes
            .strip_suffix(b"\n")
            .unwrap_or(&bytes)
            .split(|&byte| byte == b'\n');
        Ok(lines.map(line_text).collect::<Vec<_>>().join("\n"))
    }

    /// The last lines, for an error message.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        self.advance();
        let (boot, end) = {
            let state = self.state();
            (state.boot, state.end)
        };
        let bytes = self
            .read(boot.max(end.saturating_sub(TAIL)), end)
            .unwrap_or_default();
        let lines = bytes.split(|&byte| byte == b'\n').map(line_text);
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
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
                if let Some(unsaid) = state.unsaid.iter().find(|part| part.contains(&searched)) {
                    searched = unsaid.end;
                    continue;
                }
                let mut coming = state.unsaid.iter().map(|part| part.start);
                let until = coming.find(|start| *start > searched).unwrap_or(state.end);
                let chunk = self.read(searched, until.min(searched + CHUNK as u64))?;
                let newline = chunk.iter().position(|&byte| byte == b'\n');
                let taken = newline
                    .map_or(chunk.len(), |at| at + 1)
                    .min(LINE_MAX - line.len());
                line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
                searched += taken as u64;
                if line.ends_with(b"\n") || line.len() >= LINE_MAX {
                    state.cursor = searched;
                    return Ok(Some(line_text(&line)));
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

/// Where in the file is what a boot has said by `end`.
fn parts(boot: u64, unsaid: &[Range<u64>], end: u64) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut from = boot;
    for unsaid in unsaid {
        parts.push(from..unsaid.start);
        from = unsaid.end;
    }
    parts.push(from..end);
    parts
}

/// One boot as the console log sees it; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Boot {
    console: Arc<ConsoleLog>,
    number: u64,
}

impl State {
    fn open_boot(&mut self, opening: Option<&Opening>, writer: &mut File) -> io::Result<()> {
        match opening {
            Some(Opening::Later) => return Ok(()),
            Some(Opening::GoesOn) => {}
            Some(Opening::BackTo(view)) => {
                (self.boot, self.cursor) = (view.boot, view.cursor);
                self.unsaid.clone_from(&view.unsaid);
                let after = view.end..self.end;
                self.unsaid.extend((!after.is_empty()).then_some(after));
                self.line.clear();
            }
            _ => {
                (self.boot, self.cursor) = (self.end, self.end);
                self.unsaid.clear();
            }
        }
        self.open = true;
        match opening {
            Some(Opening::Said(text)) => writer.write_all(text),
            _ => Ok(()),
        }
    }
}

impl Boot {
    /// Begins a boot of which nobody was to know until now.
    pub(crate) fn open(&self, opening: &Opening) -> io::Result<()> {
        let mut writer = File::options().append(true).open(&self.console.path)?;
        self.console.advance();
        let mut state = self.console.state();
        state.open_boot(Some(opening), &mut writer)
    }

    /// Takes it that nobody writes any more.
    pub(crate) fn end(&self) {
        self.console.end_boot(self.number);
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        self.end();
    }
}

/// A line as the NixOS driver keeps it: bytes that are not UTF-8 and carriage returns left out, no space at its end.
fn line_text(line: &[u8]) -> String {
    let mut text: String = line.utf8_chunks().map(|chunk| chunk.valid()).collect();
    text.retain(|c| c != '\r');
    text.truncate(text.trim_end().len());
    text
}
