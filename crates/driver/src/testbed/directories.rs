//! Where a testbed lives.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::MachineKind;
use crate::{Error, TestConfig};

/// The most bytes of a socket's path: what the kernel's `sockaddr_un` takes, and its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// How often a name that is taken already is chosen anew.
const NAME_TRIES: usize = 16;

/// Makes a testbed's own directory below `root`, or below where the NixOS driver would put it.
pub(super) fn make(root: Option<&Path>) -> Result<PathBuf, Error> {
    let root = self::root(root)?;
    for _ in 0..NAME_TRIES {
        let random = std::hash::RandomState::new().build_hasher().finish();
        let directory = root.join(format!("hotbed-{}-{random:08x}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::host(format!("cannot make {}", directory.display()))(
                    error,
                ));
            }
        }
    }
    Err(Error::Machine(format!(
        "no free name for a directory in {}",
        root.display()
    )))
}

/// What testbeds' directories are in.
pub(super) fn root(given: Option<&Path>) -> Result<PathBuf, Error> {
    let root = given.map_or_else(temporary_root, |root| Ok(root.to_owned()))?;
    check_root(&root)?;
    Ok(root)
}

/// The directory that the NixOS driver would take.
pub(crate) fn temporary_root() -> Result<PathBuf, Error> {
    let named = |name| {
        std::env::var_os(name)
            .filter(|value: &OsString| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(root) = ["XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP"]
        .into_iter()
        .find_map(named)
    {
        return Ok(root);
    }
    let usual = ["/tmp", "/var/tmp", "/usr/tmp"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| is_writable(path));
    usual.map_or_else(
        || std::env::current_dir().map_err(Error::host("there is no current directory")),
        Ok,
    )
}

fn check_root(root: &Path) -> Result<(), Error> {
    let defined = format!(
        "The directory defined by XDG_RUNTIME_DIR, TMPDIR, TEMP, TMP or CWD: {}",
        root.display()
    );
    if fs::symlink_metadata(root).is_err() {
        make_private(root)?;
    }
    if !root.is_dir() {
        return Err(Error::host(format!("{defined} is not a directory"))(
            io::ErrorKind::NotADirectory.into(),
        ));
    }
    if !is_writable(root) {
        return Err(Error::host(format!("{defined} is not writeable"))(
            io::ErrorKind::PermissionDenied.into(),
        ));
    }
    if root.as_os_str().as_bytes().contains(&b'\n') {
        return Err(Error::Argument(format!(
            "{defined} has a line break in its name: choose another"
        )));
    }
    Ok(())
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(
        path,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .is_ok()
}

/// Makes a directory that is its owner's alone, with its parents.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(Error::host(format!("cannot make {}", path.display())))
}

/// Fails when a socket could not have that path.
pub(super) fn check_socket_path(path: &Path) -> Result<(), Error> {
    let length = path.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "the socket {} has a path of {length} bytes, and {SOCKET_PATH_MAX} is the most that the system takes: set TMPDIR to a shorter directory, or give the machine a shorter name",
        path.display()
    )))
}

/// `$XDG_STATE_HOME/hotbed`, or where it is by default.
pub(super) fn state_home() -> Result<PathBuf, Error> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let none = || {
        Error::Argument(
            "no place for console logs: give an output directory, or set XDG_STATE_HOME or HOME"
                .to_owned(),
        )
    };
    Ok(base.ok_or_else(none)?.join("hotbed"))
}

/// The image cache's folder, for tests that need one.
pub(super) fn cache(config: &TestConfig, given: Option<PathBuf>) -> Option<PathBuf> {
    let needed = config
        .machines
        .iter()
        .any(|machine| matches!(machine.kind, MachineKind::Image(_)));
    given.or_else(|| {
        needed
            .then(|| hotbed_image::Cache::open().ok())
            .flatten()
            .map(|cache| cache.root().to_owned())
    })
}
