//! Files between host and guest.
//!
//! Three ways lead in and out: the agent; without it the directory that a start script shares with its guest at `/tmp/shared`;
//! and the shell's stream, for guests that have neither. All copy in pieces; none holds a file in memory.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

mod agent;
mod receive;
mod send;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hotbed_console::Command;

use super::channel::Channel;
use super::quoting::quote;
use super::shell::Session;
use super::{Execute, Machine};
use crate::config::MachineKind;
use crate::{Call, Error};
use receive::{FETCH, Incoming};
use send::{copy, put, put_directory};

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;
/// The most bytes of a file that is read into memory.
const READ_MAX: u64 = 1 << 30;
/// Where the shared directory is in the guest.
const SHARED: &str = "/tmp/shared";

/// Tells names of temporary files apart.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Makes room for what comes, and says where it goes: into `$target` when that is a directory.
const PLACE: &str = r#"
if [ -d "$target" ]; then target=${target%/}/$name; fi
case $target in */*) mkdir -p -- "${target%/*}/" ;; esac
printf %s "$target"
"#;

impl Machine {
    /// Copies a file or a directory into the guest; it becomes root's and keeps its mode.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or the guest does not take it.
    pub fn copy_from_host(
        &self,
        source: &Path,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let name = name_of(source)?;
        if self.sees_shared_dir(call)? {
            return self.copy_in_by_share(source, &name, target, call);
        }
        self.nested(&format!("copying {} to {target}", source.display()), || {
            self.copy_in(source, &name, target, call)
        })
    }

    /// Copies a file into the guest without a shared directory.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or the guest does not take it.
    pub fn copy_from_host_via_shell(
        &self,
        source: &Path,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.nested(&format!("copying {} to {target}", source.display()), || {
            // A folder is refused before the guest hears of it.
            let (mut file, length, _) = open(source)?;
            self.with_channel(0, call, |channel| match channel {
                Channel::Agent(conversation) => conversation.put(source, target, call),
                Channel::Shell(session) => put(session, target, length, call, |writer| {
                    copy(&mut file, writer)
                }),
            })
        })
    }

    /// Copies a file or a directory of the guest to `<out dir>/<target_dir>/<its name>`.
    ///
    /// # Errors
    ///
    /// When the source is not there, or a directory is to be copied to where one is already.
    pub fn copy_from_machine(
        &self,
        source: &str,
        target_dir: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let name = name_of(Path::new(source))?;
        let target = self.site.out_dir.join(target_dir).join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)
                .map_err(Error::host(format!("cannot make {}", parent.display())))?;
        }
        if self.sees_shared_dir(call)? {
            let inside = format!("{SHARED}/{target_dir}");
            self.succeed(&[&format!("mkdir -p {}", quote(&inside))], None, call)?;
            self.succeed(
                &[&format!(
                    "cp -r {} {}",
                    quote(source),
                    quote(&format!("{inside}/{name}"))
                )],
                None,
                call,
            )?;
            return copy_on_host(&self.shared_dir.join(target_dir).join(&name), &target);
        }
        self.nested(&format!("copying {source} to {}", target.display()), || {
            self.copy_out(source, &target, call)
        })
    }

    /// Whether the guest sees the shared directory.
    fn sees_shared_dir(&self, call: &Call<'_>) -> Result<bool, Error> {
        if matches!(self.config.kind, MachineKind::Image(_))
            || self.with_agent(call, |_| Ok(()))?.is_some()
        {
            return Ok(false);
        }
        let token = format!(
            ".hotbed-{}-{}",
            self.name(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let path = self.shared_dir.join(&token);
        fs::write(&path, b"").map_err(Error::host(format!("cannot write {}", path.display())))?;
        let seen = self.execute(
            &format!("test -e {SHARED}/{}", quote(&token)),
            &Execute::default(),
            call,
        );
        let _ = fs::remove_file(&path);
        Ok(seen?.status == 0)
    }

    fn copy_in_by_share(
        &self,
        source: &Path,
        name: &str,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let temporary = format!(
            "tmp{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let directory = TemporaryDirectory::make(self.shared_dir.join(&temporary))?;
        let inside = format!("{SHARED}/{temporary}");
        self.succeed(&[&format!("mkdir -p {inside}")], None, call)?;
        copy_on_host(source, &directory.0.join(name))?;
        let parent = Path::new(target)
            .parent()
            .map(|parent| parent.to_string_lossy().into_owned())
            .filter(|parent| !parent.is_empty());
        if let Some(parent) = parent {
            self.succeed(&[&format!("mkdir -p {}", quote(&parent))], None, call)?;
        }
        self.succeed(
            &[&format!(
                "cp -r {} {}",
                quote(&format!("{inside}/{name}")),
                quote(target)
            )],
            None,
            call,
        )?;
        Ok(())
    }

    fn copy_in(
        &self,
        source: &Path,
        name: &str,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        fs::metadata(source).map_err(cannot_read(source))?;
        self.with_channel(0, call, |channel| {
            let place = format!("target={} name={}\n{PLACE}", quote(target), quote(name));
            let target = run(channel, &place, "making room", call)?;
            put_at(channel, source, &target, call)
        })
    }

    fn copy_out(&self, source: &str, target: &Path, call: &Call<'_>) -> Result<(), Error> {
        self.with_channel(0, call, |channel| match channel {
            Channel::Agent(conversation) => conversation.get(source, target, call),
            Channel::Shell(session) => {
                let mut incoming = Incoming::new(target);
                let script = format!("source={}\n{FETCH}", quote(source));
                match session.run(&Command::new(&script), &mut incoming, None, call)? {
                    0 => incoming.finish(),
                    status => Err(Error::TestFailed(format!(
                        "{source} of {} cannot be copied (exit code {status}; see its console)",
                        self.name()
                    ))),
                }
            }
        })
    }

    /// Puts a file or a directory of the host at exactly this path of the guest, where it becomes root's and keeps its mode. What a
    /// directory has is added to one that is there.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or the guest does not take it.
    pub fn put(&self, source: &Path, target: &str, call: &Call<'_>) -> Result<(), Error> {
        fs::metadata(source).map_err(cannot_read(source))?;
        self.nested(&format!("putting {} at {target}", source.display()), || {
            self.with_channel(0, call, |channel| put_at(channel, source, target, call))
        })
    }

    /// Gets a file of the guest, or a directory to where none is, as exactly this path of the host.
    ///
    /// # Errors
    ///
    /// When the source is not there, or the target cannot be written.
    pub fn get(&self, source: &str, target: &Path, call: &Call<'_>) -> Result<(), Error> {
        self.nested(&format!("getting {source} as {}", target.display()), || {
            self.copy_out(source, target, call)
        })
    }

    /// What is in a file of the guest.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it cannot be read.
    pub fn read(&self, path: &str, call: &Call<'_>) -> Result<Vec<u8>, Error> {
        self.nested(&format!("reading {path}"), || {
            self.with_channel(0, call, |channel| match channel {
                Channel::Agent(conversation) => conversation.get_bytes(path, READ_MAX, call),
                Channel::Shell(session) => {
                    let mut bytes = Vec::new();
                    let script = format!("exec cat -- {}", quote(path));
                    match session.run(&Command::new(&script), &mut bytes, None, call)? {
                        0 => Ok(bytes),
                        status => Err(Error::TestFailed(format!(
                            "{}: cannot read {path} (exit code {status}; see its console)",
                            self.name()
                        ))),
                    }
                }
            })
        })
    }

    /// Writes a file of the guest, with these permission bits; missing directories above it are made.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it cannot be written.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32, call: &Call<'_>) -> Result<(), Error> {
        if mode > 0o7777 {
            return Err(Error::Argument(format!("{mode:o} is not a file's mode")));
        }
        self.nested(&format!("writing {path}"), || {
            self.with_channel(0, call, |channel| match channel {
                Channel::Agent(conversation) => conversation.put_bytes(bytes, path, mode, call),
                Channel::Shell(session) => {
                    put_bytes(session, path, bytes, call)?;
                    set_mode(channel, path, mode, call)
                }
            })
        })
    }
}

/// Puts a file or a directory of the host at `target`.
fn put_at(
    channel: &mut Channel<'_>,
    source: &Path,
    target: &str,
    call: &Call<'_>,
) -> Result<(), Error> {
    let session = match channel {
        Channel::Agent(conversation) => return conversation.put(source, target, call),
        Channel::Shell(session) => session,
    };
    if fs::metadata(source).map_err(cannot_read(source))?.is_dir() {
        return put_directory(session, source, target, call);
    }
    let (mut file, length, mode) = open(source)?;
    put(session, target, length, call, |writer| {
        copy(&mut file, writer)
    })?;
    set_mode(channel, target, mode, call)
}

/// Puts bytes at `target` by the shell.
pub(super) fn put_bytes(
    session: &mut Session<'_>,
    target: &str,
    bytes: &[u8],
    call: &Call<'_>,
) -> Result<(), Error> {
    put(session, target, bytes.len() as u64, call, |writer| {
        writer.write_all(bytes)
    })
}

fn set_mode(
    channel: &mut Channel<'_>,
    target: &str,
    mode: u32,
    call: &Call<'_>,
) -> Result<(), Error> {
    let script = format!("chmod {mode:o} -- {}", quote(target));
    run(channel, &script, "setting the mode", call).map(|_| ())
}

/// The last part of a path.
fn name_of(path: &Path) -> Result<String, Error> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::Argument(format!("{} has no file name", path.display())))?;
    Ok(name.to_string_lossy().into_owned())
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::host(format!("cannot read {}", path.display()))
}

/// A file of the host with its length and mode.
fn open(source: &Path) -> Result<(File, u64, u32), Error> {
    let file = File::open(source).map_err(cannot_read(source))?;
    let metadata = file.metadata().map_err(cannot_read(source))?;
    if !metadata.is_file() {
        return Err(Error::Argument(format!(
            "{} is not a file",
            source.display()
        )));
    }
    Ok((file, metadata.len(), metadata.permissions().mode() & 0o7777))
}

/// Runs a small script of ours; gives what it wrote.
fn run(
    channel: &mut Channel<'_>,
    script: &str,
    what: &str,
    call: &Call<'_>,
) -> Result<String, Error> {
    let mut output = Vec::new();
    let status = channel.run(&Command::new(script), &mut output, None, call)?;
    check(status, what, channel.machine())?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

fn check(status: i32, what: &str, machine: &Machine) -> Result<(), Error> {
    match status {
        0 => Ok(()),
        status => Err(Error::TestFailed(format!(
            "{what} in {} failed (exit code {status}; see its console)",
            machine.name()
        ))),
    }
}

/// A directory that is removed at the end.
pub(super) struct TemporaryDirectory(pub(super) PathBuf);

impl TemporaryDirectory {
    pub(super) fn make(path: PathBuf) -> Result<Self, Error> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Error::host(format!("cannot make {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies a file with its mode, or a directory to where none is, links followed.
fn copy_on_host(source: &Path, target: &Path) -> Result<(), Error> {
    let failed = || {
        Error::host(format!(
            "cannot copy {} to {}",
            source.display(),
            target.display()
        ))
    };
    if !fs::metadata(source).map_err(failed())?.is_dir() {
        return fs::copy(source, target).map(|_| ()).map_err(failed());
    }
    fs::create_dir(target).map_err(failed())?;
    for entry in fs::read_dir(source).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        copy_on_host(&entry.path(), &target.join(entry.file_name()))?;
    }
    let mode = fs::metadata(source).map_err(failed())?.permissions();
    fs::set_permissions(target, mode).map_err(failed())
}
