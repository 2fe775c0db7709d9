//! Why the agent did not do what it was asked for.

use super::wire::{FailureKind, VERSION, WireError};
use std::io;
use std::sync::Arc;

/// Why the agent did not do what it was asked for.
///
/// That a command failed is not an error: its exit says so. The errors of a whole session are given to all of its operations.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream ended: QEMU is gone, or it closed the port.
    #[error("the agent's port was closed")]
    Closed,
    /// The agent began anew, so what was asked of it before will never be answered: the guest rebooted, or the agent failed.
    #[error("the agent in the guest was started anew")]
    Restarted,
    /// The guest does not speak the protocol.
    #[error("the agent in the guest breaks the protocol: {0}")]
    Garbled(String),
    /// The agent speaks another version of the protocol.
    #[error("the agent in the guest speaks version {theirs} of the protocol, not {VERSION}")]
    Version {
        /// The version that it speaks.
        theirs: u16,
    },
    /// The agent could not do it.
    #[error("{message}")]
    Failed {
        /// In what way.
        kind: FailureKind,
        /// What was tried, on what, and why it failed.
        message: String,
    },
    /// The agent has not answered yet, so nothing can be asked of it.
    #[error("the agent in the guest has not answered yet")]
    NotReady,
    /// What is asked is more than a message holds.
    #[error("a request is too large")]
    TooLarge(#[source] WireError),
    /// More bytes wait for the guest to read them than are kept.
    #[error("the agent does not read its port: {0} bytes are waiting")]
    Backlog(usize),
    /// The socket failed.
    #[error("socket of the agent's port")]
    Socket(#[source] Arc<io::Error>),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Socket(Arc::new(error))
    }
}
