//! What a cache holds, for people.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::{Cache, store};
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
    /// When it was built.
    pub built: SystemTime,
    /// When it was of use last; of entries for which that is not kept, when it was built.
    pub used: SystemTime,
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
            let Some((kind, key)) = name.split_once('-') else {
                continue; // Not of our making.
            };
            if let Some((bytes, built)) = measure(&folder.join(&*name)) {
                listed.push(Listed {
                    kind: kind.to_owned(),
                    key: key.to_owned(),
                    bytes,
                    built,
                    used: store::used(&folder.join(&*name), built),
                });
            }
        }
        listed.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
        Ok(listed)
    }
}

/// What `st_blocks` counts in.
const BLOCK: u64 = 512;

/// How many bytes an entry has, and since when; `None` when it is not there (any more).
fn measure(folder: &Path) -> Option<(u64, SystemTime)> {
    let mut bytes = 0;
    for name in files::names(folder).ok()? {
        let file = fs::symlink_metadata(folder.join(name)).ok()?;
        bytes += file.len().min(file.blocks() * BLOCK);
    }
    let built = fs::metadata(folder).ok()?.modified().ok()?;
    Some((bytes, built))
}
