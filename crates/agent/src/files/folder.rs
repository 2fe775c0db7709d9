//! Folders as tar streams, in a process of their own.

use std::io::{self, Read, Write};
use std::path::Path;

/// Packs what is in a folder.
///
/// # Errors
///
/// Something in it cannot be read, or nobody reads the stream.
pub(crate) fn pack(path: &Path, stream: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(stream);
    builder.follow_symlinks(false);
    builder.sparse(true);
    builder.append_dir_all(".", path)?;
    builder.into_inner()?.flush()
}

/// Unpacks a stream into a folder, which need not be there. Nothing gets out of the folder by its name.
///
/// # Errors
///
/// Something cannot be written, or the stream is none.
pub(crate) fn unpack(path: &Path, owner: Option<(u32, u32)>, stream: impl Read) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let path = path.canonicalize()?;
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owner.is_none());
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let is_within = entry.unpack_in(&path)?;
        if let (true, Some((user, group))) = (is_within, owner) {
            std::os::unix::fs::lchown(path.join(entry.path()?), Some(user), Some(group))?;
        }
    }
    Ok(())
}
