//! Why a call did not do what it was asked.

use std::io;
use std::time::Duration;

/// What a caller's own function, such as a matcher of console text, reports; it comes back unchanged.
pub type CallbackError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call did not do what it was asked; the variants tell whose fault it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The test's own demand was not met (`RequestedAssertionFailed`).
    #[error("{0}")]
    TestFailed(String),
    /// A machine did what no test asked for, such as a QEMU that exits (`MachineError`).
    #[error("{0}")]
    Machine(String),
    /// The shell or the monitor of a machine is not there (`RuntimeError`).
    #[error("{0}")]
    Runtime(String),
    /// What was waited for did not come (`TimeoutError`).
    #[error("{0}")]
    Timeout(String),
    /// A process did not end in time (`subprocess.TimeoutExpired`).
    #[error("command '{command}' timed out after {} seconds", timeout.as_secs_f64())]
    ProcessTimeout {
        /// The command that started the process.
        command: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The guest's answer is not in the form that it must have (`AssertionError`).
    #[error("{0}")]
    Assertion(String),
    /// QEMU refused a QMP command (`QMPAPIError`).
    #[error("QEMU refused `{command}` [{class}]: {description}")]
    Qmp {
        /// The command.
        command: String,
        /// QEMU's class of the error, such as `GenericError`.
        class: String,
        /// What QEMU said.
        description: String,
    },
    /// An argument that no call takes (`ValueError`).
    #[error("{0}")]
    Argument(String),
    /// The caller's [`Interrupt`](crate::Interrupt) said so.
    #[error("interrupted")]
    Interrupted,
    /// The caller's own function failed; its error is passed on.
    #[error("the caller's function failed")]
    Callback(#[source] CallbackError),
    /// The host did not give what was asked: a file, a process, a socket (`OSError`).
    #[error("{what}")]
    Host {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The test's description is not valid.
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    /// An image could not be built or found.
    #[error("image of machine {machine}")]
    Image {
        /// The machine that needs it.
        machine: String,
        /// Why.
        source: hotbed_image::Error,
    },
    /// The program that was named as the guests' agent cannot be it.
    #[error("the agent that was named cannot be used")]
    Agent(#[source] hotbed_image::Error),
    /// Only an agent can do it, and there is none in the guest (`RuntimeError`).
    #[error("{what} needs the agent in {machine}, and there is none: {why}")]
    NoAgent {
        /// What was asked for.
        what: String,
        /// Of which machine.
        machine: String,
        /// Why there is none.
        why: String,
    },
    /// Not done yet.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
}

impl Error {
    /// Says what was tried when the host refuses it.
    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }

    /// Says whose image it was that could not be had.
    pub(crate) fn image(machine: &str) -> impl Fn(hotbed_image::Error) -> Self + '_ {
        move |source| Self::Image {
            machine: machine.to_owned(),
            source,
        }
    }

    /// Whether the test's script asked for too much, rather than the driver or the host failing.
    #[must_use]
    pub fn is_test_failure(&self) -> bool {
        matches!(self, Self::TestFailed(_) | Self::Assertion(_))
    }

    /// The message with all its causes, for a log line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
