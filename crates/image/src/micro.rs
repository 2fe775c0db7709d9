//! The `micro` image: an initramfs with busybox and bash, and nothing that has to be started.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::cache::{Cache, Notes};
use crate::image::Kind;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::key::{KeyBuilder, digest};
use crate::modules;
use crate::pin::Pin;
use crate::tool::{self, Run};
use crate::{Error, Image, Progress, files};

/// Builds the image, or finds it.
pub(crate) fn build(cache: &Cache, progress: &dyn Progress) -> Result<Image, Error> {
    let archive = Archive::of_host()?;
    let pin = Pin::obtain(cache, &archive, progress)?;
    let kernel = Kernel::obtain(cache, &archive, &pin, progress)?;
    let programs = Programs::find()?;
    let key = key(&kernel.key, &programs);
    let entry = cache.obtain("micro", &key, progress, |folder| {
        progress.step("writing the initramfs of micro");
        let initrd = initramfs(&kernel, &programs, progress)?;
        files::write(&folder.join("initrd"), &initrd)?;
        Ok(Notes::new())
    })?;
    Ok(Image {
        kind: Kind::Micro,
        kernel: kernel.vmlinux(),
        initrd: entry.path("initrd"),
        root: None,
        digest: key,
    })
}

fn key(kernel: &str, programs: &Programs) -> String {
    let mut key = KeyBuilder::new("micro")
        .input("kernel", kernel)
        .inputs("code", CODE.iter());
    key = key.input("stage1", STAGE1).input("init", INIT);
    for (path, _, content) in FILES {
        key = key.input(path, content);
    }
    key.input("busybox", digest(&programs.busybox))
        .input("bash", digest(&programs.bash))
        .finish()
}

/// The host's static programs that guests run.
pub(crate) struct Programs {
    pub(crate) busybox: Vec<u8>,
    busybox_path: PathBuf,
    bash: Vec<u8>,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, Error> {
        let busybox_path = tool::find("busybox", "busybox-static")?;
        let bash_path = tool::find("bash-static", "bash-static")?;
        let busybox = read_static(&busybox_path, "busybox-static")?;
        let bash = read_static(&bash_path, "bash-static")?;
        Ok(Self {
            busybox,
            busybox_path,
            bash,
        })
    }

    /// The names under which busybox is called, asked of itself.
    fn applets(&self, progress: &dyn Progress) -> Result<Vec<String>, Error> {
        let run =
            Run::new("asking busybox for its applets", self.busybox_path.clone()).arg("--list");
        run.quiet().run(progress)
    }
}

/// Reads a program that must run where there are no libraries.
fn read_static(path: &Path, package: &'static str) -> Result<Vec<u8>, Error> {
    let program = files::read(path, PROGRAM_MAX)?;
    if program.starts_with(b"\x7fELF") && !names_an_interpreter(&program) {
        return Ok(program);
    }
    Err(Error::MissingTool {
        tool: format!("a static {}", path.display()),
        package,
    })
}

/// Whether the program asks for a dynamic loader: a program header of the type `PT_INTERP` (ELF, 64 bit).
fn names_an_interpreter(program: &[u8]) -> bool {
    let field = |at: usize, size: usize| {
        let bytes = program.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    let header = || {
        Some((
            usize::try_from(field(0x20, 8)?).ok()?,
            usize::try_from(field(0x36, 2)?).ok()?,
            field(0x38, 2)?,
        ))
    };
    let Some((start, size, count)) = header() else {
        return true;
    };
    (0..usize::try_from(count).unwrap_or(0)).any(|index| {
        let at = size
            .checked_mul(index)
            .and_then(|offset| offset.checked_add(start));
        at.and_then(|at| field(at, 4))
            .is_none_or(|kind| kind == PT_INTERP)
    })
}

fn initramfs(
    kernel: &Kernel,
    programs: &Programs,
    progress: &dyn Progress,
) -> Result<Vec<u8>, Error> {
    let applets = programs.applets(progress)?;
    let modules = kernel.modules()?;
    let release = kernel.release()?;
    let write = || -> io::Result<Vec<u8>> {
        let mut archive = Initramfs::default();
        stage1(
            &mut archive,
            &MODULES,
            INIT,
            release,
            &modules,
            &programs.busybox,
        )?;
        archive.file("bin/bash", 0o755, &programs.bash)?;
        for applet in &applets {
            if !OURS.contains(&applet.as_str()) && !STAGE1_APPLETS.contains(&applet.as_str()) {
                archive.link(&format!("bin/{applet}"), "busybox")?;
            }
        }
        for (path, mode) in FOLDERS {
            archive.folder(path, mode)?;
        }
        for (path, mode, content) in FILES {
            archive.file(path, mode, content.as_bytes())?;
        }
        archive.finish()
    };
    write().map_err(|source| Error::File {
        what: "cannot make",
        path: "initrd".into(),
        source,
    })
}

/// Puts in what the first program of a machine needs: busybox, the modules, and the script itself.
pub(crate) fn stage1(
    archive: &mut Initramfs,
    wanted: &[&str],
    hand_over: &str,
    release: &str,
    all: &[modules::Module],
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
        "#!/bin/busybox sh\nMODULES='{}'\n{STAGE1}{hand_over}",
        present.join(" ")
    );
    archive.file("init", 0o755, script.as_bytes())?;
    for applet in STAGE1_APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    for folder in ["dev", "proc", "sys"] {
        archive.folder(folder, 0o755)?;
    }
    Ok(())
}

/// Whatever this code does to an image is part of the image's key.
const CODE: [&str; 3] = [
    include_str!("micro.rs"),
    include_str!("modules.rs"),
    include_str!("initramfs.rs"),
];

/// Common to all images.
pub(crate) const STAGE1: &str = include_str!("guest/stage1.sh");
/// What it calls that is no builtin.
const STAGE1_APPLETS: [&str; 8] = [
    "cp", "dmesg", "ifconfig", "mkdir", "modprobe", "mount", "nameif", "sh",
];
const INIT: &str = include_str!("guest/micro.sh");
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtio_net", "virtio_rng"];

const FOLDERS: [(&str, u32); 7] = [
    ("etc/network", 0o755),
    ("root", 0o700),
    ("run/lock", 0o1777),
    ("tmp", 0o1777),
    ("usr/local/bin", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

const FILES: [(&str, u32, &str); 12] = [
    (
        "etc/group",
        0o644,
        "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    ),
    (
        "etc/inittab",
        0o644,
        "::respawn:/sbin/backdoor\n::ctrlaltdel:/sbin/reboot\n",
    ),
    (
        "etc/nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    (
        "etc/passwd",
        0o644,
        "root::0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    (
        "etc/profile",
        0o644,
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    ),
    (
        "etc/protocols",
        0o644,
        "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\nipv6-icmp 58 IPv6-ICMP\n",
    ),
    (
        "etc/services",
        0o644,
        "ssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n",
    ),
    ("sbin/backdoor", 0o755, include_str!("guest/backdoor.sh")),
    // Nothing here wants to be told before the machine goes: init's own way takes seconds.
    (
        "sbin/halt",
        0o755,
        "#!/bin/sh\nsync\nexec busybox halt -f\n",
    ),
    (
        "sbin/poweroff",
        0o755,
        "#!/bin/sh\nsync\nexec busybox poweroff -f\n",
    ),
    (
        "sbin/reboot",
        0o755,
        "#!/bin/sh\nsync\nexec busybox reboot -f\n",
    ),
    (
        "sbin/shutdown",
        0o755,
        "#!/bin/sh\ncase \"$*\" in *-r*) exec reboot ;; *) exec poweroff ;; esac\n",
    ),
];

/// Applets that a file of ours stands for, or that are programs of their own here.
const OURS: [&str; 6] = ["bash", "busybox", "halt", "poweroff", "reboot", "shutdown"];

const PROGRAM_MAX: u64 = 64 << 20;
const PT_INTERP: u64 = 3;
