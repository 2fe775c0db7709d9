//! What is wanted: the image of a machine, as the head of a test names it.

use std::collections::BTreeMap;

/// The image that a machine boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Spec {
    /// A kernel, busybox and bash: boots in little time and has no systemd.
    #[default]
    Micro,
    /// Debian with systemd.
    Debian(DebianSpec),
}

/// What goes into a `debian` image beside the base system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebianSpec {
    /// Packages by name; their order and repetitions do not matter.
    pub packages: Vec<String>,
    /// Files by absolute path in the guest; written after the packages are in.
    pub files: BTreeMap<String, FileSpec>,
    /// Shell commands, run in this order inside the root (as root, no services running) at build time, after the files.
    pub run: Vec<String>,
}

/// One file of a [`DebianSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// What is in it.
    pub content: String,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
}
