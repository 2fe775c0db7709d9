//! How much room a cache may take, and what goes when it is more.

use std::fs;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::{Cache, Listed, lease, list, lock};
use crate::{Error, files};

/// The variable that says how much room a cache may take.
pub const LIMIT: &str = "HOTBED_CACHE_LIMIT";
/// How much it is when nobody says.
const BYTES: u64 = 8 << 30;
/// For how long an image stays that no test uses.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How much room a cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many bytes on the disk. Snapshots take no more than that; what else is there goes when all is more, and it is old.
    pub bytes: u64,
    /// For how long something stays that takes longer to make than a boot does, such as an image, though nobody uses it.
    pub unused: Duration,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            bytes: BYTES,
            unused: UNUSED,
        }
    }
}

impl Limit {
    /// What `HOTBED_CACHE_LIMIT` says, such as `512M` or `20G`; else 8 GiB.
    ///
    /// # Errors
    ///
    /// When it says something else.
    pub fn of_environment() -> Result<Self, Error> {
        match std::env::var_os(LIMIT) {
            None => Ok(Self::default()),
            Some(text) => text.to_string_lossy().parse().map_err(|_| {
                Error::InvalidSpec(format!(
                    "{LIMIT} is {text:?}, which is not a size such as 20G"
                ))
            }),
        }
    }
}

impl FromStr for Limit {
    type Err = &'static str;

    /// Reads a number of bytes, or a size with `K`, `M`, `G` or `T`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err("not a size such as 512M or 20G"),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "not a size such as 512M or 20G")?;
        let bytes = number.checked_mul(1 << shift);
        Ok(Self {
            bytes: bytes.ok_or("a size that is too large")?,
            ..Self::default()
        })
    }
}

impl Cache {
    /// Makes room: removes the entries of these kinds, those used least recently first, until no more than the limit is left of them; then
    /// others that were of no use for longer than the limit says, as long as everything together is more. Gives what went.
    ///
    /// What somebody holds a [`Lease`](super::Lease) on stays.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, or an entry not removed.
    pub fn make_room(&self, kinds: &[&str], limit: &Limit) -> Result<Vec<Listed>, Error> {
        // The same for all kinds: two who make room at once would remove too much.
        let _lock = lock::wait(&self.root().join("locks").join(".room"))?;
        let mut listed = self.list()?;
        listed.sort_by_key(|listed| listed.used);
        let sum = |entries: &[Listed]| entries.iter().map(|listed| listed.bytes).sum::<u64>();
        let (easy, dear): (Vec<_>, Vec<_>) = listed
            .into_iter()
            .partition(|listed| kinds.contains(&&*listed.kind));
        let (mut of_kind, mut total) = (sum(&easy), sum(&easy).saturating_add(sum(&dear)));
        let mut gone = Vec::new();
        for listed in easy {
            if of_kind > limit.bytes && self.evict(&listed)? {
                of_kind -= listed.bytes;
                total -= listed.bytes;
                gone.push(listed);
            }
        }
        for listed in dear {
            if total > limit.bytes && is_older(listed.used, limit.unused) && self.evict(&listed)? {
                total -= listed.bytes;
                gone.push(listed);
            }
        }
        Ok(gone)
    }

    /// Removes an entry that nobody uses, nor has used since it was looked at; says whether it went.
    fn evict(&self, listed: &Listed) -> Result<bool, Error> {
        let place = self.place(&listed.kind, &listed.key);
        let Some(_alone) = lease::hold_alone(&place) else {
            return Ok(false);
        };
        match list::measure(&place) {
            Some(measured) if measured.used == listed.used => {}
            _ => return Ok(false),
        }
        self.remove(&listed.kind, &listed.key)?;
        Ok(true)
    }

    /// Whether somebody may put entries there.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let folders = ["entries", "locks", "tmp"].map(|folder| self.root().join(folder));
        let writable = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let mut folders = folders.iter();
        folders.all(|folder| rustix::fs::access(folder, writable).is_ok())
    }

    /// Removes an entry, if it is there. Who uses its files at the moment may go on.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove(&self, kind: &str, key: &str) -> Result<(), Error> {
        let place = self.place(kind, key);
        if !place.exists() {
            return Ok(());
        }
        // It goes at one stroke, and its files after that.
        let work = self.workspace(&format!("{kind}-{key}"))?;
        let grave = work.path().join("removed");
        match fs::rename(&place, &grave) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(files::failed("cannot remove", &place)(error))
            }
            _ => Ok(()),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long ago something was used depends on the time"
)]
fn is_older(used: SystemTime, age: Duration) -> bool {
    SystemTime::now()
        .duration_since(used)
        .is_ok_and(|unused| unused >= age)
}
