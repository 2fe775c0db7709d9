//! Why a QMP exchange did not give an answer.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a QMP exchange did not give an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No session could be opened on the socket.
    #[error("cannot reach QEMU's monitor at {}", path.display())]
    Connect {
        /// Where the monitor should have been.
        path: PathBuf,
        /// What the last attempt said.
        #[source]
        source: io::Error,
    },
    /// QEMU went away; the machine is down.
    #[error("QEMU closed its monitor while `{command}` was waiting")]
    Closed {
        /// The command, or the thing, that was being waited for.
        command: String,
    },
    /// The deadline passed without an answer. QEMU may still carry out the command.
    #[error("QEMU did not answer `{command}` in time")]
    Timeout {
        /// The command, or the thing, that was being waited for.
        command: String,
    },
    /// QEMU refused the command, or failed at it.
    #[error("QEMU refused `{command}`: {description} ({class})")]
    Command {
        /// The command.
        command: String,
        /// What kind of error QEMU says it is.
        class: ErrorClass,
        /// QEMU's own words.
        description: String,
    },
    /// QEMU broke the protocol: a bug here or there, never the test's fault. The session is over.
    #[error("QEMU sent something that is not QMP ({reason}): {excerpt:?}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
        /// How it begins.
        excerpt: String,
    },
    /// The answer is QMP, but not what this command answers.
    #[error("QEMU's answer to `{command}` has an unexpected shape")]
    Answer {
        /// The command.
        command: String,
        /// What was wrong with the answer.
        #[source]
        source: serde_json::Error,
    },
    /// The arguments of a command cannot be written as JSON.
    #[error("the arguments of `{command}` cannot be written as JSON")]
    Arguments {
        /// The command.
        command: String,
        /// What was wrong with the arguments.
        #[source]
        source: serde_json::Error,
    },
    /// The command is longer than QEMU would read.
    #[error(
        "`{command}` is {size} bytes long; the limit is {} bytes",
        crate::wire::MESSAGE_MAX
    )]
    TooLong {
        /// The command.
        command: String,
        /// Its size in bytes.
        size: usize,
    },
    /// More files were to travel beside the command than QEMU takes.
    #[error("{files} files are too many beside `{command}`; the limit is {limit}")]
    TooManyFiles {
        /// The command.
        command: String,
        /// How many files.
        files: usize,
        /// How many may: none, if it is to run out of band.
        limit: usize,
    },
    /// Too many commands, or too many bytes of them, wait for QEMU already.
    #[error("`{command}` was not sent: too much is waiting for QEMU already")]
    Busy {
        /// The command.
        command: String,
    },
    /// The monitor did not offer out-of-band execution in its greeting.
    #[error("`{command}` cannot run out of band: this monitor does not offer it")]
    NoOutOfBand {
        /// The command.
        command: String,
    },
    /// Events that the caller had not seen fell out of the bounded history.
    #[error("{lost} events were lost before they were looked at: the history is full")]
    EventsLost {
        /// How many.
        lost: u64,
    },
    /// This [`Pending`](crate::blocking::Pending) has given its answer already.
    #[error("the answer to `{command}` was taken already")]
    Answered {
        /// The command.
        command: String,
    },
    /// The socket failed.
    #[error("QEMU's monitor socket failed")]
    Socket(#[source] io::Error),
}

/// What kind of error QEMU says a command ran into.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Most errors: only the description tells more.
    GenericError,
    /// This QEMU has no such command.
    CommandNotFound,
    /// The device is there, but not active.
    DeviceNotActive,
    /// There is no such device.
    DeviceNotFound,
    /// KVM lacks what the command needs.
    KvmMissingCap,
    /// A class that this crate does not know.
    Other(String),
}

impl ErrorClass {
    /// Reads the name that QEMU gives the class.
    #[must_use]
    pub fn from_name(name: &str) -> ErrorClass {
        match name {
            "GenericError" => ErrorClass::GenericError,
            "CommandNotFound" => ErrorClass::CommandNotFound,
            "DeviceNotActive" => ErrorClass::DeviceNotActive,
            "DeviceNotFound" => ErrorClass::DeviceNotFound,
            "KVMMissingCap" => ErrorClass::KvmMissingCap,
            other => ErrorClass::Other(other.to_owned()),
        }
    }

    /// Gives the name that QEMU gives the class.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            ErrorClass::GenericError => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
            ErrorClass::DeviceNotActive => "DeviceNotActive",
            ErrorClass::DeviceNotFound => "DeviceNotFound",
            ErrorClass::KvmMissingCap => "KVMMissingCap",
            ErrorClass::Other(name) => name,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
