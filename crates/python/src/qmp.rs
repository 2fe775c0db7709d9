//! `machine.qmp_client`: QMP commands and events, and the exception for what QEMU refuses.

use std::sync::Arc;
use std::time::Duration;

use hotbed_driver::Machine;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use serde_json::Value;

use crate::duration::Span;
use crate::{call, json};

/// How long `wait_for_event` and `events` wait when the script does not say.
const EVENT_TIMEOUT: Span = Span(Duration::from_secs(10));

/// The QMP session of a machine.
#[pyclass(frozen, module = "test_driver.machine.qmp", name = "QMPSession")]
pub(crate) struct QmpSession {
    pub(crate) machine: Arc<Machine>,
}

#[pymethods]
impl QmpSession {
    /// Sends a command; gives QEMU's whole answer: `{"return": …}`.
    #[pyo3(signature = (cmd, args=None), text_signature = "($self, cmd, args={})")]
    fn send<'py>(
        &self,
        py: Python<'py>,
        cmd: &str,
        args: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = match args {
            Some(args) if !args.is_empty() => json::from_python(args.as_any())?,
            _ => Value::Null,
        };
        let answer = call::run(py, |call| self.machine.qmp(cmd, arguments, call))?;
        json::to_python(py, &answer)
    }

    /// Waits for the next event; `TimeoutError` when none comes.
    #[pyo3(signature = (timeout=EVENT_TIMEOUT), text_signature = "($self, timeout=10)")]
    fn wait_for_event<'py>(&self, py: Python<'py>, timeout: Span) -> PyResult<Bound<'py, PyAny>> {
        let event = next_event(py, &self.machine, timeout)?;
        event.ok_or_else(|| PyTimeoutError::new_err("no QMP event within the timeout"))
    }

    /// Gives events as they come, until none has come for `timeout`.
    #[pyo3(signature = (timeout=EVENT_TIMEOUT), text_signature = "($self, timeout=10)")]
    fn events(&self, timeout: Span) -> Events {
        Events {
            machine: Arc::clone(&self.machine),
            timeout,
        }
    }
}

/// What `events` gives: an iterator.
#[pyclass(frozen, module = "test_driver.machine.qmp", name = "QMPEvents")]
pub(crate) struct Events {
    machine: Arc<Machine>,
    timeout: Span,
}

#[pymethods]
impl Events {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        next_event(py, &self.machine, self.timeout)
    }
}

fn next_event<'py>(
    py: Python<'py>,
    machine: &Machine,
    timeout: Span,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let event = call::run(py, |call| machine.qmp_event(timeout.0, call))?;
    event.map(|event| json::to_python(py, &event)).transpose()
}

/// QEMU refused a command.
#[pyclass(frozen, extends = pyo3::exceptions::PyException, module = "test_driver.machine.qmp", name = "QMPAPIError")]
pub(crate) struct QmpApiError {
    #[pyo3(get)]
    class_name: String,
    #[pyo3(get)]
    description: String,
    #[pyo3(get)]
    transaction_id: Option<String>,
}

#[pymethods]
impl QmpApiError {
    #[new]
    #[pyo3(signature = (class_name, description, transaction_id=None))]
    fn new(class_name: String, description: String, transaction_id: Option<String>) -> Self {
        Self {
            class_name,
            description,
            transaction_id,
        }
    }

    /// Python's exceptions take no keywords here; those of this one have been taken by `new`.
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn __init__(&self, _arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) {}

    fn __str__(&self) -> String {
        let transaction = self.transaction_id.as_deref().unwrap_or("None");
        format!(
            "<QMP API error related to transaction {transaction} [{}]: {}>",
            self.class_name, self.description
        )
    }
}

/// The exception for a command that QEMU refused.
pub(crate) fn api_error(py: Python<'_>, class: &str, description: &str) -> PyResult<PyErr> {
    let error = py.get_type::<QmpApiError>().call1((class, description))?;
    Ok(PyErr::from_value(error))
}
