//! User-mode Linux: a kernel that is a program, with a vhost-user front end of its own.

use std::path::{Path, PathBuf};

use crate::{Initramfs, Vmm};

const KERNEL: &str = "/usr/bin/linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// A guest of User-mode Linux.
#[derive(Debug, Clone, Copy)]
pub struct UserModeLinux<'a> {
    /// Where it keeps its files; a folder of its own.
    pub folder: &'a Path,
    /// It has a folder of this name in that, with the file `pid`.
    pub name: &'a str,
    /// Modules by their paths in the kernel's tree, without `.ko`, in the order in which they are loaded. What is not there is in the
    /// kernel itself.
    pub modules: &'a [&'a str],
    /// The text of `/init`.
    pub init: &'a str,
    /// As in [`Initramfs`].
    pub programs: &'a [(&'a str, &'a str)],
    /// Its device: the socket of a back end, a colon and the number of the virtio device.
    pub device: &'a str,
}

impl UserModeLinux<'_> {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// Why there can be none on this machine.
    pub fn start(&self) -> Result<Vmm, String> {
        if !Path::new(KERNEL).exists() {
            return Err("user-mode-linux is not installed".to_owned());
        }
        let modules: Vec<PathBuf> = self
            .modules
            .iter()
            .filter_map(|path| module(path))
            .collect();
        let initrd = self.folder.join("initrd");
        let guest = Initramfs {
            init: self.init,
            modules: &modules,
            programs: self.programs,
        };
        guest.write(&initrd)?;
        let arguments = [
            "mem=96M".to_owned(),
            format!("initrd={}", initrd.display()),
            "rdinit=/init".to_owned(),
            "con=null".to_owned(),
            "con0=null,fd:1".to_owned(),
            "ssl=null".to_owned(),
            format!("umid={}", self.name),
            format!("uml_dir={}/", self.folder.display()),
            format!("virtio_uml.device={}", self.device),
        ];
        let vmm = Vmm::start(KERNEL, &arguments)?;
        // What it needs of its host it tries first, and this last; then it talks to us.
        vmm.wait_said("PROT_EXEC mmap")?;
        Ok(vmm)
    }
}

/// A module of the kernel, whatever its version.
fn module(path: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(MODULES).ok()?;
    let mut files = versions.flatten().map(|version| {
        let tree = version.path().join("kernel");
        tree.join(path).with_extension("ko")
    });
    files.find(|path| path.exists())
}
