//! Files by the agent: whole files with their holes, folders as a stream, nothing encoded and nothing held in memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use hotbed_console::agent::wire::{EntryKind, Put, PutKind};
use hotbed_console::agent::{GetProgress, Getting, Putting};
use rustix::fs::SeekFrom;

use super::super::channel::Conversation;
use super::send::write_archive;
use super::{CHUNK, SERIAL, cannot_read, open};
use crate::{Call, Error};

/// Who owns what is put: root.
const ROOT: Option<(u32, u32)> = Some((0, 0));

impl Conversation<'_> {
    /// Puts a file or a folder of the host at `target`.
    pub(super) fn put(&self, source: &Path, target: &str, call: &Call<'_>) -> Result<(), Error> {
        if fs::metadata(source).map_err(cannot_read(source))?.is_dir() {
            return self.put_folder(source, target, call);
        }
        let (file, len, mode) = open(source)?;
        let putting = self.begin_put(target, PutKind::File { mode, len })?;
        let mut at = 0;
        while let Some((begin, end)) = next_extent(&file, at, len).map_err(cannot_read(source))? {
            self.put_extent(&putting, (source, &file), (begin, end), call)?;
            at = end;
        }
        self.finish_put(&putting, target, call)
    }

    /// Puts bytes at `target`.
    pub(super) fn put_bytes(
        &self,
        bytes: &[u8],
        target: &str,
        mode: u32,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let putting = self.begin_put(target, PutKind::File { mode, len })?;
        self.send(&putting, 0, bytes, call)?;
        self.finish_put(&putting, target, call)
    }

    fn put_folder(&self, source: &Path, target: &str, call: &Call<'_>) -> Result<(), Error> {
        let putting = self.begin_put(target, PutKind::Folder)?;
        let mut sender = Sender {
            conversation: self,
            putting: &putting,
            call,
            error: None,
        };
        // The archive comes in small pieces; the guest is better given large ones.
        let mut writer = BufWriter::with_capacity(CHUNK, &mut sender);
        let written = write_archive(source, &mut writer).and_then(|()| writer.flush());
        drop(writer);
        if let Some(error) = sender.error {
            return Err(error);
        }
        written.map_err(cannot_read(source))?;
        self.finish_put(&putting, target, call)
    }

    fn begin_put(&self, target: &str, kind: PutKind) -> Result<Putting, Error> {
        let put = Put {
            path: target.to_owned(),
            kind,
            owner: ROOT,
        };
        self.agent.put(put).map_err(|error| self.failed(error))
    }

    fn put_extent(
        &self,
        putting: &Putting,
        (source, file): (&Path, &File),
        (mut at, end): (u64, u64),
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            file.read_exact_at(piece, at).map_err(cannot_read(source))?;
            self.send(putting, at, piece, call)?;
            at += len as u64;
        }
        Ok(())
    }

    fn send(
        &self,
        putting: &Putting,
        mut offset: u64,
        mut bytes: &[u8],
        call: &Call<'_>,
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            let slice = call.slice(&|| "copying".to_owned())?;
            let taken = putting.write(offset, bytes, slice);
            offset += taken as u64;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn finish_put(&self, putting: &Putting, target: &str, call: &Call<'_>) -> Result<(), Error> {
        putting.finish();
        loop {
            let slice = call.slice(&|| format!("copying to {target}"))?;
            let done = putting.poll(slice).map_err(|error| self.failed(error))?;
            if done.is_some() {
                return Ok(());
            }
        }
    }

    /// Gets a file, or a folder to where none is, as `target` of the host.
    pub(super) fn get(&self, source: &str, target: &Path, call: &Call<'_>) -> Result<(), Error> {
        let mut receiver = self.begin_get(source, call)?;
        let failed = || Error::host(format!("cannot write {}", target.display()));
        let mode = match receiver.kind {
            EntryKind::File { len } => return receiver.store(target, len),
            EntryKind::Folder => receiver.mode,
        };
        fs::create_dir(target).map_err(failed())?;
        let mut archive = tar::Archive::new(io::BufReader::with_capacity(CHUNK, &mut receiver));
        archive.set_preserve_permissions(true);
        let unpacked = archive.unpack(target);
        if let Some(error) = receiver.error {
            return Err(error);
        }
        unpacked.map_err(failed())?;
        fs::set_permissions(target, fs::Permissions::from_mode(mode)).map_err(failed())
    }

    /// Reads a file of at most `bound` bytes.
    pub(super) fn get_bytes(
        &self,
        source: &str,
        bound: u64,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, Error> {
        let mut receiver = self.begin_get(source, call)?;
        let EntryKind::File { len } = receiver.kind else {
            return Err(Error::TestFailed(format!(
                "{source} of {} is a folder",
                self.machine.name()
            )));
        };
        let mut bytes = Vec::new();
        while let Some((offset, piece)) = receiver.next()? {
            let end = offset.saturating_add(piece.len() as u64).max(len);
            if end > bound {
                return Err(Error::Machine(format!(
                    "{source} of {} has more than {bound} bytes: copy it",
                    self.machine.name()
                )));
            }
            // What lies between two pieces is a hole.
            bytes.resize(usize::try_from(offset).unwrap_or_default(), 0);
            bytes.extend_from_slice(&piece);
        }
        if len <= bound && bytes.len() as u64 <= len {
            bytes.resize(usize::try_from(len).unwrap_or_default(), 0);
        }
        Ok(bytes)
    }

    fn begin_get<'c>(&'c self, source: &str, call: &'c Call<'c>) -> Result<Receiver<'c>, Error> {
        let getting = self.agent.get(source).map_err(|error| self.failed(error))?;
        let mut receiver = Receiver {
            conversation: self,
            getting,
            call,
            kind: EntryKind::Folder,
            mode: 0,
            rest: Vec::new(),
            read: 0,
            error: None,
        };
        let entry = loop {
            match receiver.poll()? {
                GetProgress::Entry(entry) => break entry,
                GetProgress::Pending => {}
                GetProgress::Data(..) | GetProgress::Done => {
                    return Err(Error::Machine(format!(
                        "the agent of {} does not say what {source} is",
                        self.machine.name()
                    )));
                }
            }
        };
        receiver.kind = entry.kind;
        receiver.mode = entry.mode & 0o7777;
        Ok(receiver)
    }
}

/// The next piece of a file that is no hole, from `at` on.
fn next_extent(file: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= len {
        return Ok(None);
    }
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(begin) if begin >= len => Ok(None),
        Ok(begin) => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
            Ok(Some((begin, end.clamp(begin + 1, len))))
        }
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that knows of no holes.
        Err(rustix::io::Errno::INVAL) => Ok(Some((at, len))),
        Err(error) => Err(error.into()),
    }
}

/// Writes into the folder that is being put.
struct Sender<'p, 'c> {
    conversation: &'p Conversation<'c>,
    putting: &'p Putting,
    call: &'p Call<'p>,
    error: Option<Error>,
}

impl Write for Sender<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.conversation.send(self.putting, 0, bytes, self.call) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.error = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes out of the guest.
struct Receiver<'c> {
    conversation: &'c Conversation<'c>,
    getting: Getting,
    call: &'c Call<'c>,
    kind: EntryKind,
    mode: u32,
    /// A piece of a folder's stream, of which so much was read.
    rest: Vec<u8>,
    read: usize,
    error: Option<Error>,
}

impl Receiver<'_> {
    fn poll(&mut self) -> Result<GetProgress, Error> {
        let slice = self.call.slice(&|| "copying".to_owned())?;
        self.getting
            .poll(slice)
            .map_err(|error| self.conversation.failed(error))
    }

    /// The next piece; `None` when there is no more.
    fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        loop {
            match self.poll()? {
                GetProgress::Data(offset, bytes) => return Ok(Some((offset, bytes))),
                GetProgress::Done => return Ok(None),
                GetProgress::Pending | GetProgress::Entry(_) => {}
            }
        }
    }

    /// Writes a file, which appears under its name when it is whole.
    fn store(mut self, target: &Path, len: u64) -> Result<(), Error> {
        let failed = || Error::host(format!("cannot write {}", target.display()));
        let (file, temporary) = Temporary::beside(target).map_err(failed())?;
        let mut end = 0;
        while let Some((offset, bytes)) = self.next()? {
            file.write_all_at(&bytes, offset).map_err(failed())?;
            end = end.max(offset + bytes.len() as u64);
        }
        file.set_len(end.max(len))
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(self.mode)))
            .and_then(|()| fs::rename(&temporary.0, target))
            .map_err(failed())
    }
}

impl Read for Receiver<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read >= self.rest.len() {
            self.read = 0;
            self.rest = match self.next() {
                Ok(piece) => piece.map(|(_, bytes)| bytes).unwrap_or_default(),
                Err(error) => {
                    self.error = Some(error);
                    return Err(io::ErrorKind::Other.into());
                }
            };
        }
        let mut rest = self.rest.get(self.read..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// A file that is removed at the end, unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(target: &Path) -> io::Result<(File, Self)> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = target.with_file_name(format!(".hotbed-{}-{serial}", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok((file, Self(path)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is there only if something went wrong.
        let _ = fs::remove_file(&self.0);
    }
}
