//! Why a test's description is not taken.

use std::path::PathBuf;

/// Why a test's description is not taken: the file, the place in it, what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{}: {message}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default(), place.as_ref().map(|place| format!(": {place}")).unwrap_or_default())]
pub struct Error {
    /// The file.
    pub file: PathBuf,
    /// The line in the file, from 1, where one is to blame.
    pub line: Option<usize>,
    /// The field, such as `vms.server.start_script`.
    pub place: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}
