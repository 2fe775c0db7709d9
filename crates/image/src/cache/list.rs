//! What a cache holds, for people.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::entry::MANIFEST;
use super::{Cache, lease};
use crate::{Error, files};

/// One thing that was built and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// What it is, such as `micro` or `kernel`.
    pub kind: String,
    /// The digest of what went in (hexadecimal).
    pub key: String,
    /// The bytes that its files take on the disk.
    pub bytes: u64,
    /// The bytes that can be read from its files: more than those on the disk when they have holes.
    pub apparent: u64,
    /// When it was built.
    pub built: SystemTime,
    /// When it was of use last; of what was never used, when it was built.
    pub used: SystemTime,
    /// How often it was of use.
    pub hits: u64,
}

impl Cache {
    /// Lists what was built and is kept, sorted by kind and key. What goes away meanwhile is left out.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let folder = self.root().join("entries");
        let mut listed = Vec::new();
        for name in files::names(&folder)? {
            let name = name.to_string_lossy();
            // What has no kind is not of our making.
            if name.contains('-') {
                listed.extend(measure(&folder.join(&*name)));
            }
        }
        listed.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
        Ok(listed)
    }

    /// The files of an entry, sorted, each with its size as it is read and on the disk; nothing when there is no such entry.
    #[must_use]
    pub fn files(&self, kind: &str, key: &str) -> Vec<(String, u64, u64)> {
        let place = self.place(kind, key);
        let names = files::names(&place).unwrap_or_default();
        let sizes = names.iter().filter_map(|name| {
            let (bytes, apparent) = size(&place.join(name))?;
            Some((name.to_string_lossy().into_owned(), apparent, bytes))
        });
        sizes.collect()
    }

    /// What was noted about an entry when it was made; `None` when there is no such entry.
    #[must_use]
    pub fn notes(&self, kind: &str, key: &str) -> Option<super::Notes> {
        super::entry::notes(&self.place(kind, key))
    }
}

/// What `st_blocks` counts in.
const BLOCK: u64 = 512;

/// Looks at an entry; `None` when it is not there (any more).
pub(super) fn measure(folder: &Path) -> Option<Listed> {
    let name = folder.file_name()?.to_string_lossy();
    let (kind, key) = name.split_once('-')?;
    let (mut bytes, mut apparent) = (0, 0);
    for name in files::names(folder).ok()? {
        let (on_disk, readable) = size(&folder.join(name))?;
        bytes += on_disk;
        apparent += readable;
    }
    // The folder's own time changes with its first use.
    let manifest = fs::metadata(folder.join(MANIFEST)).or_else(|_| fs::metadata(folder));
    let built = manifest.ok()?.modified().ok()?;
    let (hits, used) = lease::uses(folder, built);
    Some(Listed {
        kind: kind.to_owned(),
        key: key.to_owned(),
        bytes,
        apparent,
        built,
        used,
        hits,
    })
}

/// The bytes that a file takes on the disk, and those that can be read from it.
fn size(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.len().min(file.blocks() * BLOCK), file.len()))
}
