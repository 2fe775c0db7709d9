//! What came out of a build, and how QEMU must be told to boot it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::{Error, Identity, files};

/// A built image: files in the cache that never change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Image {
    /// Which of the images it is.
    pub kind: Kind,
    /// The kernel for `-kernel`: an uncompressed ELF that QEMU enters by PVH.
    pub kernel: PathBuf,
    /// The base initramfs; a machine boots a copy with its identity: [`Image::write_initrd`].
    pub initrd: PathBuf,
    /// The read-only root (EROFS), attached as virtio-blk; `micro` has none.
    pub root: Option<PathBuf>,
    /// A digest over everything that went in (hexadecimal, 64 digits).
    pub digest: String,
}

/// Which image it is, without what went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// busybox and bash in an initramfs.
    Micro,
    /// Debian with systemd, on a read-only root under a tmpfs.
    Debian,
}

/// Where the guest's kernel log and journal go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogConsole {
    /// The second virtio console, `/dev/hvc1`: quick.
    #[default]
    Virtio,
    /// The emulated UART, `/dev/ttyS0`: slow, but there from the kernel's first line on.
    Uart,
}

impl Image {
    /// The arguments of QEMU that depend on the image alone: kernel, initramfs, kernel parameters, root disk.
    ///
    /// `initrd` is what [`Image::write_initrd`] wrote for the machine. Consoles, cards, memory and the accelerator are the
    /// driver's; the crate's README has the whole command line.
    #[must_use]
    pub fn arguments(&self, initrd: &Path, log: LogConsole) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "-kernel".into(),
            self.kernel.clone().into(),
            "-initrd".into(),
            initrd.into(),
            "-append".into(),
            self.command_line(log).into(),
        ];
        if let Some(root) = &self.root {
            let mut drive = OsString::from("if=none,id=root,format=raw,readonly=on,file=");
            drive.push(root);
            arguments.extend(["-drive".into(), drive]);
            arguments.extend([
                "-device".into(),
                "virtio-blk-pci,drive=root,serial=root".into(),
            ]);
        }
        arguments
    }

    /// The kernel's parameters. Beside the console:
    ///
    /// - `panic=1`: with QEMU's `-no-reboot`, a panic ends the machine at once.
    /// - `loglevel=1`, with a virtio console: the log is shown from its first line on once stage 1 can, and then as it comes
    ///   (stage 1 sets the level to 7); a panic is shown at any time.
    /// - `cryptomgr.notests`: the kernel does not test its own ciphers at every boot (0.3 s under TCG).
    /// - `tsc=reliable no_timer_check`: on a busy host, a guest's clocks look faulty when they are only late; without
    ///   these the kernel may give up the TSC in the middle of a test.
    #[must_use]
    pub fn command_line(&self, log: LogConsole) -> String {
        let console = match log {
            LogConsole::Virtio => "hvc1 loglevel=1",
            LogConsole::Uart => "ttyS0,115200n8",
        };
        format!("console={console} panic=1 cryptomgr.notests tsc=reliable no_timer_check")
    }

    /// Writes the initramfs of one machine: the base and, appended, a small archive with its identity.
    ///
    /// # Errors
    ///
    /// When the identity holds what a guest cannot take, or the file cannot be written.
    pub fn write_initrd(&self, identity: &Identity, path: &Path) -> Result<(), Error> {
        let archive = identity.archive()?;
        let append = || {
            std::fs::copy(&self.initrd, path)?;
            let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
            file.write_all(&archive)
        };
        append().map_err(files::failed("cannot write", path))
    }
}
