//! A child that cleans up after us when we cannot: it outlives a `kill -9` of this process.
//!
//! It is a small shell script that reads from a pipe what there is to clean up. When the pipe ends, because we closed it or
//! because the kernel did it for us, it kills the process groups, then every process that still carries the testbed's mark in
//! its environment, and removes the directories.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::call::now;
use crate::process::{Process, spawn_survivor};

/// The variable that marks all that a testbed starts; its value is the testbed's directory.
pub(crate) const MARK: &str = "HOTBED_TESTBED";

/// How long the reaper may take to end: it may have many files to remove.
const END_GRACE: Duration = Duration::from_secs(5);

/// Reads `group N`, `forget N`, `dir PATH`, `keep` (no directory is removed); acts at the end of its input. `$1` is the mark.
const SCRIPT: &str = r#"
trap '' HUP INT TERM PIPE QUIT
mark=$1; shift
groups=' '
while IFS= read -r line; do
  case $line in
    'group '*) groups="$groups${line#group } " ;;
    'forget '*) n=${line#forget }; case $groups in *" $n "*) groups="${groups%% $n *} ${groups#* $n }" ;; esac ;;
    'dir '*) set -- "$@" "${line#dir }" ;;
    keep) set -- ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
for environment in $(grep -alsF "$mark" /proc/[0-9]*/environ); do
  pid=${environment#/proc/}; pid=${pid%/environ}
  [ "$pid" = "$$" ] || kill -s KILL "$pid"
done
[ $# = 0 ] || rm -rf -- "$@"
"#;

/// The child that cleans up after us.
#[derive(Debug)]
pub(crate) struct Reaper {
    process: Process,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Reaper {
    /// Starts the reaper for the testbed in `directory`, which it will remove.
    pub(crate) fn start(directory: &Path) -> io::Result<Self> {
        let mut mark = format!("{MARK}=").into_bytes();
        mark.extend_from_slice(directory.as_os_str().as_bytes());
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(SCRIPT)
            .arg("hotbed-reaper")
            .arg(OsStr::from_bytes(&mark));
        // It must hold no file that it might be waiting for others to close, nor the user's directory.
        command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = spawn_survivor(command)?;
        let pipe = process.take_stdin();
        let reaper = Self {
            process,
            pipe: Mutex::new(pipe),
        };
        reaper.tell(b"dir ", directory.as_os_str().as_bytes())?;
        Ok(reaper)
    }

    /// Remembers a process group.
    pub(crate) fn watch(&self, group: u32) -> io::Result<()> {
        self.tell(b"group ", group.to_string().as_bytes())
    }

    /// Forgets a process group that is no more: its number may become a stranger's.
    pub(crate) fn forget(&self, group: u32) {
        // When the reaper is gone, it kills nobody.
        let _ = self.tell(b"forget ", group.to_string().as_bytes());
    }

    /// Leaves the directories where they are.
    pub(crate) fn keep_directories(&self) {
        let _ = self.tell(b"keep", b"");
    }

    /// Ends the reaper: it cleans up what is left, and this waits for it.
    pub(crate) fn finish(&self) {
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let _ = self.process.poll_exit(now() + END_GRACE);
    }

    fn tell(&self, verb: &[u8], argument: &[u8]) -> io::Result<()> {
        let mut line = verb.to_vec();
        line.extend_from_slice(argument);
        line.push(b'\n');
        match self
            .pipe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(pipe) => pipe.write_all(&line),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.finish();
    }
}
