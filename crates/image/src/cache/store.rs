//! What others keep beside images: the same whole-or-absent entries, for things that this crate does not build.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lease::{self, Lease};
use super::{Cache, Entry, Listed, Notes};
use crate::{Error, KeyBuilder, Progress, Silent, files};

/// An entry that somebody else than this crate has made: files and notes, whole. It stays as long as this exists.
#[derive(Debug)]
pub struct Stored {
    pub(super) entry: Entry,
    lease: Lease,
}

impl Stored {
    /// The path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.entry.path(name)
    }

    /// A fact that was noted when it was made.
    ///
    /// # Errors
    ///
    /// When there is no such note.
    pub fn note(&self, name: &str) -> Result<&str, Error> {
        self.entry.note(name)
    }

    /// What keeps the entry where it is, for who needs its files for longer than this.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }
}

impl Cache {
    /// Finds an entry that is whole, and takes note that it is of use.
    #[must_use]
    pub fn stored(&self, kind: &str, key: &str) -> Option<Stored> {
        let take = |cache: &Self| {
            let lease = lease::lease(&cache.place(kind, key))?;
            let entry = cache.find(kind, key)?;
            Some(Stored { entry, lease })
        };
        let own = take(self).inspect(|_| lease::note_use(&self.place(kind, key)));
        own.or_else(|| take(&self.tree()?))
    }

    /// Whether there is an entry that is whole; that is no use of it.
    #[must_use]
    pub fn has(&self, kind: &str, key: &str) -> bool {
        let is_in = |cache: &Self| cache.find(kind, key).is_some();
        is_in(self) || self.tree().is_some_and(|tree| is_in(&tree))
    }

    /// Has an entry made by `fill`, which puts files into the folder that it gets and returns its notes; one that is there already,
    /// or that another process makes meanwhile, is taken as it is.
    ///
    /// A file called `*.sparse` keeps its holes: blocks of zeros count as such.
    ///
    /// # Errors
    ///
    /// What `fill` fails with, or when the files cannot be written.
    pub fn store(
        &self,
        kind: &str,
        key: &str,
        progress: &dyn Progress,
        fill: impl FnOnce(&std::path::Path) -> Result<Notes, Error>,
    ) -> Result<Stored, Error> {
        let entry = self.obtain(kind, key, progress, fill)?;
        let place = self.place(kind, key);
        let lease = lease::lease(&place).ok_or_else(|| Error::Malformed {
            path: place,
            reason: "it was removed right after it was made".to_owned(),
        })?;
        Ok(Stored { entry, lease })
    }

    /// Reads every byte of an entry, and says whether it is what was put there.
    #[must_use]
    pub fn is_sound(&self, kind: &str, key: &str) -> bool {
        Entry::is_sound(&self.place(kind, key))
    }

    /// Removes the entries of which a byte is not what was put there; gives how many there were.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, or an entry not removed.
    pub fn verify(&self) -> Result<Vec<Listed>, Error> {
        let mut gone = Vec::new();
        for listed in self.list()? {
            let is_sound = || self.is_sound(&listed.kind, &listed.key);
            if is_sound() {
                continue;
            }
            // Somebody may be about to make it again.
            let _lock = self.lock(&format!("{}-{}", listed.kind, listed.key), &Silent)?;
            if !is_sound() {
                self.remove(&listed.kind, &listed.key)?;
                gone.push(listed);
            }
        }
        Ok(gone)
    }

    /// The SHA-256 of a file that rarely changes, such as a program; it is read once, as long as its place, size and time stay as they are.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn digest_of(&self, path: &Path) -> Result<String, Error> {
        let failed = || files::failed("cannot read", path);
        let path = path.canonicalize().map_err(failed())?;
        let file = path.metadata().map_err(failed())?;
        let numbers = [file.dev(), file.ino(), file.size()].map(|number| number.to_string());
        let times = [
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ];
        let stamp = KeyBuilder::new("digest")
            .input("path", path.as_os_str().as_bytes())
            .inputs("number", numbers.iter())
            .input("times", format!("{times:?}"))
            .finish();
        let folder = self.root().join("digests");
        let known = files::read(&folder.join(&stamp), DIGEST_MAX).unwrap_or_default();
        if let Ok(digest) = String::from_utf8(known)
            && digest.len() as u64 == DIGEST_MAX
        {
            return Ok(digest);
        }
        let digest = files::digest(&path)?;
        if files::names(&folder).is_ok_and(|names| names.len() >= DIGESTS_MAX) {
            let _ = std::fs::remove_dir_all(&folder);
        }
        // What is not remembered is read again.
        let _ = files::create_folder(&folder)
            .and_then(|()| files::write_lightly(&folder.join(&stamp), digest.as_bytes()));
        Ok(digest)
    }
}

/// The length of a digest.
const DIGEST_MAX: u64 = 64;
/// How many are remembered.
const DIGESTS_MAX: usize = 256;
