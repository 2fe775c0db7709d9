//! Where images are kept, keyed by everything that goes in.

use std::path::{Path, PathBuf};

use crate::Error;

/// A folder of images and of what they are made from.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
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

    /// Opens the cache at `root`, which is made when it is absent.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        std::fs::create_dir_all(&root).map_err(|source| Error::File {
            what: "cannot make",
            path: root.clone(),
            source,
        })?;
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
