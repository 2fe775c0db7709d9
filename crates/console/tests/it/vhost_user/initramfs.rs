//! A guest of busybox, bash and kernel modules, whose init is a root shell on `hvc0`.

use cpio::newc::{Builder, trailer};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// What the guest is made of, on this machine.
const BUSYBOX: &str = "/bin/busybox";
const BASH: &str = "/bin/bash-static";

/// Loads the modules by their numbers, and becomes the shell when there is a console for it.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin HOME=/tmp
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
until [ -c /dev/hvc0 ]; do usleep 1000; done
exec </dev/hvc0 >/dev/hvc0 2>/dev/console
stty raw -echo
echo 'Spawning backdoor root shell...'
PS1= exec bash --norc /dev/hvc0
"#;

/// Writes the guest to a file; the modules are loaded in this order. What is missing for it here is the error.
pub(super) fn write(path: &Path, modules: &[PathBuf]) -> Result<(), String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        archive.add(folder, FOLDER | 0o755, None, &[]);
    }
    archive.add("dev/console", CHARACTER_DEVICE | 0o600, Some((5, 1)), &[]);
    archive.add("init", FILE | 0o755, None, INIT.as_bytes());
    archive.add(
        "bin/busybox",
        FILE | 0o755,
        None,
        &read(Path::new(BUSYBOX))?,
    );
    archive.add("bin/bash", FILE | 0o755, None, &read(Path::new(BASH))?);
    for (number, module) in modules.iter().enumerate() {
        let name = format!("modules/{number:02}");
        archive.add(&name, FILE | 0o644, None, &read(module)?);
    }
    fs::write(path, trailer(archive.bytes).unwrap()).unwrap();
    Ok(())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: Option<(u32, u32)>, content: &[u8]) {
        self.entries += 1;
        let mut entry = Builder::new(name).ino(self.entries).mode(mode).nlink(1);
        if let Some((major, minor)) = device {
            entry = entry.rdev_major(major).rdev_minor(minor);
        }
        let len = u32::try_from(content.len()).unwrap();
        let mut writer = entry.write(&mut self.bytes, len);
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }
}
