//! What can be waited for.

use serde::{Deserialize, Serialize};

/// Something to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// A systemd unit gets into one of these states.
    Unit {
        /// Its name, with its suffix.
        unit: String,
        /// The user whose manager has it; else the system's.
        user: Option<String>,
        /// `ActiveState`s that end the wait.
        states: Vec<String>,
        /// `ActiveState` `inactive` with no job fails the wait, and so does `failed`, unless they are among `states`.
        or_fail: bool,
        /// A oneshot that has run and ended well counts as active.
        finished: bool,
    },
    /// A file, of whatever kind, is there, or is gone. Its folder need not be there yet.
    File {
        /// Its path.
        path: String,
        /// There, or else gone.
        present: bool,
    },
    /// A TCP port takes connections, or refuses them.
    Port {
        /// A name or an address.
        address: String,
        /// The port.
        port: u16,
        /// Open, or else closed.
        open: bool,
    },
    /// A unix socket is there and listens (or, for a datagram socket, is bound), or is gone.
    UnixSocket {
        /// Its path.
        path: String,
        /// A datagram socket.
        datagram: bool,
        /// Open, or else closed.
        open: bool,
    },
    /// A process runs, or has ended.
    Process {
        /// Which.
        process: Process,
        /// Runs, or else has ended.
        running: bool,
    },
    /// A line of the journal matches.
    Journal {
        /// A regular expression, in the syntax of Rust's `regex-lite`: that of `regex`, where `\w`, `\d`, `\s` and a case that
        /// does not matter are ASCII's only.
        pattern: String,
        /// Of this unit only.
        unit: Option<String>,
        /// Lines of this boot that are already there count, too.
        past: bool,
    },
    /// The boot has come this far.
    Boot(BootPhase),
}

/// A process to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Process {
    /// By number.
    Pid(u32),
    /// By the name of its program (`comm`).
    Name(String),
}

/// How far a boot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootPhase {
    /// Every file system of the machine is there, and its basic services.
    Basic,
    /// All jobs of the boot are done, with whatever result.
    Finished,
}
