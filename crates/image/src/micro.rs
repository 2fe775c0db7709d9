//! The `micro` image: an initramfs with busybox and bash, and nothing that has to be started.

use std::io;

use crate::archive::Archive;
use crate::cache::{Cache, Notes};
use crate::image::Kind;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::key::{KeyBuilder, digest};
use crate::pin::Pin;
use crate::programs::Programs;
use crate::stage1::{self, APPLETS};
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
    key = key.input("stage1", stage1::SCRIPT).input("init", INIT);
    for (path, _, content) in FILES {
        key = key.input(path, content);
    }
    key.input("busybox", digest(&programs.busybox))
        .input("bash", digest(&programs.bash))
        .finish()
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
        stage1::write(
            &mut archive,
            &MODULES,
            INIT,
            release,
            &modules,
            &programs.busybox,
        )?;
        archive.file("bin/bash", 0o755, &programs.bash)?;
        for applet in &applets {
            if !OURS.contains(&applet.as_str()) && !APPLETS.contains(&applet.as_str()) {
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

/// Whatever this code does to an image is part of the image's key.
const CODE: [&str; 4] = [
    include_str!("micro.rs"),
    include_str!("modules.rs"),
    include_str!("initramfs.rs"),
    include_str!("stage1.rs"),
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

const FILES: [(&str, u32, &str); 14] = [
    ("bin/nc", 0o755, include_str!("guest/nc.sh")),
    ("bin/timeout", 0o755, include_str!("guest/timeout.sh")),
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
const OURS: [&str; 8] = [
    "bash", "busybox", "halt", "nc", "poweroff", "reboot", "shutdown", "timeout",
];
