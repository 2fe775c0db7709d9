//! Signals that ask the process to end, as exceptions in the script.

use std::sync::atomic::{AtomicI32, Ordering};

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;

/// What a shell adds to the number of the signal that ended a program.
const STATUS_BASE: i32 = 128;

/// The last signal that raised `SystemExit`; 0: none.
static TERMINATED_BY: AtomicI32 = AtomicI32::new(0);

/// A signal that asked this process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Ctrl-C.
    pub const INTERRUPT: Self = Self(libc::SIGINT);

    /// What `kill` sends, and the NixOS driver to itself when a test runs out of time.
    pub const TERMINATE: Self = Self(libc::SIGTERM);

    /// The signal that raised `error`, if one did.
    pub(crate) fn of_exception(py: Python<'_>, error: &PyErr) -> Option<Self> {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            return Some(Self::INTERRUPT);
        }
        let number = TERMINATED_BY.load(Ordering::SeqCst);
        (number != 0 && error.is_instance_of::<PySystemExit>(py)).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// The exit status with which a shell reports it: 130 for Ctrl-C.
    #[must_use]
    pub fn exit_status(self) -> i32 {
        STATUS_BASE + self.0
    }

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            libc::SIGINT => "Ctrl-C (SIGINT)",
            libc::SIGTERM => "SIGTERM",
            libc::SIGHUP => "SIGHUP",
            _ => "a signal",
        }
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP raise, unless they were ignored when Python started (`nohup`, `&`).
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let default = signal.getattr("SIG_DFL")?;
    let terminate = wrap_pyfunction!(terminate, py)?;
    let interrupt = signal.getattr("default_int_handler")?;
    for (number, handler) in [
        (libc::SIGINT, &interrupt),
        (libc::SIGTERM, terminate.as_any()),
        (libc::SIGHUP, terminate.as_any()),
    ] {
        if signal.call_method1("getsignal", (number,))?.eq(&default)? {
            signal.call_method1("signal", (number, handler))?;
        }
    }
    Ok(())
}

/// Python's handler of SIGTERM and SIGHUP.
#[pyfunction]
#[pyo3(signature = (number, _frame))]
fn terminate(number: i32, _frame: &Bound<'_, PyAny>) -> PyResult<()> {
    TERMINATED_BY.store(number, Ordering::SeqCst);
    Err(PySystemExit::new_err(STATUS_BASE + number))
}
