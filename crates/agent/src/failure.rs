//! Why an operation did not end as was wanted.

use hotbed_console::agent::wire::FailureKind;
use rustix::io::Errno;
use std::fmt::Display;

/// Why an operation did not end as was wanted: what the host is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In what way.
    pub(crate) kind: FailureKind,
    /// What was tried, on what, and why it failed.
    pub(crate) message: String,
}

impl Failure {
    /// Makes a failure.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What a system call said when this was tried: "cannot open /x".
    pub(crate) fn os(tried: impl Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let kind = match error.raw_os_error() {
            Some(code) if code == Errno::NOENT.raw_os_error() => FailureKind::NotFound,
            _ => FailureKind::Os,
        };
        Self::new(kind, format!("{tried}: {error}"))
    }
}
