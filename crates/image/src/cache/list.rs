//! What a cache holds, for people.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::Cache;
use crate::{Error, files};

/// One thing that was built and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// What it is, such as `micro` or `kernel`.
    pub kind: String,
    /// The digest of what went in (hexadecimal).
    pub key: String,
    /// The bytes of its files.
    pub bytes: u64,
    /// When it was built.
    pub built: SystemTime,
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
                });
            }
        }
        listed.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
        Ok(listed)
    }
}

/// How many bytes an entry has, and since when; `None` when it is not there (any more).
fn measure(folder: &Path) -> Option<(u64, SystemTime)> {
    let mut bytes = 0;
    for name in files::names(folder).ok()? {
        bytes += fs::symlink_metadata(folder.join(name)).ok()?.len();
    }
    let built = fs::metadata(folder).ok()?.modified().ok()?;
    Some((bytes, built))
}
