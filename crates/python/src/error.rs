//! Why a script could not be started.

/// Why there is no interpreter, or no script to run in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Python runs once in a process.
    #[error("Python has been started in this process before")]
    StartedTwice,
    /// The interpreter did not start.
    #[error("cannot start Python ({executable}): {reason}")]
    Start {
        /// The interpreter that was to be started.
        executable: String,
        /// What it said.
        reason: String,
    },
    /// The test file is not Python.
    #[error("{0}")]
    Syntax(String),
    /// The test file cannot begin at the checkpoint that was named.
    #[error("{0}")]
    Checkpoint(String),
}
