//! What the archive held when it was last asked: written down, so that a second build asks nobody.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::archive::{Apt, Archive};
use crate::cache::Cache;
use crate::key::KeyBuilder;
use crate::{Error, Progress, files};

/// The state of an archive that images are made from, until [`Cache::refresh`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    /// A digest over the archive's signed lists.
    pub(crate) lists: String,
    /// The packages that make up the kernel.
    pub(crate) kernel: Vec<Package>,
}

/// One package file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
}

impl Pin {
    /// Reads the pin of an archive, or asks the archive and writes it.
    pub(crate) fn obtain(
        cache: &Cache,
        archive: &Archive,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let path = Self::path(cache, archive);
        if let Some(pin) = Self::read(&path) {
            return Ok(pin);
        }
        let _lock = cache.lock(&format!("apt-{}", archive.id()), progress)?;
        if let Some(pin) = Self::read(&path) {
            return Ok(pin);
        }
        let apt = archive.apt(cache, progress)?;
        apt.update(progress)?;
        let pin = Self {
            lists: lists_digest(cache, archive)?,
            kernel: kernel_packages(&apt, archive, progress)?,
        };
        let work = cache.workspace("pin")?;
        let fresh = work.path().join("pin");
        let text = serde_json::to_vec_pretty(&pin)
            .map_err(|error| files::failed("cannot write", &fresh)(error.into()))?;
        files::write(&fresh, &text)?;
        files::rename(&fresh, &path)?;
        Ok(pin)
    }

    fn path(cache: &Cache, archive: &Archive) -> PathBuf {
        cache
            .root()
            .join("pins")
            .join(format!("{}.json", archive.id()))
    }

    fn read(path: &std::path::Path) -> Option<Self> {
        serde_json::from_slice(&files::read(path, PIN_MAX).ok()?).ok()
    }
}

fn lists_digest(cache: &Cache, archive: &Archive) -> Result<String, Error> {
    let folder = cache
        .root()
        .join("apt")
        .join(archive.id())
        .join("state/lists");
    let mut key = KeyBuilder::new("lists");
    for name in files::names(&folder)? {
        let name = name.to_string_lossy().into_owned();
        if name.ends_with("Release") {
            key = key.input(&name, files::read(&folder.join(&name), PIN_MAX)?);
        }
    }
    Ok(key.finish())
}

/// Asks apt what it would install for the kernel, and keeps the image and its modules.
fn kernel_packages(
    apt: &Apt,
    archive: &Archive,
    progress: &dyn Progress,
) -> Result<Vec<Package>, Error> {
    let wanted = archive.distribution.kernel_package();
    progress.step(&format!("looking for the kernel ({wanted})"));
    let what = format!("looking for {wanted}");
    let lines = apt.ask(
        &what,
        &["install", "--print-uris", "--quiet=2", wanted],
        progress,
    )?;
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| kernel_package_name(line))
        .collect();
    // Ubuntu's lists also have SHA-512, which apt would print.
    let ask = [
        "download",
        "--print-uris",
        "--quiet=2",
        "-oAcquire::ForceHash=SHA256",
    ];
    let arguments = [ask.as_slice(), names.as_slice()].concat();
    let lines = if names.is_empty() {
        Vec::new()
    } else {
        apt.ask(&what, &arguments, progress)?
    };
    let packages: Vec<Package> = lines
        .iter()
        .filter_map(|line| kernel_package(line))
        .collect();
    if packages.is_empty() {
        return Err(Error::UnusableHost(format!(
            "the archive's `{wanted}` leads to no kernel"
        )));
    }
    Ok(packages)
}

/// Reads the name from a line of `--print-uris`, if it is a kernel's or that of its modules:
/// `'http://…' linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb 26713492 SHA256:…`.
fn kernel_package_name(line: &str) -> Option<&str> {
    let (name, _) = line.split_whitespace().nth(1)?.split_once('_')?;
    let rest = PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    rest.starts_with(|first: char| first.is_ascii_digit())
        .then_some(name)
}

/// Reads all of such a line; apt prints the hash when it is asked about a download.
fn kernel_package(line: &str) -> Option<Package> {
    let name = kernel_package_name(line)?;
    let mut words = line.split_whitespace().skip(1);
    let (file, _, hash) = (words.next()?, words.next()?, words.next()?);
    let (version, _) = file
        .strip_prefix(name)?
        .strip_prefix('_')?
        .split_once('_')?;
    let sha256 = hash.strip_prefix("SHA256:")?.to_owned();
    Some(Package {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        sha256,
    })
}

const PREFIXES: [&str; 3] = ["linux-image-unsigned-", "linux-image-", "linux-modules-"];
const PIN_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_its_modules_are_told_from_what_else_apt_would_install() {
        let found = |file: &str| kernel_package(&format!("'http://m/x' {file} 123 SHA256:00ff"));
        let package = found("linux-image-6.8.0-31-generic_6.8.0-31.31_amd64.deb").unwrap();
        assert_eq!(
            (package.name.as_str(), package.version.as_str()),
            ("linux-image-6.8.0-31-generic", "6.8.0-31.31")
        );
        assert!(found("linux-modules-6.8.0-31-generic_6.8.0-31.31_amd64.deb").is_some());
        assert!(found("linux-image-cloud-amd64_6.1.192-2_amd64.deb").is_none());
        assert!(found("kmod_30+20221128-1_amd64.deb").is_none());
        assert!(kernel_package("'http://m/x' linux-image-6_1_amd64.deb 123 MD5Sum:00ff").is_none());
        assert!(kernel_package("Reading package lists...").is_none());
    }
}
