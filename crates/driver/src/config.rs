//! What a test asks for: machines, VLANs, timeouts.
//!
//! Two forms come in: the head of a test file (`head`, TOML between `# /// hotbed` and `# ///`) and the JSON that the NixOS
//! test framework writes (`json`). Both come out as a [`TestConfig`]. Nothing here reads a file or a clock.

mod clones;
mod duration;
mod error;
mod fields;
mod head;
mod json;
mod machine_head;
pub mod names;
pub mod network;
mod start_scripts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::Error;
pub use hotbed_image::{FileSpec, LogConsole};

/// The most machines of one test: the last byte of their addresses holds their number.
pub const MACHINES_MAX: usize = 254;
/// How long a guest may take to its shell when the test does not say.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a test may take when it does not say.
pub const GLOBAL_TIMEOUT: Duration = Duration::from_secs(3600);

/// A whole test: its machines, its VLANs, its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestConfig {
    /// The machines, sorted by name, clones by their number; each one's number is its place, from 1.
    pub machines: Vec<MachineConfig>,
    /// The VLANs, sorted, each once.
    pub vlans: Vec<u8>,
    /// How long the whole test may take; `None`: without limit.
    pub global_timeout: Option<Duration>,
    /// How long a guest may take from power-on to its shell.
    pub boot_timeout: Duration,
    /// The test script; for a test file with a head, the file itself.
    pub script: PathBuf,
    /// Whether the NixOS framework asked for the SSH backdoor.
    pub ssh_backdoor: bool,
}

impl TestConfig {
    /// Reads the `# /// hotbed` head of the test file `path`, whose whole text is `text`.
    ///
    /// # Errors
    ///
    /// When there is no head, or it asks for what cannot be; the error names the file, the line and what to do.
    pub fn from_python_file(path: &Path, text: &str) -> Result<Self, Error> {
        head::parse(path, text)
    }

    /// Reads the NixOS framework's JSON file `path`, whose whole text is `text`.
    ///
    /// # Errors
    ///
    /// When the text is not JSON, or a field is missing or of the wrong type; the error names the field.
    pub fn from_json_file(path: &Path, text: &str) -> Result<Self, Error> {
        json::parse(path, text)
    }

    /// Takes the lists of the NixOS test driver's older command line: start scripts, each of which names its machine
    /// (`run-NAME-vm`, else `machine`), and VLANs.
    ///
    /// # Errors
    ///
    /// When a list has what cannot be, or two start scripts name one machine.
    pub fn from_start_scripts(
        scripts: &[String],
        vlans: &[String],
        global_timeout: Option<Duration>,
        script: PathBuf,
    ) -> Result<Self, Error> {
        start_scripts::parse(scripts, vlans, global_timeout, script)
    }

    /// What the test is called in paths: the script's file name without its extension.
    #[must_use]
    pub fn name(&self) -> String {
        self.script.file_stem().map_or_else(
            || "test".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }
}

/// One machine of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfig {
    /// Its name in the test.
    pub name: String,
    /// Its number: its place among the machines, from 1.
    pub number: u8,
    /// The VLANs that it is on; the i-th (from 1) is the guest's `eth<i>`. Empty for a start script, which knows its own.
    pub vlans: Vec<u8>,
    /// What it boots.
    pub kind: MachineKind,
    /// Whether an agent in the guest may do what the backdoor shell does otherwise.
    pub agent: bool,
    /// What it is a clone of: the name that the head gives to `count` machines that are alike but for names and addresses.
    pub clone_of: Option<String>,
}

impl MachineConfig {
    /// A machine that a shell command starts and that the test did not announce; the command says its name if nobody does.
    pub(crate) fn from_start_command(command: &str, name: Option<&str>) -> Self {
        let name = name.map_or_else(|| start_scripts::machine_name(command), str::to_owned);
        start_scripts::machine(name, 0, command.to_owned())
    }

    /// The name of its variable in the script.
    #[must_use]
    pub fn identifier(&self) -> String {
        names::python_identifier(&self.name)
    }

    /// How its cards are joined to their VLANs.
    #[must_use]
    pub fn net(&self) -> Net {
        match &self.kind {
            MachineKind::Image(image) => image.net,
            MachineKind::StartScript(_) => Net::default(),
        }
    }
}

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineKind {
    /// An image of ours; Hotbed writes QEMU's command line.
    Image(Box<ImageMachine>),
    /// A shell command that starts QEMU with the arguments that are appended; opaque.
    StartScript(String),
}

/// A machine that boots an image of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMachine {
    /// The image.
    pub image: ImageKind,
    /// Debian packages to build in.
    pub packages: Vec<String>,
    /// Files to build in, by their path in the guest.
    pub files: BTreeMap<String, FileSpec>,
    /// Commands to run in the image when it is built.
    pub run: Vec<String>,
    /// Memory in MiB; `None`: what the image needs.
    pub memory: Option<u32>,
    /// Virtual processors.
    pub cpus: u32,
    /// A kernel other than the image's.
    pub kernel: Option<PathBuf>,
    /// Arguments that come last on QEMU's command line.
    pub qemu_args: Vec<String>,
    /// Where the guest's kernel log and journal go.
    pub log: LogConsole,
    /// Whether it begins from a snapshot of an earlier boot where it can; `None`: only if `HOTBED_HOT` says so.
    pub hot: Option<Hot>,
    /// How its cards are joined to their VLANs.
    pub net: Net,
}

/// How a card is joined to its VLAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Net {
    /// By a socket that frames go through: no offloads, and memory that stays the guest's own.
    #[default]
    Stream,
    /// By the guest's memory, which the switch shares: frames uncut and without checksums, copied once.
    VhostUser,
}

/// Where a machine begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hot {
    /// With power-on, always.
    Never,
    /// From a snapshot of the moment when its boot was over: shell and agent have answered, systemd has no jobs left, and the guest is
    /// calm. This holds when nobody says.
    Booted,
    /// From a snapshot of the moment when this unit of systemd was active.
    Unit(String),
}

/// The images that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// Kernel, busybox, bash: boots in little time.
    Micro,
    /// Debian with systemd.
    Debian,
}
