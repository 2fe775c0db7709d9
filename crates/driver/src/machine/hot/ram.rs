//! A guest's memory, as a file that QEMU and the driver share while the guest boots.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;

use crate::{Call, Error};

/// How much is copied at once.
pub(super) const CHUNK: usize = 1 << 20;
/// What is left out when it holds zeros only.
pub(super) const PAGE: usize = 4096;

/// A guest's memory. It is on no disk, and gone with the last who has it open.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
}

impl Memory {
    pub(super) fn new(mebibytes: u32) -> io::Result<Self> {
        let file = File::from(memfd_create("hotbed-ram", MemfdFlags::CLOEXEC)?);
        file.set_len(u64::from(mebibytes) << 20)?;
        Ok(Self { file })
    }

    /// Where QEMU opens it.
    pub(super) fn path(&self) -> PathBuf {
        let (process, file) = (std::process::id(), self.file.as_raw_fd());
        PathBuf::from(format!("/proc/{process}/fd/{file}"))
    }

    /// Memory of that size with what a file holds that was made by [`copy_to`](Self::copy_to).
    pub(super) fn of_copy(path: &Path, mebibytes: u32, call: &Call<'_>) -> Result<Self, Error> {
        let failed = || Error::host(format!("cannot read {}", path.display()));
        let memory = Self::new(mebibytes).map_err(failed())?;
        let source = File::open(path).map_err(failed())?;
        copy(&source, &memory.file, call)?.map_err(failed())?;
        Ok(memory)
    }

    /// The memory itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Copies what is not zero into a new file with holes; gives how many bytes that were.
    pub(super) fn copy_to(&self, path: &Path, call: &Call<'_>) -> Result<u64, Error> {
        let failed = || Error::host(format!("cannot write {}", path.display()));
        let target = File::create_new(path).map_err(failed())?;
        let size = self.file.metadata().map_err(failed())?.len();
        target.set_len(size).map_err(failed())?;
        copy(&self.file, &target, call)?.map_err(failed())
    }

    /// Another memory with what is in a file of the same size.
    pub(super) fn copy_of(file: &File, mebibytes: u32, call: &Call<'_>) -> Result<Self, Error> {
        let failed = || Error::host("cannot copy a machine's memory");
        let memory = Self::new(mebibytes).map_err(failed())?;
        copy(file, &memory.file, call)?.map_err(failed())?;
        Ok(memory)
    }
}

/// Copies what is not zero; gives how many bytes that were.
fn copy(source: &File, target: &File, call: &Call<'_>) -> Result<io::Result<u64>, Error> {
    let mut buffer = vec![0; CHUNK];
    let (mut at, mut copied) = (0, 0);
    loop {
        call.slice(&|| "copying a machine's memory".to_owned())?;
        match copy_piece(source, target, &mut at, &mut buffer) {
            Ok(Some(bytes)) => copied += bytes,
            Ok(None) => return Ok(Ok(copied)),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Copies the data from `at` up to the next hole, or as much of it as the buffer takes; `None` when there is none.
fn copy_piece(
    source: &File,
    target: &File,
    at: &mut u64,
    buffer: &mut [u8],
) -> io::Result<Option<u64>> {
    let data = match seek(source, SeekFrom::Data(*at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hole = seek(source, SeekFrom::Hole(data))?;
    let len = usize::try_from(hole - data).map_or(buffer.len(), |left| left.min(buffer.len()));
    let chunk = buffer.get_mut(..len).unwrap_or_default();
    source.read_exact_at(chunk, data)?;
    *at = data + len as u64;
    write_pages(target, chunk, data).map(Some)
}

/// Writes the pages that are not all zeros, neighbours together; gives how many bytes they are.
fn write_pages(target: &File, chunk: &[u8], at: u64) -> io::Result<u64> {
    let mut written = 0;
    let mut begin = 0;
    while begin < chunk.len() {
        let is_zero = |page: &&[u8]| page.iter().all(|&byte| byte == 0);
        let rest = chunk.get(begin..).unwrap_or_default();
        let zeros: usize = rest.chunks(PAGE).take_while(is_zero).map(<[u8]>::len).sum();
        let data: usize = rest
            .get(zeros..)
            .unwrap_or_default()
            .chunks(PAGE)
            .take_while(|page| !is_zero(page))
            .map(<[u8]>::len)
            .sum();
        let from = begin + zeros;
        let pages = chunk.get(from..from + data).unwrap_or_default();
        target.write_all_at(pages, at + from as u64)?;
        written += data as u64;
        begin = from + data;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_holds_the_same_bytes_and_no_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(64).unwrap();
        memory.file.write_all_at(&[7; 5000], 3 << 20).unwrap();
        memory.file.write_all_at(&[0; 3 << 20], 8 << 20).unwrap();
        memory.file.write_all_at(&[1], (64 << 20) - 1).unwrap();
        let path = folder.path().join("ram");
        let copied = memory.copy_to(&path, &Call::unlimited()).unwrap();
        assert_eq!(copied, 3 * PAGE as u64);
        let (mut want, mut got) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        memory.file.read_exact_at(&mut want, 0).unwrap();
        let copy = File::open(&path).unwrap();
        copy.read_exact_at(&mut got, 0).unwrap();
        assert!(want == got);
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
        let back = Memory::of_copy(&path, 64, &Call::unlimited()).unwrap();
        back.file.read_exact_at(&mut got, 0).unwrap();
        assert!(want == got);
    }
}
