//! A file on its way into the guest. It appears under its name when it is whole.

use super::make_parents;
use crate::failure::Failure;
use crate::job::{failed, send};
use crate::port::Port;
use hotbed_console::agent::wire::{Event, FailureKind, Id};
use rustix::fs::{Mode, fchmod, fchown, ftruncate};
use rustix::process::{Gid, Uid};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Leave to send more is given in pieces of this size.
const CREDIT_STEP: u32 = 256 << 10;

/// A file on its way.
#[derive(Debug)]
pub(crate) struct PutFile {
    id: Id,
    path: PathBuf,
    /// The file as long as it is not whole; none where it is written in place.
    temporary: Option<PathBuf>,
    file: File,
    mode: u32,
    len: u64,
    owner: Option<(u32, u32)>,
    owed: u32,
}

impl Drop for PutFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

impl PutFile {
    /// Begins to put a file.
    pub(crate) fn new(
        id: Id,
        path: &str,
        mode: u32,
        len: u64,
        owner: Option<(u32, u32)>,
    ) -> Result<Box<Self>, Failure> {
        // Of a link, what it points to is replaced.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
        if path.is_dir() {
            let message = format!("{} is a folder", path.display());
            return Err(Failure::new(FailureKind::Invalid, message));
        }
        make_parents(&path)?;
        let (file, temporary) = create(id, &path)?;
        Ok(Box::new(Self {
            id,
            path,
            temporary,
            file,
            mode,
            len,
            owner,
            owed: 0,
        }))
    }

    /// Writes a piece. Says whether the put has ended, one way or the other.
    pub(crate) fn handle_input(
        &mut self,
        offset: u64,
        bytes: &[u8],
        end: bool,
        port: &mut Port,
    ) -> bool {
        if let Err(failure) = self.write(offset, bytes, end) {
            send(port, &failed(self.id, &failure));
            return true;
        }
        let id = self.id;
        if end {
            let found = String::new();
            send(port, &Event::Done { id, found });
            return true;
        }
        self.owed += u32::try_from(bytes.len()).unwrap_or_default();
        if self.owed >= CREDIT_STEP {
            let bytes = std::mem::take(&mut self.owed);
            send(port, &Event::Credit { id, bytes });
        }
        false
    }

    fn write(&mut self, offset: u64, bytes: &[u8], end: bool) -> Result<(), Failure> {
        let is_within = offset
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| end <= self.len);
        if !bytes.is_empty() {
            if !is_within {
                let message = "more bytes for a file than were announced";
                return Err(Failure::new(FailureKind::Invalid, message));
            }
            let fail =
                |error| Failure::os(format_args!("cannot write {}", self.path.display()), error);
            self.file.write_all_at(bytes, offset).map_err(fail)?;
        }
        if end { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let path = self.path.display();
        let Some(temporary) = &self.temporary else {
            return Ok(());
        };
        ftruncate(&self.file, self.len)
            .map_err(|error| Failure::os(format_args!("cannot write {path}"), error))?;
        if let Some((user, group)) = self.owner {
            let changed = fchown(
                &self.file,
                Some(Uid::from_raw(user)),
                Some(Gid::from_raw(group)),
            );
            changed.map_err(|error| {
                Failure::os(format_args!("cannot set the owner of {path}"), error)
            })?;
        }
        fchmod(&self.file, Mode::from_raw_mode(self.mode & 0o7777))
            .map_err(|error| Failure::os(format_args!("cannot set the mode of {path}"), error))?;
        std::fs::rename(temporary, &self.path)
            .map_err(|error| Failure::os(format_args!("cannot put {path} in its place"), error))?;
        self.temporary = None;
        Ok(())
    }
}

/// Makes a file beside the one that is to be. What is there and is no plain file, or lies where none can be made (as in `/proc/sys`), is
/// written in place.
fn create(id: Id, path: &Path) -> Result<(File, Option<PathBuf>), Failure> {
    let metadata = std::fs::metadata(path).ok();
    let is_special = metadata
        .as_ref()
        .is_some_and(|metadata| !metadata.is_file());
    let temporary = path.with_file_name(format!(".hotbed-{}-{id}", std::process::id()));
    let mut options = File::options();
    options.write(true);
    let mut made = Err(std::io::ErrorKind::Unsupported.into());
    if !is_special {
        made = options
            .clone()
            .create_new(true)
            .mode(0o600)
            .open(&temporary);
    }
    match made {
        Ok(file) => Ok((file, Some(temporary))),
        Err(_) if metadata.is_some() => {
            let opened = options.truncate(!is_special).open(path);
            let fail = |error| Failure::os(format_args!("cannot write {}", path.display()), error);
            Ok((opened.map_err(fail)?, None))
        }
        Err(error) => Err(Failure::os(
            format_args!("cannot write {}", path.display()),
            error,
        )),
    }
}
