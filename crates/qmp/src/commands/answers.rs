//! What QEMU answers to the commands that have a type. Fields that QEMU adds later are passed over.

use serde::Deserialize;
use serde_json::Value;

/// The answer of a command that has nothing to say but that it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Empty {}

/// Whether the guest runs, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StatusInfo {
    /// Whether the guest's processors run.
    pub running: bool,
    /// QEMU's word for the state: `running`, `paused`, `prelaunch`, `inmigrate`, `postmigrate`, `shutdown`, ….
    pub status: String,
}

/// Whether KVM runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct KvmInfo {
    /// Whether KVM runs this guest.
    pub enabled: bool,
    /// Whether this QEMU knows KVM at all.
    pub present: bool,
}

/// One of the guest's processors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CpuInfo {
    /// QEMU's number for it.
    #[serde(rename = "cpu-index")]
    pub cpu_index: i64,
    /// Where it stands in the object tree.
    #[serde(rename = "qom-path")]
    pub qom_path: String,
    /// The host's thread that runs it.
    #[serde(rename = "thread-id")]
    pub thread_id: i64,
}

/// Where QEMU put a file that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct FdInfo {
    /// The set that the file is in: `/dev/fdset/N`.
    #[serde(rename = "fdset-id")]
    pub fdset_id: i64,
    /// QEMU's own descriptor for it.
    pub fd: i64,
}

/// A set of files that QEMU was given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FdSet {
    /// The set's number.
    #[serde(rename = "fdset-id")]
    pub fdset_id: i64,
    /// The files in it.
    pub fds: Vec<FdSetFile>,
}

/// A file in a set of files that QEMU was given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FdSetFile {
    /// QEMU's own descriptor for it.
    pub fd: i64,
    /// The words that it was given with.
    pub opaque: Option<String>,
}

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MigrationInfo {
    /// QEMU's word: `setup`, `active`, `completed`, `failed`, `cancelled`, …; none before the first migration.
    pub status: Option<String>,
    /// Milliseconds since the start, or from start to end.
    #[serde(rename = "total-time")]
    pub total_time: Option<i64>,
    /// Milliseconds for which the guest stood still.
    pub downtime: Option<i64>,
    /// Milliseconds that were spent on setting up.
    #[serde(rename = "setup-time")]
    pub setup_time: Option<i64>,
    /// Why it failed, in QEMU's words.
    #[serde(rename = "error-desc")]
    pub error: Option<String>,
    /// What keeps this guest from being migrated.
    #[serde(rename = "blocked-reasons", default)]
    pub blocked_reasons: Vec<String>,
    /// How the guest's memory fares.
    pub ram: Option<MigrationRam>,
}

impl MigrationInfo {
    /// Says whether the migration is over, well or badly.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.status.as_deref(),
            Some("completed" | "failed" | "cancelled")
        )
    }
}

/// How the guest's memory fares in a migration, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MigrationRam {
    /// What was sent.
    pub transferred: i64,
    /// What is still to send.
    pub remaining: i64,
    /// All of it.
    pub total: i64,
}

/// What a migration can do, and whether it will.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MigrationCapabilityInfo {
    /// QEMU's name for it, such as `x-ignore-shared`.
    pub capability: String,
    /// Whether it is switched on.
    pub state: bool,
}

/// A type of object that this QEMU can make.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObjectType {
    /// Its name, as in `-device` or `-object`.
    pub name: String,
    /// Whether it only serves as a parent of others.
    #[serde(rename = "abstract", default)]
    pub is_abstract: bool,
    /// The type that it is a kind of.
    pub parent: Option<String>,
}

/// A property of an object or of a type of objects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ObjectProperty {
    /// Its name.
    pub name: String,
    /// What it holds; `child<…>` and `link<…>` lead to other objects.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is for, in QEMU's words.
    pub description: Option<String>,
    /// What it holds when nobody says otherwise.
    #[serde(rename = "default-value")]
    pub default_value: Option<Value>,
}

/// A character device of this QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChardevInfo {
    /// Its name.
    pub label: String,
    /// Where it leads, in QEMU's notation.
    pub filename: String,
    /// Whether its front end is open.
    #[serde(rename = "frontend-open")]
    pub frontend_open: bool,
}

/// What adding a character device gave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChardevAdded {
    /// The name of the pseudo-terminal, if it is one.
    pub pty: Option<String>,
}

/// The name that the guest was given on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NameInfo {
    /// The name, if it was given one.
    pub name: Option<String>,
}

/// A command that this QEMU knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CommandInfo {
    /// Its name.
    pub name: String,
}

/// The guest's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MemorySize {
    /// What it was started with.
    #[serde(rename = "base-memory")]
    pub base: u64,
    /// What was plugged in since.
    #[serde(rename = "plugged-memory")]
    pub plugged: Option<u64>,
}
