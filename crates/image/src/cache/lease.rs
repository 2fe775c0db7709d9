//! Entries that somebody uses: they stay where they are as long as a lease is held, and each use is counted.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use super::Cache;
use crate::Image;

/// The file of an entry that has a byte for each use, and whose time is that of the last one. It is no part of what the entry holds.
pub(super) const USED: &str = "used";
/// No more uses than that are counted.
const HITS_MAX: u64 = 1 << 20;
/// How often an entry may be built anew while a lease on it is taken.
const TRIES: usize = 8;

/// Entries that are in use: none of them is removed to make room as long as this exists, in whatever process.
#[derive(Debug, Clone)]
pub struct Lease {
    _folders: Arc<[File]>,
}

impl Cache {
    /// Takes a lease on the entries that an image's files are in; `None` when one of them is gone.
    #[must_use]
    pub fn hold(&self, image: &Image) -> Option<Lease> {
        let entries = self.root().join("entries");
        let files = [
            Some(&image.kernel),
            Some(&image.initrd),
            image.root.as_ref(),
        ];
        let mut folders = Vec::new();
        for folder in files.into_iter().flatten().filter_map(|file| file.parent()) {
            if folder.starts_with(&entries) {
                folders.push(hold(folder)?);
            }
        }
        Some(Lease {
            _folders: folders.into(),
        })
    }

    /// Whether somebody holds a lease on an entry.
    #[must_use]
    pub fn is_in_use(&self, kind: &str, key: &str) -> bool {
        let place = self.place(kind, key);
        place.exists() && hold_alone(&place).is_none()
    }
}

/// Takes a lease on the entry in `folder`; `None` when it is not there.
pub(super) fn lease(folder: &Path) -> Option<Lease> {
    let folder = hold(folder)?;
    Some(Lease {
        _folders: Arc::new([folder]),
    })
}

fn hold(path: &Path) -> Option<File> {
    for _ in 0..TRIES {
        let folder = File::open(path).ok()?;
        flock(&folder, FlockOperation::LockShared).ok()?;
        // Who removed it before it was locked has put it somewhere else.
        if is_at(&folder, path)? {
            return Some(folder);
        }
    }
    None
}

/// Locks an entry that nobody has a lease on, so that nobody gets one; `None` when somebody has.
pub(super) fn hold_alone(path: &Path) -> Option<File> {
    let folder = File::open(path).ok()?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    is_at(&folder, path)?.then_some(folder)
}

fn is_at(folder: &File, path: &Path) -> Option<bool> {
    let (here, there) = (folder.metadata().ok()?, fs::metadata(path).ok()?);
    Some((here.dev(), here.ino()) == (there.dev(), there.ino()))
}

/// Takes note of a use of the entry in `folder`. Only the order in which entries go depends on it, so a cache that cannot be written
/// is as good.
pub(super) fn note_use(folder: &Path) {
    let open = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(USED));
    let Ok(mut used) = open else { return };
    let _ = match used.metadata() {
        // One byte at the end: no two users get into each other's way.
        Ok(file) if file.len() < HITS_MAX => used.write_all(b"."),
        _ => touch(&used),
    };
}

#[expect(clippy::disallowed_methods, reason = "the time of the last use is now")]
fn touch(used: &File) -> std::io::Result<()> {
    used.set_modified(SystemTime::now())
}

/// How often an entry was used, and when last, as far as that is known.
pub(super) fn uses(folder: &Path, built: SystemTime) -> (u64, SystemTime) {
    let used = fs::metadata(folder.join(USED));
    let last = used.as_ref().ok().and_then(|file| file.modified().ok());
    (used.map_or(0, |file| file.len()), last.unwrap_or(built))
}
