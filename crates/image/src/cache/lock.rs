//! Locks between processes, by `flock`: the kernel releases them when a process dies.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::files::failed;
use crate::{Error, Progress};

/// Takes a lock, saying so when it has to wait, and giving up when the caller does.
pub(super) fn acquire(path: &Path, name: &str, progress: &dyn Progress) -> Result<File, Error> {
    let file = open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    let kind = name.split('-').next().unwrap_or(name);
    progress.step(&format!(
        "waiting for another process that builds the same {kind}"
    ));
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let locked = flock(&file, FlockOperation::LockExclusive).map(|()| file);
        let _ = sender.send(locked); // Nobody listens when the caller gave up; then the lock is let go here.
    });
    loop {
        if progress.is_interrupted() {
            return Err(Error::Interrupted);
        }
        match receiver.recv_timeout(PATIENCE) {
            Ok(locked) => return locked.map_err(|errno| failed("cannot lock", path)(errno.into())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Interrupted),
        }
    }
}

/// Takes a lock that nobody holds for long.
pub(super) fn wait(path: &Path) -> Result<File, Error> {
    let file = open(path)?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|errno| failed("cannot lock", path)(errno.into()))?;
    Ok(file)
}

/// Locks a folder if nobody else has.
pub(super) fn hold_folder(path: &Path) -> Result<File, Error> {
    let folder = File::open(path).map_err(failed("cannot open", path))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)
        .map_err(|errno| failed("cannot lock", path)(errno.into()))?;
    Ok(folder)
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("cannot open", path))
}

const PATIENCE: Duration = Duration::from_millis(50);
