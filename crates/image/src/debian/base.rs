//! The base system, which all `debian` images share, as a tar file.

use std::path::Path;

use super::files::quote;
use super::mmdebstrap::Mmdebstrap;
use crate::archive::Archive;
use crate::cache::{Cache, Notes};
use crate::kernel::Kernel;
use crate::key::KeyBuilder;
use crate::pin::Pin;
use crate::tool::{self, Run};
use crate::{Error, Progress};

/// The key of its entry.
pub(super) fn key(archive: &Archive, pin: &Pin, kernel: &Kernel) -> Result<String, Error> {
    let mut key = KeyBuilder::new("base")
        .input("sources", archive.sources_list())
        .input("lists", &pin.lists);
    key = key
        .input("kernel", &kernel.key)
        .inputs("package", PACKAGES.iter());
    let tool = tool::find("mmdebstrap", "mmdebstrap")?;
    key = key.input("mmdebstrap", crate::files::digest(&tool)?);
    Ok(key.inputs("code", CODE.iter()).finish())
}

/// Makes it in `folder`.
pub(super) fn build(
    cache: &Cache,
    archive: &Archive,
    kernel: &Kernel,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Notes, Error> {
    let work = cache.workspace("base-work")?;
    progress.step("unpacking the kernel's modules");
    let tree = work.path().join("tree");
    crate::files::create_folder(&tree)?;
    kernel.unpack(&tree, progress)?;
    let modules = work.path().join("modules.tar");
    // Older packages bring /lib, which is a link in the root.
    let top = if tree.join("usr/lib/modules").is_dir() {
        "usr/lib/modules"
    } else {
        "lib/modules"
    };
    let run = Run::new("packing the kernel's modules", tool::find("tar", "tar")?);
    let run = run
        .args([
            "--create",
            "--owner=0",
            "--group=0",
            "--transform=s,^lib/,usr/lib/,",
            "--file",
        ])
        .arg(&modules);
    run.arg("--directory").arg(&tree).arg(top).run(progress)?;

    let mut mmdebstrap = Mmdebstrap::new(cache, archive, &work, progress)?;
    mmdebstrap.setup_hook("mkdir -p \"$1\"/var/cache/apt/archives");
    mmdebstrap.sync_archive_in();
    mmdebstrap.sync_archive_out();
    mmdebstrap.unpack(&modules);
    mmdebstrap.put_script(
        "depmod.sh",
        &format!("depmod -a {}\n", quote(kernel.release()?)),
    )?;
    progress.step("making Debian's base system (about a minute, once)");
    mmdebstrap.make_base(&PACKAGES, &folder.join("base.tar"), progress)?;
    Ok(Notes::new())
}

/// What every image has beside what Debian calls essential.
const PACKAGES: [&str; 12] = [
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "login",
    "netcat-openbsd",
    "passwd",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
    // The other way to a merged /usr brings all of Perl.
    "usr-is-merged",
];

/// Whatever this code does to the base is part of its key.
const CODE: [&str; 2] = [include_str!("base.rs"), include_str!("mmdebstrap.rs")];
