//! The agent: the program of ours that runs in guests, and is no part of an image.
//!
//! It is appended to a machine's initramfs as the identity is, so an image does not change with it. What an image does with
//! it, when it is there, is in `guest/micro.sh` and `guest/debian.sh`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::initramfs::Initramfs;
use crate::{Error, files};

/// Larger programs are something else.
const SIZE_MAX: u64 = 16 << 20;
/// Where it is in the initramfs; the guest's scripts know the name.
const PLACE: &str = "hotbed-agent";

/// An agent that a guest can run: it needs no shared library.
#[derive(Clone)]
pub struct Agent {
    path: PathBuf,
    archive: Vec<u8>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("path", &self.path).finish()
    }
}

impl Agent {
    /// Reads a program.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no static program for x86-64.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let program = files::read(path, SIZE_MAX)?;
        check(&program).map_err(|reason| Error::Malformed {
            path: path.to_owned(),
            reason: reason.to_owned(),
        })?;
        let write = || {
            let mut archive = Initramfs::default();
            archive.file(PLACE, 0o755, &program)?;
            archive.finish()
        };
        Ok(Self {
            path: path.to_owned(),
            archive: write().map_err(files::failed("cannot pack", path))?,
        })
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A digest of what goes into guests (hexadecimal).
    #[must_use]
    pub fn digest(&self) -> String {
        crate::key::digest(&self.archive)
    }

    /// Puts it into an initramfs that [`Image::write_initrd`](crate::Image::write_initrd) has written.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn append_to(&self, initrd: &Path) -> Result<(), Error> {
        let append = || {
            let mut file = std::fs::OpenOptions::new().append(true).open(initrd)?;
            file.write_all(&self.archive)
        };
        append().map_err(files::failed("cannot write", initrd))
    }
}

/// Says what keeps a guest from running the program. A guest whose first program cannot be run panics.
fn check(program: &[u8]) -> Result<(), &'static str> {
    const NO_PROGRAM: &str = "it is no program";
    if program.get(..6) != Some(b"\x7fELF\x02\x01") || half(program, 18) != Some(X86_64) {
        return Err("it is no program for x86-64 Linux");
    }
    let (start, size, count) = (
        program.get(32..40).and_then(|bytes| bytes.try_into().ok()),
        half(program, 54),
        half(program, 56),
    );
    let (Some(start), Some(size), Some(count)) = (start, size, count) else {
        return Err(NO_PROGRAM);
    };
    let start = usize::try_from(u64::from_le_bytes(start)).map_err(|_| NO_PROGRAM)?;
    for index in 0..usize::from(count) {
        let header = start.checked_add(index * usize::from(size));
        let kind = header.and_then(|at| program.get(at..at.checked_add(4)?));
        match kind.and_then(|bytes| bytes.try_into().ok()) {
            Some(kind) if u32::from_le_bytes(kind) == PT_INTERP => {
                return Err("it needs shared libraries, which a guest does not have");
            }
            Some(_) => {}
            None => return Err(NO_PROGRAM),
        }
    }
    Ok(())
}

/// Two bytes of the header, as a number.
fn half(program: &[u8], at: usize) -> Option<u16> {
    let bytes = program.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// `e_machine` of an ELF header.
const X86_64: u16 = 62;
/// The program header that names a dynamic linker.
const PT_INTERP: u32 = 3;

#[cfg(test)]
mod tests;
