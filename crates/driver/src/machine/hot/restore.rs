//! A QEMU that begins from a snapshot.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hotbed_image::cache::Stored;
use hotbed_qmp::blocking::Client;
use serde_json::{Value, json};

use super::checkpoint::{Made, Ram};
use super::ram::Memory;
use super::save::{AGENT, CONSOLE, DEVICES, FRONT, QEMU, RAM, WAY, capabilities};
use super::{Plan, deadline};
use crate::call::now;
use crate::machine::Machine;
use crate::machine::console_log::Opening;
use crate::machine::marks::Mark;
use crate::machine::qmp::failure;
use crate::machine::run::Run;
use crate::{Call, Error};

/// What a QEMU under TCG takes for itself.
const QEMU_BYTES: u64 = 40 << 20;
/// What `st_blocks` counts in.
const BLOCK: u64 = 512;
/// How long QEMU may take to save or restore a machine's devices, which takes some milliseconds.
const MIGRATION: Duration = Duration::from_secs(60);
/// The most text of a console that a snapshot may hold.
const CONSOLE_MAX: u64 = 64 << 20;

/// What the console log gets to see of a restored machine's boot.
#[derive(Clone, Copy)]
pub(super) enum Console {
    /// What the snapshot holds of it.
    OfSnapshot,
    /// Nothing new: it has seen it come.
    GoesOn,
}

impl Machine {
    /// Starts a QEMU from a snapshot; the guest runs then, and knows the time.
    pub(super) fn restore(
        &self,
        plan: &Plan,
        snapshot: &Stored,
        console: Console,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        let opening = match console {
            Console::GoesOn => Opening::GoesOn,
            Console::OfSnapshot => Opening::Said(read_console(&snapshot.path(CONSOLE))?),
        };
        let _admitted = self
            .site
            .admission
            .enter(need(snapshot), &self.site.log, call)?;
        let mut run = self.start_to_restore(plan, snapshot, &opening, call)?;
        run.lease = Some(snapshot.lease());
        let resumed = self.resume(&run, plan, snapshot, call);
        let resumed = resumed.and_then(|()| match &plan.becomes {
            Some(identity) => self.adopt(&run, identity, call),
            None => Ok(()),
        });
        resumed.map_err(|error| self.explain(&run, error))?;
        Ok(run)
    }

    /// Starts a QEMU that waits for its devices, or takes the one that does.
    fn start_to_restore(
        &self,
        plan: &Plan,
        snapshot: &Stored,
        opening: &Opening,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        if let Some(arguments) = self.arguments(plan, snapshot) {
            let mut run = match self.take_spare(&arguments) {
                Some(run) => {
                    run.open_console(opening)
                        .map_err(Error::host("cannot write the console log"))?;
                    run
                }
                None => self.start_qemu(arguments, Some(opening), call)?,
            };
            run.made = Some(made(plan, snapshot, None)?);
            return Ok(run);
        }
        let copy = Memory::of_copy(&snapshot.path(RAM), plan.memory, call)?;
        let arguments = arguments_with(plan, &copy.path(), Access::Shared);
        let mut run = self.start_qemu(arguments, Some(opening), call)?;
        run.made = Some(made(plan, snapshot, Some(copy))?);
        Ok(run)
    }

    /// QEMU's arguments for a machine that maps a snapshot's memory; `None` when it needs memory to share, or QEMU cannot open the file.
    pub(super) fn arguments(&self, plan: &Plan, snapshot: &Stored) -> Option<Vec<OsString>> {
        let ram = snapshot.path(RAM);
        let access = match (self.shares_memory(), is_writable(&ram)) {
            (true, _) => return None,
            (false, true) => Access::Private,
            (false, false) if opens_to_read(snapshot.note(QEMU).ok()?) => Access::Read,
            (false, false) => return None,
        };
        Some(arguments_with(plan, &ram, access))
    }

    fn resume(
        &self,
        run: &Run,
        plan: &Plan,
        snapshot: &Stored,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let note = |name| snapshot.note(name).map_err(Error::image(self.name()));
        if note(QEMU)? != version(run) {
            return Err(Error::Machine("another QEMU has made it".to_owned()));
        }
        receive_devices(run, &snapshot.path(DEVICES), note(WAY)?, call)?;
        self.marks.set(Mark::Restored);
        let mut shell = run.shell.take(call, &|| "taking the shell".to_owned())?;
        shell.assume_ready();
        self.settle(run, &mut shell, note(AGENT)? == "true", call)?;
        self.marks.set(Mark::Settled);
        if plan.becomes.is_none() {
            self.announce(run, call)?;
        }
        // What QEMU has said so far is no event of the test.
        let next = run.qmp.cursor();
        run.next_event
            .store(next, std::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// Has the network cards say once where they are now: all other machines hear it, and have work with it. A clone does without: it is
    /// heard when it takes its own addresses.
    pub(super) fn announce(&self, run: &Run, call: &Call<'_>) -> Result<(), Error> {
        if self.shares_memory() {
            return Ok(()); // The switch would not do that for QEMU, which would complain.
        }
        let once = json!({ "initial": 1, "max": 1, "rounds": 1, "step": 1 });
        ask(&run.qmp, "announce-self", once, &[], call).map(drop)
    }
}

/// Whether a QEMU, by its own words, maps memory privately that it cannot write: 8.2 and later.
fn opens_to_read(version: &str) -> bool {
    let mut numbers = version
        .split(['.', ' '])
        .map(|word| word.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (8, 2)
}

/// How QEMU opens a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// What the guest writes is in the file.
    Shared,
    /// What the guest writes is its own; the file is opened for writing all the same.
    Private,
    /// The same, with a file that cannot be written.
    Read,
}

fn arguments_with(plan: &Plan, ram: &Path, access: Access) -> Vec<OsString> {
    let mut arguments = plan.arguments.clone();
    arguments.extend(memory_arguments(plan.memory, ram, access));
    arguments.extend(["-incoming".into(), "defer".into()]);
    arguments
}

/// Whether a file can be written: QEMU opens it for that, though it changes nothing in one that it maps privately.
fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// What a machine is made of that begins from a snapshot.
fn made(plan: &Plan, snapshot: &Stored, copy: Option<Memory>) -> Result<Made, Error> {
    let failed = || Error::host("cannot read a snapshot");
    let front = match snapshot.note(FRONT).ok().and_then(|len| len.parse().ok()) {
        Some(len) => {
            let state = std::fs::read(snapshot.path(DEVICES)).map_err(failed())?;
            state.get(..len).map(Arc::from)
        }
        None => None,
    };
    Ok(Made {
        arguments: plan.arguments.clone(),
        memory: plan.memory,
        ram: match copy {
            Some(memory) => Ram::Shared(Arc::new(memory)),
            None => Ram::Private(File::open(snapshot.path(RAM)).map_err(failed())?),
        },
        way: snapshot.note(WAY).unwrap_or_default().to_owned(),
        front,
    })
}

/// How much memory of its own a machine takes that begins from a snapshot: QEMU's, and what the guest changes of its own.
fn need(snapshot: &Stored) -> u64 {
    let ram = std::fs::metadata(snapshot.path(RAM)).map_or(0, |file| file.blocks() * BLOCK);
    QEMU_BYTES + ram / 2
}

/// Which QEMU it is, by its own words.
pub(super) fn version(run: &Run) -> String {
    let version = &run.qmp.greeting().version;
    format!("{} {}", version.qemu, version.package)
}

/// The arguments that make a file the guest's memory.
pub(super) fn memory_arguments(mebibytes: u32, file: &Path, access: Access) -> [OsString; 4] {
    let path = file.to_string_lossy().replace(',', ",,");
    let access = match access {
        Access::Shared => "share=on",
        Access::Private => "share=off",
        Access::Read => "share=off,readonly=on,rom=off",
    };
    let memory = format!("memory-backend-file,id=ram,size={mebibytes}M,{access},mem-path={path}");
    [
        "-object".into(),
        memory.into(),
        "-machine".into(),
        "memory-backend=ram".into(),
    ]
}

/// Has QEMU read the state of its devices, and run the guest.
pub(super) fn receive_devices(
    run: &Run,
    path: &Path,
    way: &str,
    call: &Call<'_>,
) -> Result<(), Error> {
    let cursor = run.qmp.cursor();
    ask(
        &run.qmp,
        "migrate-set-capabilities",
        capabilities(),
        &[],
        call,
    )?;
    // Several times, to everybody: `announce` does with less.
    let rounds = json!({ "announce-rounds": 0 });
    ask(&run.qmp, "migrate-set-parameters", rounds, &[], call)?;
    let uri = match way {
        "file" => format!("file:{}", path.display()),
        _ => {
            let file =
                File::open(path).map_err(Error::host(format!("cannot read {}", path.display())))?;
            let name = json!({ "fdname": "devices" });
            ask(&run.qmp, "getfd", name, &[file.as_fd()], call)?;
            "fd:devices".to_owned()
        }
    };
    ask(
        &run.qmp,
        "migrate-incoming",
        json!({ "uri": uri }),
        &[],
        call,
    )?;
    await_migration(&run.qmp, cursor, call)
}

/// Waits until a migration is done, one way or the other.
pub(super) fn await_migration(qmp: &Client, cursor: u64, call: &Call<'_>) -> Result<(), Error> {
    let patience = deadline(MIGRATION);
    let mut ended = |event: &hotbed_qmp::Event| {
        let status = event.data.get("status").and_then(Value::as_str);
        event.name == "MIGRATION" && matches!(status, Some("completed" | "failed" | "cancelled"))
    };
    loop {
        let slice = call.slice(&|| "QEMU saves or restores a machine".to_owned())?;
        match qmp.wait_event(cursor, &mut ended, slice.min(patience)) {
            Ok(Some(event)) => {
                let status = event.data.get("status").and_then(Value::as_str);
                return if status == Some("completed") {
                    Ok(())
                } else {
                    Err(Error::Machine(format!("QEMU cannot: {}", why(qmp))))
                };
            }
            Ok(None) if now() >= patience => {
                return Err(Error::Machine("QEMU does not get it done".to_owned()));
            }
            Ok(None) => {}
            Err(error) => return Err(Error::Machine(error.to_string())),
        }
    }
}

/// What QEMU says about a migration that failed.
fn why(qmp: &Client) -> String {
    let answer = qmp.execute(
        "query-migrate",
        Value::Null,
        deadline(Duration::from_secs(1)),
    );
    let description = answer.ok().and_then(|answer| {
        let text = answer.get("error-desc").and_then(Value::as_str);
        text.map(str::to_owned)
    });
    description.unwrap_or_else(|| "it does not say why".to_owned())
}

/// Runs a QMP command.
pub(super) fn ask(
    qmp: &Client,
    command: &str,
    arguments: Value,
    files: &[BorrowedFd<'_>],
    call: &Call<'_>,
) -> Result<Value, Error> {
    let mut pending = qmp.submit(command, arguments, files).map_err(failure)?;
    loop {
        let slice = call.slice(&|| format!("QEMU answers `{command}`"))?;
        if let Some(answer) = pending.wait(slice).map_err(failure)? {
            return Ok(answer);
        }
    }
}

fn read_console(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONSOLE_MAX).read_to_end(&mut text))
        .map_err(Error::host(format!("cannot read {}", path.display())))?;
    Ok(text)
}
