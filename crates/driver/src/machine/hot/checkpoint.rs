//! A running machine at one instant, and machines that go on from it.
//!
//! A machine's memory is a mapping of a file: shared with us when it booted cold, its own where it began from a snapshot. Its state is
//! the memory of that moment as a file of ours, and what QEMU writes of its devices.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotbed_console::agent::Hello;
use serde_json::{Value, json};

use super::ram::Memory;
use super::restore::{Access, ask, memory_arguments, receive_devices, version};
use super::save::send_devices;
use super::{limits, pages};
use crate::call::now;
use crate::config::{ImageMachine, MachineKind};
use crate::machine::Machine;
use crate::machine::boot::ImageStart;
use crate::machine::console_log::{Opening, View};
use crate::machine::run::Run;
use crate::{Call, Error};

/// Where QEMU writes what is read at once, in the machine's directory.
const FILE: &str = "devices";
/// What a state begins with: a magic number and a version, which every one has.
const HEADER: usize = 8;
/// Bytes of the name of a run state.
const RUN_STATE: usize = 16;
/// How long the old QEMU may take to be gone.
const END: Duration = Duration::from_secs(10);

/// What a run is made of, as far as it takes to make another one of its state.
#[derive(Debug)]
pub(crate) struct Made {
    /// QEMU's arguments for a machine that begins from a state, but for its memory.
    pub(super) arguments: Vec<OsString>,
    /// MiB.
    pub(super) memory: u32,
    /// Where its memory is.
    pub(super) ram: Ram,
    /// How this QEMU takes a state: see `send_devices`.
    pub(super) way: String,
    /// What is in front of its devices in its state: memory that is not the guest's, such as the firmware. It does not change.
    pub(super) front: Option<Arc<[u8]>>,
}

/// A guest's memory.
#[derive(Debug)]
pub(super) enum Ram {
    /// Ours and QEMU's.
    Shared(Arc<Memory>),
    /// QEMU's own; what it has not changed is in the file.
    Private(File),
}

/// A machine at one instant.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(super) arguments: Vec<OsString>,
    pub(super) memory: u32,
    pub(super) ram: Memory,
    pub(super) way: String,
    pub(super) front: Arc<[u8]>,
    /// All of its state but its memory.
    pub(super) state: Vec<u8>,
    pub(super) qemu: String,
    pub(super) has_agent: bool,
    pub(super) view: View,
}

/// What QEMU says of its devices.
struct Devices {
    /// What is in front of them in a machine's state.
    front: Arc<[u8]>,
    /// How the state is taken back.
    way: String,
    bytes: Vec<u8>,
}

impl Made {
    /// What a machine is made of that boots from power-on.
    pub(super) fn cold(start: &ImageStart<'_>, ram: Arc<Memory>) -> Self {
        Self {
            arguments: start.arguments_to_restore(),
            memory: start.memory,
            ram: Ram::Shared(ram),
            way: String::new(),
            front: None,
        }
    }
}

impl Machine {
    /// Why no state of this machine can be had; `None` when it can.
    pub(crate) fn why_not_frozen(&self, run: &Run) -> Option<String> {
        let why = match &self.config.kind {
            MachineKind::StartScript(_) => Some("it is started by a script".to_owned()),
            MachineKind::Image(machine) => why_image_is_not(machine, run),
        };
        why.map(|why| format!("{} cannot be saved: {why}", self.name()))
    }

    /// Copies what is in the file behind a machine's memory, which takes the longest, while the guest runs.
    pub(crate) fn copy_base(&self, run: &Run, call: &Call<'_>) -> Result<Option<Memory>, Error> {
        match &made(run)?.ram {
            Ram::Private(file) => Memory::copy_of(file, made(run)?.memory, call).map(Some),
            Ram::Shared(_) => Ok(None),
        }
    }

    /// The state of a machine that stands still, over a copy of the file behind its memory.
    pub(crate) fn freeze(
        &self,
        run: &Run,
        base: Option<Memory>,
        call: &Call<'_>,
    ) -> Result<Frozen, Error> {
        let made = made(run)?;
        let ram = match (&made.ram, base) {
            (Ram::Shared(memory), _) => Memory::copy_of(memory.file(), made.memory, call)?,
            (Ram::Private(file), Some(base)) => {
                pages::copy_changed(run.process.pid(), file, &base, call)?;
                base
            }
            (Ram::Private(_), None) => return Err(cannot("its memory was not copied")),
        };
        let devices = self.devices(run, made, call)?;
        let bytes = devices.bytes.get(HEADER..).unwrap_or_default();
        Ok(Frozen {
            arguments: made.arguments.clone(),
            memory: made.memory,
            ram,
            way: devices.way,
            state: [&devices.front, bytes].concat(),
            front: devices.front,
            qemu: version(run),
            has_agent: run.agent.poll_ready(now()).is_some(),
            view: self.console.view(),
        })
    }

    /// What QEMU says of its devices.
    fn devices(&self, run: &Run, made: &Made, call: &Call<'_>) -> Result<Devices, Error> {
        // A machine whose memory is shared is asked anew each time: only it can be.
        let known = match made.ram {
            Ram::Shared(_) => None,
            Ram::Private(_) => Some(
                made.front
                    .clone()
                    .ok_or_else(|| cannot("what is in front of its devices is not known"))?,
            ),
        };
        let path = self.state_dir().join(FILE);
        let read = || {
            let bytes = std::fs::read(&path);
            let _ = std::fs::remove_file(&path);
            bytes.map_err(Error::host("cannot read what QEMU has written"))
        };
        let (front, way) = match known {
            Some(front) => (front, made.way.clone()),
            None => {
                let way = send_devices(run, &path, call)?.to_owned();
                let whole = read()?;
                save_devices(run, &path, call)?;
                (front_of(&whole, &read()?)?, way)
            }
        };
        save_devices(run, &path, call)?;
        Ok(Devices {
            front,
            way,
            bytes: read()?,
        })
    }

    /// Ends the machine's QEMU and starts another one from a state; the guest stands still.
    pub(crate) fn thaw(&self, frozen: &Frozen, call: &Call<'_>) -> Result<Arc<Run>, Error> {
        let _starting = self
            .starting
            .take(call, &|| format!("starting {}", self.name()))?;
        self.end_run();
        let mut arguments = frozen.arguments.clone();
        let shared = match self.shares_memory() {
            true => Some(Memory::copy_of(frozen.ram.file(), frozen.memory, call)?),
            false => None,
        };
        let ram = shared.as_ref().unwrap_or(&frozen.ram).path();
        let access = match shared {
            Some(_) => Access::Shared,
            None => Access::Private,
        };
        arguments.extend(memory_arguments(frozen.memory, &ram, access));
        arguments.extend(["-S", "-incoming", "defer"].map(OsString::from));
        let opening = Opening::BackTo(frozen.view.clone());
        let mut run = self.start_qemu(arguments, Some(&opening), call)?;
        if version(&run) != frozen.qemu {
            return Err(cannot("its QEMU is another one now"));
        }
        let path = self.state_dir().join(FILE);
        let failed = || Error::host(format!("cannot write {}", path.display()));
        std::fs::write(&path, &frozen.state).map_err(failed())?;
        let received = receive_devices(&run, &path, &frozen.way, call);
        let _ = std::fs::remove_file(&path);
        received.map_err(|error| self.explain(&run, error))?;
        let ram = match shared {
            Some(memory) => Ram::Shared(Arc::new(memory)),
            None => Ram::Private(frozen.ram.file().try_clone().map_err(failed())?),
        };
        run.made = Some(Made {
            arguments: frozen.arguments.clone(),
            memory: frozen.memory,
            ram,
            way: frozen.way.clone(),
            front: Some(Arc::clone(&frozen.front)),
        });
        let run = Arc::new(run);
        self.set_run(Arc::clone(&run));
        Ok(run)
    }

    /// Ends the machine's QEMU, if it runs; all that it has said is in the console log then.
    pub(crate) fn end_run(&self) {
        drop(self.take_spare(&[])); // Its sockets are about to be of no use.
        if let Some(run) = self.present_run() {
            run.process.kill();
            let _ = run.poll_exit(super::deadline(END));
            self.forget_run();
        }
    }

    /// Has a guest that was thawed and runs take the time, and the test's commands.
    pub(crate) fn go_on(&self, run: &Run, frozen: &Frozen, call: &Call<'_>) -> Result<(), Error> {
        let mut shell = run.shell.take(call, &|| "taking the shell".to_owned())?;
        shell.assume_ready();
        let settled = self.settle(run, &mut shell, frozen.has_agent, call);
        settled.map_err(|error| self.explain(run, error))?;
        self.announce(run, call)?;
        let hello: Option<Hello> = run.agent.poll_ready(now()).map(|(_, hello)| hello);
        run.agent.begin_boot(hello.as_ref());
        run.next_event.store(run.qmp.cursor(), Ordering::Release);
        run.came_up.store(true, Ordering::Release);
        run.connected.store(true, Ordering::Release);
        Ok(())
    }
}

/// Has a machine stand still, or go on.
pub(crate) fn tell(run: &Run, command: &str, call: &Call<'_>) -> Result<(), Error> {
    ask(&run.qmp, command, Value::Null, &[], call).map(drop)
}

fn made(run: &Run) -> Result<&Made, Error> {
    run.made
        .as_ref()
        .ok_or_else(|| cannot("its memory is not to be had"))
}

fn why_image_is_not(machine: &ImageMachine, run: &Run) -> Option<String> {
    let no_memory = || "its memory is not to be had".to_owned();
    limits::why_not(machine).or_else(|| run.made.is_none().then(no_memory))
}

fn cannot(why: &str) -> Error {
    Error::Machine(format!("a machine cannot be saved: {why}"))
}

/// Has QEMU write the state of its devices, and nothing else, which a machine that goes on does not mind.
pub(super) fn save_devices(
    run: &Run,
    path: &std::path::Path,
    call: &Call<'_>,
) -> Result<(), Error> {
    let arguments = json!({ "filename": path, "live": false });
    ask(&run.qmp, "xen-save-devices-state", arguments, &[], call).map(drop)
}

/// What is in front of the devices in a whole state, whose devices are these. Whether the guest runs may be told otherwise in one.
pub(super) fn front_of(whole: &[u8], devices: &[u8]) -> Result<Arc<[u8]>, Error> {
    let unknown = || cannot("QEMU's state is not as it is known");
    let devices = devices.get(HEADER..).ok_or_else(unknown)?;
    let front = whole.len().checked_sub(devices.len());
    let (front, same) = front
        .and_then(|len| whole.split_at_checked(len))
        .ok_or_else(unknown)?;
    let differing = same.iter().zip(devices).filter(|(a, b)| a != b).count();
    if differing > RUN_STATE {
        return Err(unknown());
    }
    Ok(Arc::from(front))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_front_of_the_devices_is_found_or_nothing_is() {
        let whole = b"QEVM0003memory paused and the state of the devices";
        for devices in [
            b"QEVM0003 paused and the state of the devices",
            b"QEVM0003 runnin and the state of the devices",
        ] {
            assert_eq!(&*front_of(whole, devices).unwrap(), b"QEVM0003memory");
        }
        let others = b"QEVM0003 paused but that is not what the others";
        assert!(front_of(whole, others).is_err());
        assert!(front_of(b"QEVM0003", b"QE").is_err());
        assert!(front_of(b"QEVM", b"QEVM0003devices").is_err());
    }
}
