//! One thing that was built, and how to see that it is still whole.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::files;

/// Small facts that are kept beside an entry's files.
pub type Notes = BTreeMap<String, String>;

/// A published entry.
#[derive(Debug)]
pub(crate) struct Entry {
    folder: PathBuf,
    notes: Notes,
}

impl Entry {
    /// Opens the entry in `folder`, if every file of it is what the manifest says.
    ///
    /// Size and time of change are compared; where only the time differs (a copied cache), the content.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let manifest = Manifest::read(folder)?;
        let is_whole = manifest
            .files
            .iter()
            .all(|(name, seal)| seal.fits(&folder.join(name)));
        is_whole.then(|| Self {
            folder: folder.to_owned(),
            notes: manifest.notes,
        })
    }

    /// Whether every byte of the entry in `folder` is what was put there.
    pub(super) fn is_sound(folder: &Path) -> bool {
        Manifest::read(folder).is_some_and(|manifest| {
            let mut files = manifest.files.iter();
            files.all(|(name, seal)| {
                digest(&folder.join(name)).is_ok_and(|digest| digest == seal.digest)
            })
        })
    }

    /// The names of its files.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let manifest = Manifest::read(&self.folder).ok_or_else(|| Error::Malformed {
            path: self.folder.join(MANIFEST),
            reason: "it is gone".to_owned(),
        })?;
        Ok(manifest.files.into_keys().collect())
    }

    /// What the build noted.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A fact that the build noted.
    pub(crate) fn note(&self, name: &str) -> Result<&str, Error> {
        self.notes
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Error::Malformed {
                path: self.folder.join(MANIFEST),
                reason: format!("the note `{name}` is missing"),
            })
    }
}

/// What the manifest of the entry in `folder` notes.
pub(super) fn notes(folder: &Path) -> Option<Notes> {
    Manifest::read(folder).map(|manifest| manifest.notes)
}

/// Writes the manifest, and waits until all of the entry is on the disk. Its files get the time that they would have in a store of Nix,
/// so that nobody must read them whole to see that they are the same there.
pub(super) fn seal(folder: &Path, notes: Notes) -> Result<(), Error> {
    let mut sealed = BTreeMap::new();
    for name in files::names(folder)? {
        let path = folder.join(&name);
        files::sync_as_of(&path, TIME)?;
        let stamp = Stamp::read(&path)?;
        let digest = digest(&path)?;
        sealed.insert(name.to_string_lossy().into_owned(), Seal { stamp, digest });
    }
    let manifest = Manifest {
        files: sealed,
        notes,
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| Error::File {
        what: "cannot write",
        path: folder.join(MANIFEST),
        source: error.into(),
    })?;
    files::write(&folder.join(MANIFEST), text.as_bytes())?;
    files::sync(folder)
}

/// The digest of a file's content; holes cost nothing in one that is called sparse.
fn digest(path: &Path) -> Result<String, Error> {
    if path
        .extension()
        .is_some_and(|extension| extension == SPARSE)
    {
        files::sparse_digest(path)
    } else {
        files::digest(path)
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, Seal>,
    notes: Notes,
}

impl Manifest {
    fn read(folder: &Path) -> Option<Self> {
        let text = files::read(&folder.join(MANIFEST), MANIFEST_MAX).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[derive(Serialize, Deserialize)]
struct Seal {
    stamp: Stamp,
    digest: String,
}

impl Seal {
    fn fits(&self, path: &Path) -> bool {
        let Ok(stamp) = Stamp::read(path) else {
            return false;
        };
        stamp == self.stamp
            || (stamp.size == self.stamp.size
                && digest(path).is_ok_and(|digest| digest == self.digest))
    }
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn read(path: &Path) -> Result<Self, Error> {
        let metadata =
            std::fs::symlink_metadata(path).map_err(files::failed("cannot read", path))?;
        Ok(Self {
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        })
    }
}

/// When an entry's files were changed, in seconds since 1970.
const TIME: Duration = Duration::from_secs(1);
/// The extension of files with holes.
const SPARSE: &str = "sparse";
pub(super) const MANIFEST: &str = "manifest.json";
const MANIFEST_MAX: u64 = 1 << 20;
