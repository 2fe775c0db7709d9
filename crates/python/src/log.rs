//! The log as scripts see it: `log`, and the blocks of `nested` and `subtest`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotbed_driver::Log;
use hotbed_driver::log::{self, Level};
use pyo3::exceptions::{PySystemExit, PyValueError};
use pyo3::prelude::*;

/// The log of the test.
#[pyclass(frozen, module = "test_driver.logger", name = "CompositeLogger")]
pub(crate) struct Logger {
    pub(crate) log: Arc<Log>,
}

#[pymethods]
impl Logger {
    /// Logs a message.
    #[pyo3(signature = (msg, attrs=None))]
    fn log(&self, py: Python<'_>, msg: &str, attrs: Option<Bound<'_, PyAny>>) {
        let _ = attrs; // For reports; the terminal does not show them.
        py.detach(|| self.log.log(None, msg));
    }

    /// Logs a block around the body of a `with` statement.
    #[pyo3(signature = (msg, attrs=None))]
    fn nested(&self, msg: String, attrs: Option<Bound<'_, PyAny>>) -> Block {
        let _ = attrs;
        Block::new(&self.log, None, msg)
    }

    /// Logs a named part of the test around the body of a `with` statement.
    #[pyo3(signature = (name, attrs=None))]
    fn subtest(&self, name: String, attrs: Option<Bound<'_, PyAny>>) -> Block {
        let _ = attrs;
        Block::subtest(&self.log, name)
    }

    /// Logs when everything is to be said.
    fn debug(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.log.debug(msg));
    }

    /// Logs what is good to know.
    fn info(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.log.info(msg));
    }

    /// Logs what may be wrong.
    fn warning(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.log.warning(msg));
    }

    /// Logs an error and ends the test.
    fn error(&self, py: Python<'_>, msg: &str) -> PyResult<()> {
        py.detach(|| self.log.error(msg));
        Err(PySystemExit::new_err(1))
    }

    /// Logs a line of why the test failed.
    fn log_test_error(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.log.log_test_error(msg));
    }

    /// Logs a line of a machine's console.
    fn log_serial(&self, py: Python<'_>, msg: &str, machine: &str) {
        py.detach(|| self.log.log_serial(msg, machine));
    }

    /// Shows or hides the lines of the machines' consoles.
    fn print_serial_logs(&self, enable: bool) {
        self.log.print_serial_logs(enable);
    }

    /// Sets how much is said: `debug`, `info`, `warning` or `error`.
    fn set_log_level(&self, level: &str) -> PyResult<()> {
        let level = match level.to_ascii_lowercase().as_str() {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warning" => Level::Warning,
            "error" => Level::Error,
            other => {
                return Err(PyValueError::new_err(format!(
                    "the log has no level {other:?}; it has debug, info, warning and error"
                )));
            }
        };
        self.log.set_level(level);
        Ok(())
    }
}

/// What `nested` and `subtest` give: logs its start on entry and its end when the body did not raise.
#[pyclass(frozen, module = "test_driver.logger", name = "Block")]
pub(crate) struct Block {
    log: Arc<Log>,
    machine: Option<String>,
    message: String,
    is_subtest: bool,
    /// While the body runs.
    open: Mutex<Option<log::Block>>,
}

impl Block {
    pub(crate) fn new(log: &Arc<Log>, machine: Option<String>, message: String) -> Self {
        Self {
            log: Arc::clone(log),
            machine,
            message,
            is_subtest: false,
            open: Mutex::new(None),
        }
    }

    pub(crate) fn subtest(log: &Arc<Log>, name: String) -> Self {
        Self {
            is_subtest: true,
            ..Self::new(log, None, name)
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<log::Block>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let block = match self.is_subtest {
            true => self.log.subtest(&self.message),
            false => self.log.begin(self.machine.as_deref(), &self.message),
        };
        *self.open() = Some(block);
    }

    fn end(&self) -> Option<log::Block> {
        self.open().take()
    }
}

#[pymethods]
impl Block {
    fn __enter__(&self, py: Python<'_>) {
        py.detach(|| self.begin());
    }

    #[pyo3(signature = (kind, error, traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let _ = traceback;
        if kind.is_none() {
            py.detach(|| self.end().map(log::Block::finish));
            return Ok(false);
        }
        if self.is_subtest {
            let name = &self.message;
            let line = format!("Test \"{name}\" failed with error: \"{}\"", error.str()?);
            py.detach(|| self.log.log_test_error(&line));
        }
        py.detach(|| drop(self.end()));
        Ok(false)
    }
}
