//! Stage 1: the script and the modules with which every machine begins.

use std::io;

use crate::initramfs::Initramfs;
use crate::modules::{self, Module};

/// Puts in what the first program of a machine needs: busybox, the modules, and the script itself.
pub(crate) fn write(
    archive: &mut Initramfs,
    wanted: &[&str],
    hand_over: &str,
    release: &str,
    all: &[Module],
    busybox: &[u8],
) -> io::Result<()> {
    archive.file("bin/busybox", 0o755, busybox)?;
    let folder = format!("lib/modules/{release}");
    let needed = modules::with_needs(wanted, all);
    for module in &needed {
        archive.file(
            &format!("{folder}/{}.ko", module.name),
            0o644,
            &module.content,
        )?;
    }
    archive.file(
        &format!("{folder}/modules.dep"),
        0o644,
        modules::dep_file(&needed).as_bytes(),
    )?;
    let present: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| needed.iter().any(|found| found.name == *name))
        .collect();
    let script = format!(
        "#!/bin/busybox sh\nMODULES='{}'\n{SCRIPT}{hand_over}",
        present.join(" ")
    );
    archive.file("init", 0o755, script.as_bytes())?;
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    for folder in ["dev", "proc", "sys"] {
        archive.folder(folder, 0o755)?;
    }
    Ok(())
}

/// What it does for every image, before the image's own hand-over.
pub(crate) const SCRIPT: &str = include_str!("guest/stage1.sh");
/// What it calls that is no builtin.
pub(crate) const APPLETS: [&str; 9] = [
    "cp", "dmesg", "ifconfig", "mkdir", "modprobe", "mount", "nameif", "sh", "usleep",
];
