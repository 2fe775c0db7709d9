//! What a machine boots: kernels, initramfs and root images, built once.
//!
//! [`build`] turns a [`Spec`] into an [`Image`], or finds the one that was built before:
//!
//! - [`spec`]: what is wanted: `micro` or `debian`, with packages, files and commands.
//! - [`cache`]: where it is kept, keyed by everything that goes in.
//! - [`identity`]: what makes one machine of many: host name, interfaces, hosts.
//! - [`image`]: what came out, and how QEMU must be told to boot it.
//! - [`agent`]: what is put beside it, for a guest that has more than a shell.
//!
//! Invariant: an entry of the cache is whole or absent; nobody ever sees half of one.

/// The example of the README, checked as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

pub mod agent;
mod archive;
pub mod cache;
mod debian;
mod error;
mod files;
pub mod identity;
pub mod image;
mod initramfs;
mod kernel;
mod key;
mod micro;
mod modules;
mod pin;
mod programs;
mod progress;
mod reseed;
mod sources;
pub mod spec;
mod stage1;
mod tool;
mod unpack;

pub use agent::Agent;
pub use cache::Cache;
pub use error::Error;
pub use identity::{Identity, Interface};
pub use image::{Image, Kind, LogConsole};
pub use key::KeyBuilder;
pub use progress::{Progress, Silent};
pub use spec::{DebianSpec, FileSpec, Spec};

/// Builds the image that `spec` asks for, or finds it in `cache`.
///
/// # Errors
///
/// When the spec is not valid, a tool is missing or fails, the network or the disk does.
pub fn build(cache: &Cache, spec: &Spec, progress: &dyn Progress) -> Result<Image, Error> {
    if let Some(image) = cache.image_of_tree(spec, progress) {
        return Ok(image);
    }
    match spec {
        Spec::Micro => micro::build(cache, progress),
        Spec::Debian(spec) => debian::build(cache, spec, progress),
    }
}

/// Builds an image as [`build`] does, and takes a lease on it: its files stay where they are as long as that is held.
///
/// # Errors
///
/// As of [`build`].
pub fn obtain(
    cache: &Cache,
    spec: &Spec,
    progress: &dyn Progress,
) -> Result<(Image, cache::Lease), Error> {
    let mut tries = 1;
    loop {
        let image = build(cache, spec, progress)?;
        match cache.hold(&image) {
            Some(lease) => return Ok((image, lease)),
            // Somebody has made room between the one and the other.
            None if tries < OBTAIN_TRIES => tries += 1,
            None => {
                return Err(Error::Malformed {
                    path: image.initrd,
                    reason: "it goes away as soon as it is there".to_owned(),
                });
            }
        }
    }
}

/// How often an image is built that somebody removes at once.
const OBTAIN_TRIES: u32 = 3;
