//! The kernel: taken from the distribution's package into the cache, never installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::cache::{Cache, Entry, Notes};
use crate::key::KeyBuilder;
use crate::modules::{self, Module};
use crate::pin::Pin;
use crate::tool::{self, Run};
use crate::{Error, Progress, files, unpack};

/// A kernel in the cache.
#[derive(Debug)]
pub(crate) struct Kernel {
    entry: Entry,
    /// A digest over its packages.
    pub(crate) key: String,
}

impl Kernel {
    /// Finds the kernel that `pin` names, or downloads and unpacks it.
    pub(crate) fn obtain(
        cache: &Cache,
        archive: &Archive,
        pin: &Pin,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let packages = pin
            .kernel
            .iter()
            .map(|package| format!("{} {}", package.name, package.sha256));
        let modules = MODULES.iter();
        let key = KeyBuilder::new("kernel")
            .inputs("package", packages)
            .inputs("module", modules)
            .finish();
        let build = |folder: &Path| download(cache, archive, pin, folder, progress);
        let entry = cache.obtain("kernel", &key, progress, build)?;
        Ok(Self { entry, key })
    }

    /// The uncompressed kernel.
    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.entry.path("vmlinux")
    }

    /// The release, as `uname -r` says it.
    pub(crate) fn release(&self) -> Result<&str, Error> {
        self.entry.note("release")
    }

    /// The modules that machines need to boot, in the order of loading.
    pub(crate) fn modules(&self) -> Result<Vec<Module>, Error> {
        let mut all = Vec::new();
        for line in self.entry.note("modules")?.lines() {
            let mut names = line.split_whitespace().map(str::to_owned);
            let Some(name) = names.next() else { continue };
            let content = files::read(&self.entry.path(&format!("{name}.ko")), MODULE_MAX)?;
            all.push(Module {
                name,
                needs: names.collect(),
                content,
            });
        }
        Ok(all)
    }

    /// Unpacks the packages, with all modules, into a folder.
    pub(crate) fn unpack(&self, into: &Path, progress: &dyn Progress) -> Result<(), Error> {
        for name in self.entry.note("packages")?.lines() {
            unpack_package(&self.entry.path(name), into, progress)?;
        }
        Ok(())
    }
}

fn download(
    cache: &Cache,
    archive: &Archive,
    pin: &Pin,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Notes, Error> {
    let apt = archive.apt(cache, progress)?;
    let names: Vec<&str> = pin
        .kernel
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    progress.step(&format!("downloading {}", names.join(", ")));
    let wanted = pin
        .kernel
        .iter()
        .map(|package| format!("{}={}", package.name, package.version));
    let wanted: Vec<String> = wanted.collect();
    let arguments: Vec<&str> = ["download"]
        .into_iter()
        .chain(wanted.iter().map(String::as_str))
        .collect();
    let fetch = || apt.run("downloading the kernel", &arguments, Some(folder), progress);
    if let Err(first) = fetch() {
        if matches!(first, Error::Interrupted) {
            return Err(first);
        }
        apt.update(progress)?; // The lists may be gone.
        if let Err(second) = fetch() {
            cache.refresh()?; // The archive keeps one version; it has moved on, and so must the pin.
            return Err(second);
        }
    }
    let mut packages = Vec::new();
    for name in files::names(folder)? {
        packages.push(name.to_string_lossy().into_owned());
    }
    check(folder, &packages, pin)?;
    let tree = cache.workspace("tree")?;
    for name in &packages {
        progress.step(&format!("unpacking {name}"));
        unpack_package(&folder.join(name), tree.path(), progress)?;
    }
    let release = release(tree.path())?;
    let image = tree.path().join("boot").join(format!("vmlinuz-{release}"));
    let malformed = |reason| Error::Malformed {
        path: image.clone(),
        reason,
    };
    let vmlinux = unpack::vmlinux(&files::read(&image, IMAGE_MAX)?).map_err(malformed)?;
    files::write(&folder.join("vmlinux"), &vmlinux)?;
    let found = boot_modules(tree.path(), &release)?;
    let mut list = String::new();
    for module in &found {
        files::write(&folder.join(format!("{}.ko", module.name)), &module.content)?;
        list.push_str(&format!("{} {}\n", module.name, module.needs.join(" ")));
    }
    let notes = [
        ("release", release),
        ("modules", list),
        ("packages", packages.join("\n")),
    ];
    Ok(notes.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The files must be those that the pin names: apt has checked their signatures, but not that they are these.
fn check(folder: &Path, packages: &[String], pin: &Pin) -> Result<(), Error> {
    let mut digests = BTreeSet::new();
    for name in packages {
        digests.insert(files::digest(&folder.join(name))?);
    }
    let expected: BTreeSet<String> = pin
        .kernel
        .iter()
        .map(|package| package.sha256.clone())
        .collect();
    if digests == expected {
        return Ok(());
    }
    Err(Error::Malformed {
        path: folder.to_owned(),
        reason: "apt downloaded other packages than were named".to_owned(),
    })
}

fn unpack_package(package: &Path, into: &Path, progress: &dyn Progress) -> Result<(), Error> {
    let run = Run::new(
        format!("unpacking {}", package.display()),
        tool::find("dpkg-deb", "dpkg")?,
    );
    run.arg("--extract")
        .arg(package)
        .arg(into)
        .run(progress)
        .map(drop)
}

/// The release is in the name of the kernel's file.
fn release(tree: &Path) -> Result<String, Error> {
    let boot = tree.join("boot");
    for name in files::names(&boot)? {
        if let Some(release) = name.to_string_lossy().strip_prefix("vmlinuz-") {
            return Ok(release.to_owned());
        }
    }
    Err(Error::Malformed {
        path: boot,
        reason: "the packages hold no vmlinuz".to_owned(),
    })
}

/// Reads the modules that machines need to boot, with what those need.
fn boot_modules(tree: &Path, release: &str) -> Result<Vec<Module>, Error> {
    // Older packages bring /lib, newer ones /usr/lib.
    let roots = ["usr/lib/modules", "lib/modules"].map(|folder| tree.join(folder).join(release));
    let root = roots.iter().find(|root| root.is_dir()).unwrap_or(&roots[0]);
    let mut paths = Vec::new();
    find_modules(&root.join("kernel"), &mut paths, FOLDERS_DEEP_MAX)?;
    let list = files::read(&root.join("modules.builtin"), LIST_MAX)?;
    let list = String::from_utf8_lossy(&list);
    let file_name = |path: &str| modules::canonical(path.rsplit('/').next().unwrap_or(path));
    let built_in: BTreeSet<String> = list.lines().map(file_name).collect();
    let mut load = |name: &str| {
        let path = paths
            .iter()
            .find(|path| path.to_str().is_some_and(|path| file_name(path) == name));
        let read = |path: &PathBuf| {
            let file = files::read(path, MODULE_MAX).map_err(|error| error.to_string())?;
            unpack::module(&file).map_err(|reason| format!("{}: {reason}", path.display()))
        };
        path.map(read).transpose()
    };
    modules::resolve(&MODULES, &built_in, &mut load).map_err(|reason| Error::Malformed {
        path: root.clone(),
        reason,
    })
}

fn find_modules(folder: &Path, found: &mut Vec<PathBuf>, depth: u32) -> Result<(), Error> {
    for name in files::names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() && depth > 0 {
            find_modules(&path, found, depth - 1)?;
        } else if name.to_string_lossy().contains(".ko") {
            found.push(path);
        }
    }
    Ok(())
}

/// What a machine needs before it has a root: its consoles, cards, disk, entropy, and the root's file systems.
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

const IMAGE_MAX: u64 = 128 << 20;
const MODULE_MAX: u64 = 32 << 20;
const LIST_MAX: u64 = 4 << 20;
const FOLDERS_DEEP_MAX: u32 = 16;
