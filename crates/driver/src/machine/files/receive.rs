//! Out of a guest, through its shell's stream.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::super::shell::Sink;
use super::{CHUNK, SERIAL};
use crate::Error;

/// Writes a line that says what `$source` is, then the file, or an archive of the directory.
pub(super) const FETCH: &str = r#"
if [ -d "$source" ]; then
  echo directory
  exec tar -C "$source" -cf - .
fi
mode=$(stat -L -c %a -- "$source")
echo "file $mode"
exec cat -- "$source"
"#;

/// What comes from [`FETCH`]: a first line, then a file or an archive.
pub(super) struct Incoming<'t> {
    target: &'t Path,
    head: Vec<u8>,
    file: Option<(File, PathBuf, Kind)>,
}

/// What the first line announces.
enum Kind {
    File { mode: u32 },
    Archive,
}

impl<'t> Incoming<'t> {
    pub(super) fn new(target: &'t Path) -> Self {
        Self {
            target,
            head: Vec::new(),
            file: None,
        }
    }

    fn open(&mut self, line: &str) -> Result<(), Error> {
        let kind = match line
            .strip_prefix("file ")
            .map(|mode| u32::from_str_radix(mode, 8))
        {
            Some(Ok(mode)) => Kind::File {
                mode: mode & 0o7777,
            },
            None if line == "directory" => Kind::Archive,
            _ => {
                return Err(Error::Machine(format!(
                    "the guest announced {line:?} for a file"
                )));
            }
        };
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = self
            .target
            .with_file_name(format!(".hotbed-{}-{serial}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        self.file = Some((
            file.map_err(Error::host(format!("cannot write {}", path.display())))?,
            path,
            kind,
        ));
        Ok(())
    }

    /// Puts what came in its place.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let Some((file, path, kind)) = self.file.take() else {
            return Err(Error::Machine("the guest sent no file".to_owned()));
        };
        let target = self.target;
        let failed = || Error::host(format!("cannot write {}", target.display()));
        let result = match kind {
            Kind::File { mode } => file
                .set_permissions(fs::Permissions::from_mode(mode))
                .and_then(|()| fs::rename(&path, target))
                .map_err(failed()),
            Kind::Archive => unpack(file, target).map_err(failed()),
        };
        let _ = fs::remove_file(&path);
        result
    }
}

impl Sink for Incoming<'_> {
    fn take(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let mut rest = bytes.as_slice();
        if self.file.is_none() {
            self.head.extend_from_slice(rest);
            let Some(end) = self.head.iter().position(|&byte| byte == b'\n') else {
                return Ok(());
            };
            let head = std::mem::take(&mut self.head);
            let (line, after) = head.split_at(end);
            self.open(&String::from_utf8_lossy(line))?;
            self.head = after.get(1..).unwrap_or_default().to_vec();
            rest = &[];
        }
        let Some((file, path, _)) = &mut self.file else {
            return Ok(());
        };
        let first = std::mem::take(&mut self.head);
        file.write_all(&first)
            .and_then(|()| file.write_all(rest))
            .map_err(Error::host(format!("cannot write {}", path.display())))
    }

    fn discard(&mut self) {}
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if let Some((_, path, _)) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

/// Unpacks an archive to a directory that must not be there yet. Nothing in it can lead outside.
fn unpack(mut file: File, target: &Path) -> io::Result<()> {
    io::Seek::rewind(&mut file)?;
    fs::create_dir(target)?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(CHUNK, file));
    archive.set_preserve_permissions(true);
    archive.unpack(target)
}
