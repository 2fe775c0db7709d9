//! Where images are kept, keyed by everything that goes in.
//!
//! ```text
//! entries/<kind>-<key>/   one thing that was built, with manifest.json; never changed after it was published
//! locks/<kind>-<key>      held by the one who builds it
//! tmp/<name>/             being built; its lock tells the living from the dead
//! apt/  pins/             the packages' archive as it was last seen
//! digests/                of files that are not the cache's, as they were last seen
//! ```
//!
//! An entry is built in `tmp`, written to the disk, and moved to its place: whoever looks sees all of it or nothing.
//! Whoever uses one locks its folder, shared; who makes room removes only what it can lock alone.

#![expect(clippy::disallowed_types, reason = "the I/O shell")]

mod entry;
mod lease;
mod list;
mod lock;
mod room;
mod store;
mod tree;

pub(crate) use entry::Entry;
pub use entry::Notes;
pub use lease::Lease;
pub use list::Listed;
pub use room::{LIMIT, Limit};
pub use store::Stored;
pub use tree::Tree;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::files;
use crate::tool::{self, Run};
use crate::{Error, Progress, Silent};

/// A folder of images and of what they are made from.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// What is looked for there, too.
    tree: Option<PathBuf>,
}

impl Cache {
    /// Opens the user's cache: `$XDG_CACHE_HOME/hotbed`, else `~/.cache/hotbed`.
    ///
    /// # Errors
    ///
    /// When neither variable is set, or the folder cannot be made.
    pub fn open() -> Result<Self, Error> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base =
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Self::at(base.ok_or(Error::NoCacheHome)?.join("hotbed"))
    }

    /// Opens the cache at `root`, which is made when it is absent, and clears what dead builders left. What is there is found in one
    /// that cannot be written, too.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root: PathBuf = root.into();
        let root =
            std::path::absolute(&root).map_err(files::failed("cannot make the folder", &root))?;
        for folder in ["entries", "locks", "pins", "tmp"] {
            files::create_folder(&root.join(folder))?;
        }
        let cache = Self { root, tree: None };
        if cache.is_writable() {
            cache.sweep()?;
        }
        Ok(cache)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Forgets which versions of packages images are made of: the next build asks the archive again.
    ///
    /// Images are rebuilt where a newer kernel or base system is found; `debian` images with packages of their own always.
    ///
    /// # Errors
    ///
    /// When the files cannot be removed.
    pub fn refresh(&self) -> Result<(), Error> {
        let pins = self.root.join("pins");
        for name in files::names(&pins)? {
            let path = pins.join(name);
            fs::remove_file(&path).map_err(files::failed("cannot remove", &path))?;
        }
        Ok(())
    }

    /// Finds an entry that is whole.
    pub(crate) fn find(&self, kind: &str, key: &str) -> Option<Entry> {
        Entry::open(&self.place(kind, key))
    }

    /// Where an entry is, if it is there.
    pub(crate) fn place(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join("entries").join(format!("{kind}-{key}"))
    }

    /// Finds an entry, or has it built by `build`, which fills the folder that it gets.
    ///
    /// Of many who ask at once, in this process or another, one builds and the others wait for it.
    pub(crate) fn obtain(
        &self,
        kind: &str,
        key: &str,
        progress: &dyn Progress,
        build: impl FnOnce(&Path) -> Result<Notes, Error>,
    ) -> Result<Entry, Error> {
        let place = self.place(kind, key);
        let found = || {
            let entry = self.find(kind, key)?;
            lease::note_use(&place);
            Some(entry)
        };
        if let Some(entry) = found() {
            return Ok(entry);
        }
        let name = format!("{kind}-{key}");
        let _lock = self.lock(&name, progress)?;
        if let Some(entry) = found() {
            return Ok(entry);
        }
        let work = self.workspace(&name)?;
        if place.exists() {
            progress.step(&format!(
                "a damaged {kind} entry of the cache is built again"
            ));
            files::rename(&place, &work.path().join("damaged"))?;
        }
        let folder = work.path().join("entry");
        files::create_folder(&folder)?;
        let notes = build(&folder)?;
        entry::seal(&folder, notes)?;
        files::rename(&folder, &place)?;
        files::sync(&self.root.join("entries"))?;
        drop(work);
        self.find(kind, key).ok_or_else(|| Error::Malformed {
            path: place,
            reason: "it was damaged while it was published".to_owned(),
        })
    }

    /// Takes the lock of that name, waiting for whoever holds it.
    pub(crate) fn lock(&self, name: &str, progress: &dyn Progress) -> Result<File, Error> {
        lock::acquire(&self.root.join("locks").join(name), name, progress)
    }

    /// A folder to work in, on the file system of the entries, that goes away with the value or with its builder.
    pub(crate) fn workspace(&self, name: &str) -> Result<Workspace, Error> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join("tmp")
            .join(format!("{name}.{}.{number}", std::process::id()));
        let _guard = lock::wait(&self.guard())?;
        if path.exists() {
            remove(&path)?; // A dead builder had our process id.
        }
        files::create_folder(&path)?;
        let lock = lock::hold_folder(&path)?;
        Ok(Workspace { path, _lock: lock })
    }

    /// Removes the work of builders that are dead.
    fn sweep(&self) -> Result<(), Error> {
        let _guard = lock::wait(&self.guard())?;
        let tmp = self.root.join("tmp");
        for name in files::names(&tmp)? {
            let path = tmp.join(name);
            if path.is_dir() && lock::hold_folder(&path).is_ok() {
                // What cannot be removed now is nobody's trouble but the disk's.
                let _ = remove(&path);
            }
        }
        Ok(())
    }

    /// Held while folders in `tmp` come and go, so that none is seen before it is locked.
    fn guard(&self) -> PathBuf {
        self.root.join("locks").join(".tmp")
    }
}

/// A folder in `tmp`, locked as long as its builder lives.
pub(crate) struct Workspace {
    path: PathBuf,
    _lock: File,
}

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder beside the cache that every user can enter, for root in a user namespace; it goes away with this one.
    pub(crate) fn outside(&self) -> Result<PathBuf, Error> {
        let unique = self.path.file_name().unwrap_or_default().to_string_lossy();
        let folder = std::env::temp_dir().join(format!("hotbed-{}", unique));
        files::write(
            &self.path.join(OUTSIDE),
            folder.as_os_str().as_encoded_bytes(),
        )?;
        // Not `create_dir_all`: somebody else's folder is not ours to work in.
        DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .map_err(files::failed("cannot make the folder", &folder))?;
        Ok(folder)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now is swept when the cache is opened next.
        let _ = remove(&self.path);
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    if let Ok(outside) = fs::read_to_string(folder.join(OUTSIDE)) {
        remove_foreign(Path::new(&outside))?;
    }
    fs::remove_dir_all(folder).map_err(files::failed("cannot remove", folder))
}

/// Removes a folder that may hold files of a user namespace, which nobody but its root can remove.
fn remove_foreign(folder: &Path) -> Result<(), Error> {
    if !folder.exists() || fs::remove_dir(folder).is_ok() {
        return Ok(()); // As a rule: its user has cleared it.
    }
    let helper = Run::new(
        "clearing what a dead build left",
        tool::find("mmdebstrap", "mmdebstrap")?,
    )
    .quiet();
    let helper =
        helper
            .args(["--unshare-helper", "find"])
            .arg(folder)
            .args(["-mindepth", "2", "-delete"]);
    let _ = helper.run(&Silent); // It fails at what is ours, of which we take care below.
    // What is left is empty, but it may still be somebody else's, whom not even we may look at.
    for name in files::names(folder)? {
        let path = folder.join(name);
        fs::remove_dir(&path)
            .or_else(|_| fs::remove_dir_all(&path))
            .map_err(files::failed("cannot remove", &path))?;
    }
    fs::remove_dir(folder).map_err(files::failed("cannot remove", folder))
}

/// The name of the file that says where a builder works beside its folder in `tmp`.
const OUTSIDE: &str = "outside";

#[cfg(test)]
mod tests;
