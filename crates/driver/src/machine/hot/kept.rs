//! The state of a machine in files, from which a machine of the same configuration goes on in a later run.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::checkpoint::Frozen;
use super::key::{ARGUMENTS, Inputs};
use super::ram::Memory;
use crate::config::{Hot, ImageMachine, MachineKind};
use crate::machine::Machine;
use crate::machine::boot::ImageStart;
use crate::{Call, Error};

/// The most bytes of a state without its memory, and of what a console has said.
const STATE_MAX: u64 = 1 << 30;
/// How QEMU is told that a guest that reboots ends.
const NO_REBOOT: &str = "-no-reboot";

/// What is known of a machine's state beside its files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What went into the machine, with what each part is called.
    inputs: Vec<(String, String)>,
    allow_reboot: bool,
    way: String,
    /// Bytes of the state that are in front of its devices.
    front: usize,
    qemu: String,
    has_agent: bool,
    /// Bytes of what the console has said that were searched.
    searched: u64,
}

/// The files of a machine's state.
struct Files<'f> {
    folder: &'f Path,
    machine: &'f str,
}

impl Files<'_> {
    fn ram(&self) -> PathBuf {
        self.folder.join(format!("{}.ram.sparse", self.machine))
    }

    fn state(&self) -> PathBuf {
        self.folder.join(format!("{}.state", self.machine))
    }

    fn console(&self) -> PathBuf {
        self.folder.join(format!("{}.console", self.machine))
    }
}

impl Machine {
    /// Writes a state of this machine into a folder.
    pub(crate) fn keep(
        &self,
        frozen: &Frozen,
        folder: &Path,
        call: &Call<'_>,
    ) -> Result<Record, Error> {
        let files = self.files(folder);
        let allow_reboot = !frozen.arguments.iter().any(|word| word == NO_REBOOT);
        let (_, inputs) = self.start_and_inputs(allow_reboot, call)?;
        frozen.ram.copy_to(&files.ram(), call)?;
        write(&files.state(), &frozen.state)?;
        let said = self.console.said(&frozen.view);
        let (text, searched) = said.map_err(Error::host("cannot read the console log"))?;
        write(&files.console(), &text)?;
        Ok(Record {
            inputs,
            allow_reboot,
            way: frozen.way.clone(),
            front: frozen.front.len(),
            qemu: frozen.qemu.clone(),
            has_agent: frozen.has_agent,
            searched,
        })
    }

    /// What is not with this machine as it was with the one whose state was kept.
    pub(crate) fn differences(
        &self,
        record: &Record,
        call: &Call<'_>,
    ) -> Result<Vec<String>, Error> {
        let (_, now) = self.start_and_inputs(record.allow_reboot, call)?;
        let differs = |(name, value): &(String, String)| {
            let mut others = now.iter().filter(|(other, _)| other == name);
            match others.next() {
                Some((_, other)) if other == value => None,
                Some((_, other)) if name == ARGUMENTS => Some(words_that_differ(value, other)),
                _ => Some(format!("another {name}")),
            }
        };
        let mut found: Vec<_> = record.inputs.iter().filter_map(differs).collect();
        let is_new =
            |(name, _): &&(String, String)| !record.inputs.iter().any(|(it, _)| it == name);
        found.extend(
            now.iter()
                .filter(is_new)
                .map(|(name, _)| format!("another {name}")),
        );
        Ok(found)
    }

    /// Reads a state that was kept.
    pub(crate) fn take_up(
        &self,
        record: &Record,
        folder: &Path,
        call: &Call<'_>,
    ) -> Result<Frozen, Error> {
        let files = self.files(folder);
        let (start, _) = self.start_and_inputs(record.allow_reboot, call)?;
        if record.allow_reboot {
            start.write_initrd()?;
        }
        let size = std::fs::metadata(files.ram()).map(|file| file.len());
        if size.ok() != Some(u64::from(start.memory) << 20) {
            return Err(damaged("the memory has another size"));
        }
        let state = read(&files.state(), STATE_MAX)?;
        let front = state.get(..record.front);
        let front = Arc::from(front.ok_or_else(|| damaged("a state is cut off"))?);
        let text = read(&files.console(), STATE_MAX)?;
        let view = self.console.add_boot(&text, record.searched);
        Ok(Frozen {
            arguments: start.arguments_to_restore(),
            memory: start.memory,
            ram: Memory::of_copy(&files.ram(), start.memory, call)?,
            way: record.way.clone(),
            front,
            state,
            qemu: record.qemu.clone(),
            has_agent: record.has_agent,
            view: view.map_err(Error::host("cannot write the console log"))?,
        })
    }

    fn files<'f>(&'f self, folder: &'f Path) -> Files<'f> {
        Files {
            folder,
            machine: self.name(),
        }
    }

    /// How the machine would start, and what goes into it.
    fn start_and_inputs(
        &self,
        allow_reboot: bool,
        call: &Call<'_>,
    ) -> Result<(ImageStart<'_>, Vec<(String, String)>), Error> {
        let machine = self.image_machine()?;
        let start = self.image_start(machine, allow_reboot, call)?;
        let qemu = crate::accelerator::which(&self.site.qemu)
            .ok_or_else(|| Error::Machine("QEMU is not there".to_owned()))?;
        let cache = self.site.images.cache();
        let inputs = Inputs {
            cache: &cache.map_err(Error::image(self.name()))?,
            qemu: &qemu,
            start: &start,
            machine,
            // Whenever it was saved as a snapshot, it has gone on since.
            point: &Hot::Booted,
            template: None,
            directory: &self.site.directory,
            state_dir: self.state_dir(),
        };
        let text = |(name, value): (&str, Vec<u8>)| {
            let value = String::from_utf8_lossy(&value).into_owned();
            (name.to_owned(), value)
        };
        let parts = inputs.list()?.into_iter().map(text).collect();
        Ok((start, parts))
    }

    fn image_machine(&self) -> Result<&ImageMachine, Error> {
        match &self.config.kind {
            MachineKind::Image(machine) => Ok(machine),
            MachineKind::StartScript(_) => Err(Error::Machine(format!(
                "{} is started by a script",
                self.name()
            ))),
        }
    }
}

/// The first words of two lists of arguments that are not the same.
fn words_that_differ(then: &str, now: &str) -> String {
    let (mut then, mut now) = (then.split('\0'), now.split('\0'));
    loop {
        match (then.next(), now.next()) {
            (Some(then), Some(now)) if then == now => {}
            (None, None) => return format!("another {ARGUMENTS}"),
            (then, now) => {
                let [then, now] = [then, now].map(|word| word.unwrap_or("nothing more"));
                return format!("another {ARGUMENTS}: `{now}` where it was `{then}`");
            }
        }
    }
}

/// Says that a checkpoint that was kept cannot be used.
pub(crate) fn damaged(why: &str) -> Error {
    Error::Machine(format!("the checkpoint is damaged: {why}"))
}

/// Writes a file of a checkpoint.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(Error::host(format!("cannot write {}", path.display())))
}

/// Reads a file of a checkpoint that has no more bytes than that.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let failed = || Error::host(format!("cannot read {}", path.display()));
    let file = File::open(path).map_err(failed())?;
    let mut bytes = Vec::new();
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(failed())?;
    if bytes.len() as u64 > max {
        return Err(damaged("a file is too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_that_differ_are_named() {
        let differ = |then, now| words_that_differ(then, now);
        assert!(differ("-m\x00128M\0-x", "-m\x0064M\0-x").ends_with("`64M` where it was `128M`"));
        assert!(differ("-m", "-m\0-x").ends_with("`-x` where it was `nothing more`"));
        assert!(differ("-m\0-x", "-m").ends_with("`nothing more` where it was `-x`"));
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&path, b"1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).is_err());
    }
}
