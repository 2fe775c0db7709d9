//! Why a command did not get an answer.

use std::io;

/// Why a command did not get an answer.
///
/// That the command itself failed is not an error: its [`Exit`](crate::Exit) says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream ended: QEMU is gone, or it closed the console.
    #[error("the guest's console was closed while {waiting_for}; it said last: {said:?}")]
    Closed {
        /// What was being waited for, for example "waiting for the root shell".
        waiting_for: String,
        /// The last bytes from the guest, made readable.
        said: String,
    },
    /// A new root shell announced itself, so the command's answer will never come: the guest rebooted.
    #[error("the guest started a new root shell while {waiting_for}")]
    Restarted {
        /// What was being waited for.
        waiting_for: String,
    },
    /// Something else wrote into the middle of an answer, or the guest does not speak the protocol.
    #[error("an answer of the guest was garbled ({found}) while {waiting_for}")]
    Garbled {
        /// What was being waited for.
        waiting_for: String,
        /// What is wrong with the answer.
        found: String,
    },
    /// The guest's shell or one of the tools that it needs could not do its part.
    #[error("the guest's shell cannot answer: {0}")]
    Unable(String),
    /// No root shell announced itself yet.
    #[error("the guest's root shell is not ready")]
    NotReady,
    /// A shell command cannot hold a NUL byte.
    #[error("a NUL byte in a shell command")]
    Nul,
    /// More than [`script::SCRIPT_MAX`](crate::script::SCRIPT_MAX) bytes of shell command.
    #[error("a shell command of {0} bytes is too long")]
    TooLong(usize),
    /// More bytes wait for the guest to read them than are kept.
    #[error("the guest does not read its console: {0} bytes are waiting")]
    Backlog(usize),
    /// [`Shell::put_chunk`](crate::Shell::put_chunk) without a file that is being put, or beyond its length.
    #[error("more bytes for a file than were announced")]
    PutOverrun,
    /// The socket failed.
    #[error("console socket")]
    Socket(#[from] io::Error),
}
