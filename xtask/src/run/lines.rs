//! Cuts a program's output into lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::ui::Activity;

/// Cuts a program's output into lines, shows them, logs them, and keeps the newest.
pub(super) struct Lines<'a> {
    pub(super) activity: &'a Activity,
    log: Option<File>,
    partial: Vec<u8>,
    tail: VecDeque<String>,
    each: &'a mut dyn FnMut(&str),
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        activity: &'a Activity,
        log: Option<&Path>,
        each: &'a mut dyn FnMut(&str),
    ) -> anyhow::Result<Self> {
        let log = log.map(create_log).transpose()?;
        Ok(Self {
            activity,
            log,
            partial: Vec::new(),
            tail: VecDeque::new(),
            each,
        })
    }

    pub(super) fn read(&mut self, reader: &mut PipeReader) -> anyhow::Result<usize> {
        let mut buffer = vec![0; READ_BYTES];
        let len = reader.read(&mut buffer).context("read")?;
        self.partial.extend_from_slice(&buffer[..len]);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.take(&line[..end])?;
        }
        if self.partial.len() > LINE_BYTES_MAX {
            self.finish()?;
        }
        Ok(len)
    }

    /// Takes what has come in as a line, though no end of line has.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let rest = std::mem::take(&mut self.partial);
        if rest.is_empty() {
            Ok(())
        } else {
            self.take(&rest)
        }
    }

    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches('\r');
        if let Some(log) = &mut self.log {
            writeln!(log, "{line}").context("cannot write the log")?;
        }
        self.activity.line(line);
        (self.each)(line);
        if self.tail.len() == KEPT_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        Ok(())
    }

    pub(super) fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }
}

fn create_log(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

/// How much of a program's output is kept in memory: the newest lines.
pub(super) const KEPT_LINES: usize = 400;

/// What one read from a program takes.
const READ_BYTES: usize = 64 * 1024;

/// A line longer than this is cut into pieces.
const LINE_BYTES_MAX: usize = 64 * 1024;
