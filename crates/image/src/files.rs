//! Files, with errors that say which one.

#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::SeekFrom;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::key::hex;

/// Reads a whole file of at most `bound` bytes.
pub(crate) fn read(path: &Path, bound: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(failed("cannot read", path))?;
    let mut content = Vec::new();
    file.take(bound + 1)
        .read_to_end(&mut content)
        .map_err(failed("cannot read", path))?;
    if content.len() as u64 > bound {
        return Err(Error::Malformed {
            path: path.to_owned(),
            reason: format!("it holds more than {bound} bytes"),
        });
    }
    Ok(content)
}

/// Writes a new file (an old one of that name is replaced) and waits until it is on the disk.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(failed("cannot write", path))
}

/// Writes a file that need not outlive a crash of the host.
pub(crate) fn write_lightly(path: &Path, content: &[u8]) -> Result<(), Error> {
    fs::write(path, content).map_err(failed("cannot write", path))
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed("cannot make the folder", path))
}

/// Moves a file or folder within one file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(failed("cannot move to", to))
}

/// Waits until a file, or a folder's list of names, is on the disk.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed("cannot write", path))
}

/// Gives a file that time since 1970, and waits until it is on the disk.
pub(crate) fn sync_as_of(path: &Path, time: Duration) -> Result<(), Error> {
    let sync = || {
        let file = File::open(path)?;
        file.set_modified(UNIX_EPOCH + time)?;
        file.sync_all()
    };
    sync().map_err(failed("cannot write", path))
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()
    };
    let mut names = read().map_err(failed("cannot read the folder", folder))?;
    names.sort();
    Ok(names)
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String, Error> {
    let hash = || {
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(path)?, &mut HashWriter(&mut hasher))?;
        Ok(hex(&hasher.finalize()))
    };
    hash().map_err(failed("cannot read", path))
}

/// The SHA-256 of the blocks of a file that are not all zeros, each after its offset, and of the file's size; in hexadecimal.
///
/// It does not matter which blocks of zeros are holes; holes are not read.
pub(crate) fn sparse_digest(path: &Path) -> Result<String, Error> {
    let hash = || -> io::Result<String> {
        let mut hasher = Sha256::new();
        let size = each_block(path, |at, block| {
            hasher.update(at.to_le_bytes());
            hasher.update(block);
            Ok(())
        })?;
        hasher.update(size.to_le_bytes());
        Ok(hex(&hasher.finalize()))
    };
    hash().map_err(failed("cannot read", path))
}

/// Copies a file to a new one; blocks of zeros become holes.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Result<(), Error> {
    let copy = || {
        let target = File::create_new(to)?;
        let size = each_block(from, |at, block| target.write_all_at(block, at))?;
        target.set_len(size)
    };
    copy().map_err(failed("cannot copy to", to))
}

/// Hands out the blocks of a file that are not all zeros, each with its offset; gives the file's size. Holes are not read.
fn each_block(path: &Path, mut take: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut block = vec![0; SPARSE_BLOCK];
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data / SPARSE_BLOCK as u64 * SPARSE_BLOCK as u64,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let len = usize::try_from(size - at).map_or(SPARSE_BLOCK, |left| left.min(SPARSE_BLOCK));
        let block = &mut block[..len];
        file.read_exact_at(block, at)?;
        if block.iter().any(|&byte| byte != 0) {
            take(at, block)?;
        }
        at += len as u64;
    }
    Ok(size)
}

/// Turns an I/O error into ours.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::NoSpace { path, source }
        }
        _ => Error::File { what, path, source },
    }
}

/// Feeds what is written to a hasher.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How much of a sparse file is looked at at once.
const SPARSE_BLOCK: usize = 1 << 16;
