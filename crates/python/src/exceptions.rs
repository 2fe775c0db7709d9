//! The driver's errors as Python exceptions, with whose fault they are.

use std::io;

use hotbed_driver::Error;
use pyo3::exceptions::{
    PyAssertionError, PyException, PyNotImplementedError, PyOSError, PyRuntimeError,
    PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;

pyo3::create_exception!(
    test_driver.errors,
    MachineError,
    PyException,
    "A machine did what no test asked for, such as a QEMU that exits."
);
pyo3::create_exception!(
    test_driver.errors,
    RequestedAssertionFailed,
    PyAssertionError,
    "What the test demands is not so."
);

/// Marks exceptions that say that Hotbed or the host failed, not the test.
const HOST_MARK: &str = "__hotbed_host_failed__";

/// Turns what a driver's call reports into the exception that scripts expect.
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let host_failed = is_host_failure(&error);
    let raised = translate(py, error);
    if host_failed {
        // Without the mark the exit status is 1 in place of 3; the exception itself matters more.
        let _ = raised.value(py).setattr(HOST_MARK, true);
    }
    raised
}

/// Whether the exception says that Hotbed or the host failed.
pub(crate) fn says_host_failed(py: Python<'_>, error: &PyErr) -> bool {
    error.value(py).hasattr(HOST_MARK).unwrap_or(false)
}

/// Carries a Python exception through the driver, which passes on what its caller's functions report.
pub(crate) fn to_driver(error: PyErr) -> Error {
    Error::Callback(Box::new(error))
}

fn is_host_failure(error: &Error) -> bool {
    matches!(
        error,
        Error::Machine(_)
            | Error::Host { .. }
            | Error::Image { .. }
            | Error::Agent(_)
            | Error::Config(_)
            | Error::Unsupported(_)
    )
}

fn translate(py: Python<'_>, error: Error) -> PyErr {
    let message = error.chain();
    match error {
        Error::TestFailed(text) => RequestedAssertionFailed::new_err(text),
        Error::Assertion(text) => PyAssertionError::new_err(text),
        Error::Runtime(text) => PyRuntimeError::new_err(text),
        Error::NoAgent { .. } => PyRuntimeError::new_err(message),
        Error::Timeout(text) => PyTimeoutError::new_err(text),
        Error::Argument(text) => PyValueError::new_err(text),
        Error::Config(_) => PyValueError::new_err(message),
        Error::Unsupported(_) => PyNotImplementedError::new_err(message),
        Error::ProcessTimeout { command, timeout } => {
            process_timeout(py, &command, timeout.as_secs_f64()).unwrap_or_else(|error| error)
        }
        Error::Qmp {
            class, description, ..
        } => crate::qmp::api_error(py, &class, &description).unwrap_or_else(|error| error),
        Error::Host { what, source } => os_error(&what, &source),
        Error::Callback(source) => match source.downcast::<PyErr>() {
            Ok(raised) => *raised,
            Err(source) => PyRuntimeError::new_err(source.to_string()),
        },
        // `Interrupted` comes here only when no signal raised: the test is over, and this thread of it must end.
        _ => MachineError::new_err(message),
    }
}

fn process_timeout(py: Python<'_>, command: &str, seconds: f64) -> PyResult<PyErr> {
    let class = py.import("subprocess")?.getattr("TimeoutExpired")?;
    Ok(PyErr::from_value(class.call1((command, seconds))?))
}

fn os_error(what: &str, source: &io::Error) -> PyErr {
    match source.raw_os_error() {
        // With a number Python picks the subclass itself: FileNotFoundError, PermissionError, ….
        Some(number) => PyOSError::new_err((number, format!("{what}: {source}"))),
        None => PyOSError::new_err(format!("{what}: {source}")),
    }
}
