//! Writes an initramfs: a cpio archive in the "newc" format that the kernel unpacks.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use cpio::newc::{Builder, trailer};

/// An archive in memory; folders above a file are made by themselves.
#[derive(Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// Adds a folder, with those above it.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.folders_above(path)?;
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER | mode, b"")?;
        }
        Ok(())
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.folders_above(path)?;
        self.entry(path, FILE | mode, content)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.folders_above(path)?;
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// Ends the archive, on a boundary where another may follow.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        let mut bytes = trailer(self.bytes)?;
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(bytes)
    }

    fn folders_above(&mut self, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            if self.folders.insert(path[..end].to_owned()) {
                self.entry(&path[..end], FOLDER | 0o755, b"")?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other("a file is too large for the format"))?;
        self.entries += 1;
        let builder = Builder::new(path).ino(self.entries).mode(mode).nlink(1);
        let mut writer = builder.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The kernel looks for the next archive on a boundary of 4 bytes; 512 is what every tool can read.
const ALIGNMENT: usize = 512;

#[cfg(test)]
mod tests;
