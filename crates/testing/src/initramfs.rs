//! A guest of busybox and kernel modules.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, trailer};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BUSYBOX: &str = "/bin/busybox";

/// What a guest is made of: busybox (as `/bin/busybox`), and this.
#[derive(Debug, Clone, Copy)]
pub struct Initramfs<'a> {
    /// The text of `/init`.
    pub init: &'a str,
    /// Kernel modules, which go to `/modules` under names whose order is this one.
    pub modules: &'a [PathBuf],
    /// Static programs of this machine, with the names that they get in `/bin`.
    pub programs: &'a [(&'a str, &'a str)],
}

impl Initramfs<'_> {
    /// Writes the guest to a file.
    ///
    /// # Errors
    ///
    /// What is missing for it on this machine.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
            archive.add(folder, FOLDER | 0o755, None, &[])?;
        }
        archive.add("dev/console", CHARACTER_DEVICE | 0o600, Some((5, 1)), &[])?;
        archive.add("init", FILE | 0o755, None, self.init.as_bytes())?;
        for (name, program) in self.programs.iter().chain([&("busybox", BUSYBOX)]) {
            let name = format!("bin/{name}");
            archive.add(&name, FILE | 0o755, None, &read(Path::new(program))?)?;
        }
        for (number, module) in self.modules.iter().enumerate() {
            let name = format!("modules/{number:02}");
            archive.add(&name, FILE | 0o644, None, &read(module)?)?;
        }
        let bytes = trailer(archive.bytes).map_err(|error| error.to_string())?;
        fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(
        &mut self,
        name: &str,
        mode: u32,
        device: Option<(u32, u32)>,
        content: &[u8],
    ) -> Result<(), String> {
        self.entries += 1;
        let mut entry = Builder::new(name).ino(self.entries).mode(mode).nlink(1);
        if let Some((major, minor)) = device {
            entry = entry.rdev_major(major).rdev_minor(minor);
        }
        let len = u32::try_from(content.len()).map_err(|error| format!("{name}: {error}"))?;
        let mut writer = entry.write(&mut self.bytes, len);
        let written = writer.write_all(content).and_then(|()| writer.finish());
        written.map_err(|error| format!("{name}: {error}"))?;
        Ok(())
    }
}
