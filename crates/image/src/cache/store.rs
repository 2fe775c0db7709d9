//! What others keep beside images: the same whole-or-absent entries, for things that this crate does not build.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::SystemTime;

use super::{Cache, Entry, Listed, Notes, lock};
use crate::{Error, Progress, Silent, files};

/// The file of an entry whose time says when the entry was of use last. It is not part of what the entry holds.
pub(super) const USED: &str = "used";

/// An entry that somebody else than this crate has made: files and notes, whole.
#[derive(Debug)]
pub struct Stored {
    entry: Entry,
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
}

impl Cache {
    /// Finds an entry that is whole, and takes note that it is of use.
    #[must_use]
    pub fn stored(&self, kind: &str, key: &str) -> Option<Stored> {
        let entry = self.find(kind, key)?;
        // Only the order in which entries go away depends on it.
        let _ = File::create(entry.path(USED));
        Some(Stored { entry })
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
        Ok(Stored { entry })
    }

    /// Removes an entry, if it is there. Who uses its files at the moment may go on.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove(&self, kind: &str, key: &str) -> Result<(), Error> {
        let name = format!("{kind}-{key}");
        let place = self.root().join("entries").join(&name);
        if !place.exists() {
            return Ok(());
        }
        // It goes at one stroke, and its files after that.
        let work = self.workspace(&name)?;
        let grave = work.path().join("removed");
        match fs::rename(&place, &grave) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(files::failed("cannot remove", &place)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the entries of a kind that were of no use for the longest time, until no more than `bytes_max` are on the disk;
    /// gives what went.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, or an entry not removed.
    pub fn trim(&self, kind: &str, bytes_max: u64) -> Result<Vec<Listed>, Error> {
        let _lock = lock::wait(&self.root().join("locks").join(format!(".trim-{kind}")))?;
        let mut kept: Vec<Listed> = self.list()?;
        kept.retain(|listed| listed.kind == kind);
        kept.sort_by_key(|listed| std::cmp::Reverse(listed.used));
        let mut total = 0_u64;
        let mut gone = Vec::new();
        for listed in kept {
            total = total.saturating_add(listed.bytes);
            if total > bytes_max {
                self.remove(kind, &listed.key)?;
                gone.push(listed);
            }
        }
        Ok(gone)
    }

    /// Reads every byte of an entry, and says whether it is what was put there.
    #[must_use]
    pub fn is_sound(&self, kind: &str, key: &str) -> bool {
        Entry::is_sound(&self.root().join("entries").join(format!("{kind}-{key}")))
    }

    /// Removes the entries of which a byte is not what was put there; gives how many there were.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, or an entry not removed.
    pub fn verify(&self) -> Result<Vec<Listed>, Error> {
        let mut gone = Vec::new();
        for listed in self.list()? {
            let name = format!("{}-{}", listed.kind, listed.key);
            let _lock = self.lock(&name, &Silent)?;
            if !self.is_sound(&listed.kind, &listed.key) {
                self.remove(&listed.kind, &listed.key)?;
                gone.push(listed);
            }
        }
        Ok(gone)
    }
}

/// When an entry was of use last, as far as that is known.
pub(super) fn used(folder: &std::path::Path, built: SystemTime) -> SystemTime {
    let used = fs::metadata(folder.join(USED)).and_then(|file| file.modified());
    used.unwrap_or(built)
}
