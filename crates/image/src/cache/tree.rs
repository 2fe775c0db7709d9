//! A tree of images and snapshots that is made in one place and used in another, such as a store of Nix.
//!
//! It has the `entries` of a cache and nothing beside, and whoever uses it only reads. An image is found there by what a test asks for:
//! what it was made from is not looked at, so that neither a network nor Debian's tools are needed.

use std::fs;
use std::path::{Path, PathBuf};

use super::lease::USED;
use super::{Cache, Notes, Stored};
use crate::image::Kind;
use crate::{Error, Image, KeyBuilder, Progress, Spec, files};

/// A tree that is being made.
#[derive(Debug)]
pub struct Tree(Cache);

impl Tree {
    /// Makes a tree at `root`, or adds to the one that is there.
    ///
    /// # Errors
    ///
    /// When something else is there, or it cannot be written.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let is_other =
            root.exists() && !root.join(ENTRIES).is_dir() && !files::names(&root)?.is_empty();
        if is_other {
            return Err(Error::Malformed {
                path: root,
                reason: "there is something else than images and snapshots".to_owned(),
            });
        }
        Cache::at(root).map(Self)
    }

    /// Puts an image there, as what `spec` asks for.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn put_image(
        &self,
        spec: &Spec,
        image: &Image,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let copy = |folder: &Path| {
            files::copy_sparse(&image.kernel, &folder.join(KERNEL))?;
            files::copy_sparse(&image.initrd, &folder.join(INITRD))?;
            if let Some(root) = &image.root {
                files::copy_sparse(root, &folder.join(ROOT))?;
            }
            Ok(Notes::from([(DIGEST.to_owned(), image.digest.clone())]))
        };
        self.0.obtain(IMAGE, &key(spec), progress, copy).map(drop)
    }

    /// Puts something there that a cache holds.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn put(
        &self,
        kind: &str,
        key: &str,
        stored: &Stored,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let copy = |folder: &Path| {
            for name in stored.entry.names()? {
                files::copy_sparse(&stored.path(&name), &folder.join(&name))?;
            }
            Ok(stored.entry.notes().clone())
        };
        self.0.obtain(kind, key, progress, copy).map(drop)
    }

    /// A folder for what is of no use when the tree is finished.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.0.root().join("tmp")
    }

    /// Removes what only somebody needs who writes to it.
    ///
    /// # Errors
    ///
    /// When that cannot be removed.
    pub fn finish(self) -> Result<(), Error> {
        for name in files::names(self.0.root())? {
            let path = self.0.root().join(&name);
            if name != ENTRIES {
                fs::remove_dir_all(&path).map_err(files::failed("cannot remove", &path))?;
            }
        }
        let entries = self.0.root().join(ENTRIES);
        for name in files::names(&entries)? {
            // It is not there as a rule.
            let _ = fs::remove_file(entries.join(name).join(USED));
        }
        Ok(())
    }
}

impl Cache {
    /// The same cache; what it does not have is looked for in a tree, too.
    ///
    /// # Errors
    ///
    /// When there is no tree.
    pub fn with_tree(mut self, root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let root =
            std::path::absolute(&root).map_err(files::failed("cannot read the folder", &root))?;
        if !root.join(ENTRIES).is_dir() {
            return Err(Error::Malformed {
                path: root,
                reason: "there are no images and snapshots".to_owned(),
            });
        }
        self.tree = Some(root);
        Ok(self)
    }

    /// The tree behind this cache, as a cache of its own.
    #[must_use]
    pub fn tree(&self) -> Option<Self> {
        self.tree.clone().map(|root| Self { root, tree: None })
    }

    /// The image that the tree has for a spec.
    pub(crate) fn image_of_tree(&self, spec: &Spec, progress: &dyn Progress) -> Option<Image> {
        let tree = self.tree()?;
        let Some(entry) = tree.find(IMAGE, &key(spec)) else {
            let name = tree.root().display();
            progress.step(&format!("{name} has no image for it"));
            return None;
        };
        Some(Image {
            kind: match spec {
                Spec::Micro => Kind::Micro,
                Spec::Debian(_) => Kind::Debian,
            },
            kernel: entry.path(KERNEL),
            initrd: entry.path(INITRD),
            root: Some(entry.path(ROOT)).filter(|root| root.exists()),
            digest: entry.note(DIGEST).ok()?.to_owned(),
        })
    }
}

/// What an image is called in a tree: what is asked for counts, not what it is made from.
fn key(spec: &Spec) -> String {
    let mut spec = spec.clone();
    if let Spec::Debian(spec) = &mut spec {
        spec.packages.sort_unstable();
        spec.packages.dedup();
    }
    KeyBuilder::new(IMAGE)
        .input("spec", format!("{spec:?}"))
        .finish()
}

const ENTRIES: &str = "entries";
const IMAGE: &str = "image";
const KERNEL: &str = "vmlinux";
const INITRD: &str = "initrd";
const ROOT: &str = "root.erofs";
const DIGEST: &str = "digest";
