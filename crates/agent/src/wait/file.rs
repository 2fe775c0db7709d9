//! Waits for files.
//!
//! A path leads through folders and symbolic links. [`Presence`] has an inotify watch on each folder on the way, as far as the way
//! exists, and goes the way again when a name on it has come, gone, or changed places. So a folder above may be made, removed, made
//! again or replaced. What inotify does not tell is covered otherwise: mounts (the mount table tells those), and file systems
//! whose changes may come from elsewhere (such a folder is looked at from time to time).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Failure, FailureKind, Watch, earlier};

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests are I/O"
)]
mod tests;

/// The longest path, in bytes: the kernel's own bound.
const PATH_MAX: usize = 4096;

/// As many symbolic links may be on the way: the kernel's own bound.
const LINKS_MAX: usize = 40;

/// As many folders are watched; a way through more is looked at from time to time.
const FOLDERS_MAX: usize = 512;

/// The pause between two looks at what inotify does not tell about.
const SILENT_PAUSE: Duration = Duration::from_millis(50);

/// When to look again after an event, and when at the latest. The mount table tells a change only once: one between two waits for
/// it may be told to nobody.
const SECOND_LOOK: Duration = Duration::from_millis(20);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is read of inotify's queue at a time, in bytes, and how often in one look.
const EVENTS_LEN: usize = 8 << 10;
const READS_MAX: usize = 64;

/// A file that is to be there, or to be gone.
pub(super) struct FileWatch {
    presence: Presence,
    is_wanted: bool,
}

impl FileWatch {
    pub(super) fn new(path: &str, is_wanted: bool) -> Result<Self, Failure> {
        Ok(Self {
            presence: Presence::new(path)?,
            is_wanted,
        })
    }
}

impl Watch for FileWatch {
    fn interest(&self, watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags)) -> Option<Instant> {
        self.presence.interest(watch)
    }

    fn poll(&mut self, now: Instant) -> Result<Option<String>, Failure> {
        Ok((self.presence.look(now) == self.is_wanted).then(String::new))
    }
}

/// Whether something is at a path.
pub(super) struct Presence {
    path: PathBuf,
    notices: Option<Notices>,
    mounts: Option<OwnedFd>,
    folders: BTreeMap<i32, Folder>,
    /// A folder on the way can not be watched, or changes unseen.
    is_silent: bool,
    next: Option<Instant>,
}

/// A folder on the way, and the names that are looked up in it.
#[derive(Default)]
struct Folder {
    names: BTreeSet<OsString>,
    is_silent: bool,
}

/// What inotify had to say.
enum News {
    /// Nothing.
    None,
    /// Nothing about a name on the way.
    Other,
    /// A name on the way.
    Way,
}

impl Presence {
    pub(super) fn new(path: &str) -> Result<Self, Failure> {
        if path.is_empty() || path.len() > PATH_MAX || path.contains('\0') {
            return Err(Failure::new(
                FailureKind::Invalid,
                format!("{path:?} is not a path"),
            ));
        }
        let path = match std::env::current_dir() {
            Ok(directory) => directory.join(path),
            Err(_) => Path::new("/").join(path),
        };
        Ok(Self {
            path,
            notices: Notices::open(),
            mounts: rustix::fs::open(
                "/proc/self/mountinfo",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ok(),
            folders: BTreeMap::new(),
            is_silent: false,
            next: None,
        })
    }

    pub(super) fn interest(
        &self,
        watch: &mut dyn FnMut(BorrowedFd<'_>, EventFlags),
    ) -> Option<Instant> {
        if let Some(notices) = &self.notices {
            watch(notices.fd(), EventFlags::IN);
        }
        if let Some(mounts) = &self.mounts {
            watch(mounts.as_fd(), EventFlags::PRI);
        }
        self.next
    }

    /// Whether something is there now; a symbolic link counts as what it leads to.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        match self.read_news() {
            // A mount may have come at the same moment.
            News::Other if !is_due => self.next = earlier(self.next, Some(now + SILENT_PAUSE)),
            // Whatever woke us when inotify had nothing to say: a mount, or the time.
            News::None | News::Way | News::Other => self.go(now, is_due),
        }
        // Not before the watches are there: what comes later is told.
        std::fs::metadata(&self.path).is_ok()
    }

    /// Goes the way, and has watches where it leads through, and nowhere else.
    fn go(&mut self, now: Instant, is_due: bool) {
        let mut old = std::mem::take(&mut self.folders);
        self.is_silent = self.notices.is_none();
        walk(&self.path.clone(), &mut |folder, name| {
            self.watch(folder, name, &old);
        });
        old.retain(|watch, _| !self.folders.contains_key(watch));
        if let Some(notices) = &self.notices {
            for watch in old.into_keys() {
                // It may be gone by itself, with its folder.
                let _ = inotify::remove_watch(notices.fd(), watch);
            }
        }
        self.next = Some(match (self.is_silent, is_due) {
            (true, _) => now + SILENT_PAUSE,
            (false, false) => now + SECOND_LOOK,
            (false, true) => now + LOOK_AGAIN,
        });
    }

    fn watch(&mut self, folder: &Path, name: &OsStr, old: &BTreeMap<i32, Folder>) {
        let Some(notices) = &self.notices else { return };
        if self.folders.len() >= FOLDERS_MAX {
            self.is_silent = true;
            return;
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(notices.fd(), folder, flags) {
            Ok(watch) => {
                let is_silent = match old.get(&watch) {
                    Some(folder) => folder.is_silent,
                    None => is_silent(folder),
                };
                self.is_silent |= is_silent;
                let folder = self.folders.entry(watch).or_default();
                folder.is_silent = is_silent;
                folder.names.insert(name.to_owned());
            }
            // It went this moment, which the folder above tells.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // There are too many watches, or it may not be read.
            Err(_) => self.is_silent = true,
        }
    }

    fn read_news(&self) -> News {
        let Some(notices) = &self.notices else {
            return News::None;
        };
        let mut news = News::None;
        let mut buffer = [MaybeUninit::uninit(); EVENTS_LEN];
        let mut reader = Reader::new(notices.fd(), &mut buffer);
        let mut reads = 0;
        loop {
            if reader.is_buffer_empty() {
                reads += 1;
                if reads > READS_MAX {
                    // The rest is told again.
                    return news;
                }
            }
            let Ok(event) = reader.next() else {
                return news;
            };
            let is_on_way = match event.file_name() {
                // The folder itself; or the queue was full, and what was lost may be anything.
                None => true,
                Some(name) => self.folders.get(&event.wd()).is_some_and(|folder| {
                    folder.names.contains(OsStr::from_bytes(name.to_bytes()))
                }),
            };
            // The echo of our own taking away of a watch.
            let is_echo = event.events().contains(ReadFlags::IGNORED)
                && !self.folders.contains_key(&event.wd());
            if is_on_way && !is_echo {
                news = News::Way;
            } else if matches!(news, News::None) && !is_echo {
                news = News::Other;
            }
        }
    }
}

/// An inotify queue. To close one takes the kernel up to tens of milliseconds: a thread does it.
struct Notices(Option<OwnedFd>);

impl Notices {
    /// There may be too many queues: then the way is looked at from time to time.
    fn open() -> Option<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Self(Some(fd)))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is there until the drop").as_fd()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let fd = self.0.take();
        // Without a thread it is closed here.
        let _ = std::thread::Builder::new()
            .name("close".to_owned())
            .stack_size(64 << 10)
            .spawn(move || drop(fd));
    }
}

/// Goes the way to an absolute path as the kernel does, and says for each step in which folder (by a path without links) which
/// name will be looked up, before it is.
fn walk(path: &Path, step: &mut dyn FnMut(&Path, &OsStr)) {
    let mut folder = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        step(&folder, &name);
        let next = folder.join(&name);
        let Ok(metadata) = std::fs::symlink_metadata(&next) else {
            return;
        };
        if metadata.is_symlink() {
            links += 1;
            let Ok(target) = std::fs::read_link(&next) else {
                return;
            };
            if links > LINKS_MAX {
                return;
            }
            if target.is_absolute() {
                folder = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                rest.push_front(name);
            }
        } else if metadata.is_dir() {
            folder = next;
        } else {
            return;
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Whether a folder's file system may change without that inotify tells: all do that are not known to be a disk's or memory's.
fn is_silent(folder: &Path) -> bool {
    /// `f_type`s of file systems of which all changes are made here.
    const TOLD: &[u64] = &[
        0xef53,      // ext2, ext3, ext4
        0x0102_1994, // tmpfs, devtmpfs
        0x8584_58f6, // ramfs
        0x9123_683e, // btrfs
        0x5846_5342, // xfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        0x2fc1_2fc1, // zfs
        0x794c_7630, // overlay
        0xe0f5_e1e2, // erofs
        0x7371_7368, // squashfs
        0x9660,      // iso9660
        0x4d44,      // vfat
        0x2011_bab0, // exfat
        0x7366_746e, // ntfs3
    ];
    match rustix::fs::statfs(folder) {
        Ok(of) => !TOLD.contains(&of.f_type.cast_unsigned()),
        Err(_) => true,
    }
}
