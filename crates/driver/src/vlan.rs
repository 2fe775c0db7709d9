//! One emulated Ethernet segment, and the switch behind it.

use std::path::{Path, PathBuf};

/// One emulated Ethernet segment.
#[derive(Debug)]
pub struct Vlan {
    number: u8,
    socket_dir: PathBuf,
}

impl Vlan {
    /// Its number, from 1 to 255.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The VDE control directory, which `QEMU_VDE_SOCKET_<n>` names.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The process in which the switch runs: this one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }
}
