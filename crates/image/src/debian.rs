//! The `debian` image: systemd in a root made by mmdebstrap, one read-only EROFS file under a tmpfs.
//!
//! Two entries of the cache: the base system, which all images share, and on top of it what one spec asks for.

mod base;
mod files;
mod mmdebstrap;

use std::io;
use std::path::Path;

use crate::archive::Archive;
use crate::cache::{Cache, Entry, Notes};
use crate::image::Kind;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::key::{KeyBuilder, digest};
use crate::pin::Pin;
use crate::programs::Programs;
use crate::spec::DebianSpec;
use crate::stage1;
use crate::tool;
use crate::{Error, Image, Progress};
use mmdebstrap::Mmdebstrap;

/// Builds the image, or finds it.
pub(crate) fn build(
    cache: &Cache,
    spec: &DebianSpec,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    spec.check()?;
    let archive = Archive::for_debian()?;
    let pin = Pin::obtain(cache, &archive, progress)?;
    let kernel = Kernel::obtain(cache, &archive, &pin, progress)?;
    let programs = Programs::find()?;
    let base_key = base::key(&archive, &pin, &kernel)?;
    let key = key(&base_key, &programs, spec)?;
    let entry = cache.obtain("debian", &key, progress, |folder| {
        let base = cache.obtain("base", &base_key, progress, |folder| {
            base::build(cache, &archive, &kernel, folder, progress)
        })?;
        build_root(cache, &archive, &base, spec, folder, progress)?;
        let initrd = initramfs(&kernel, &programs)?;
        crate::files::write(&folder.join("initrd"), &initrd)?;
        Ok(Notes::new())
    })?;
    Ok(Image {
        kind: Kind::Debian,
        kernel: kernel.vmlinux(),
        initrd: entry.path("initrd"),
        root: Some(entry.path("root.erofs")),
        digest: key,
    })
}

fn key(base: &str, programs: &Programs, spec: &DebianSpec) -> Result<String, Error> {
    let packages = spec.sorted_packages();
    let mut key = KeyBuilder::new("debian")
        .input("base", base)
        .inputs("package", packages.iter());
    for (path, file) in &spec.files {
        key = key
            .input("path", path)
            .input("mode", file.mode.to_le_bytes())
            .input("content", &file.content);
    }
    key = key
        .inputs("run", spec.run.iter())
        .input("setup", files::setup_script())
        .input("finish", files::FINISH)
        .inputs("code", CODE.iter());
    let erofs = tool::find("mkfs.erofs", "erofs-utils")?;
    key = key.input("mkfs.erofs", crate::files::digest(&erofs)?);
    key = key
        .input("stage1", stage1::SCRIPT)
        .input("hand over", HAND_OVER);
    Ok(key.input("busybox", digest(&programs.busybox)).finish())
}

/// The root of one image as an EROFS file.
fn build_root(
    cache: &Cache,
    archive: &Archive,
    base: &Entry,
    spec: &DebianSpec,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let work = cache.workspace("root-work")?;
    let mut mmdebstrap = Mmdebstrap::new(cache, archive, &work, progress)?;
    mmdebstrap.start_from(&base.path("base.tar"));
    mmdebstrap.put_script("setup.sh", &files::setup_script())?;
    let packages = spec.sorted_packages();
    if !packages.is_empty() {
        mmdebstrap.sync_archive_in();
        mmdebstrap.install(&packages);
        mmdebstrap.sync_archive_out();
    }
    if !spec.files.is_empty() || !spec.run.is_empty() {
        mmdebstrap.put_script("spec.sh", &files::spec_script(spec))?;
    }
    mmdebstrap.put_script("finish.sh", files::FINISH)?;
    mmdebstrap.make_erofs(&folder.join("root.erofs"))?;
    let what = if packages.is_empty() {
        "no more packages".to_owned()
    } else {
        packages.join(", ")
    };
    progress.step(&format!("making a debian image with {what}"));
    mmdebstrap.customize(!packages.is_empty(), progress)
}

fn initramfs(kernel: &Kernel, programs: &Programs) -> Result<Vec<u8>, Error> {
    let modules = kernel.modules()?;
    let release = kernel.release()?;
    let write = || -> io::Result<Vec<u8>> {
        let mut archive = Initramfs::default();
        stage1::write(
            &mut archive,
            &MODULES,
            HAND_OVER,
            release,
            &modules,
            &programs.busybox,
        )?;
        archive.finish()
    };
    write().map_err(|source| Error::File {
        what: "cannot make",
        path: "initrd".into(),
        source,
    })
}

/// Whatever this code does to an image is part of the image's key.
const CODE: [&str; 4] = [
    include_str!("debian.rs"),
    include_str!("debian/files.rs"),
    include_str!("debian/mmdebstrap.rs"),
    include_str!("stage1.rs"),
];

const HAND_OVER: &str = include_str!("guest/debian.sh");
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "virtio_blk",
    "erofs",
    "overlay",
    "autofs4",
];

#[cfg(test)]
mod tests;
