//! Several things at once in one machine: `with machine.parallel() as p`.
//!
//! Each call runs in a thread of a pool of `concurrent.futures`, and gives a `Future`. What fails is raised at the end of the block,
//! as if it came from the line that asked for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The most calls that run at once; more wait for their turn.
const WORKERS_MAX: u32 = 64;

/// What can be called: what asks something of the guest and then gives an answer.
const METHODS: [&str; 26] = [
    "copy_from_host",
    "copy_from_machine",
    "execute",
    "fail",
    "get",
    "get_unit_info",
    "put",
    "read_bytes",
    "read_text",
    "run",
    "sleep",
    "start_job",
    "stop_job",
    "succeed",
    "systemctl",
    "wait_for_closed_port",
    "wait_for_file",
    "wait_for_journal",
    "wait_for_open_port",
    "wait_for_open_unix_socket",
    "wait_for_process",
    "wait_for_unit",
    "wait_until_fails",
    "wait_until_succeeds",
    "write_bytes",
    "write_text",
];

/// Calls a machine's methods at once: each gives a `concurrent.futures.Future`, and the end of the block waits for all.
#[pyclass(frozen, module = "test_driver.machine")]
pub(crate) struct Parallel {
    machine: Py<PyAny>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The pool, within the block.
    pool: Option<Py<PyAny>>,
    /// What was asked for, and the line that did.
    calls: Vec<(Py<PyAny>, Py<PyAny>)>,
}

impl Parallel {
    pub(crate) fn new(machine: Py<PyAny>) -> Self {
        Self {
            machine,
            state: Mutex::default(),
        }
    }

    /// Never held while Python runs.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Parallel {
    /// What can be called.
    #[classattr]
    #[pyo3(name = "__methods__")]
    fn methods() -> Vec<&'static str> {
        METHODS.to_vec()
    }

    fn __enter__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let options = PyDict::new(this.py());
        options.set_item("max_workers", WORKERS_MAX)?;
        options.set_item("thread_name_prefix", "parallel")?;
        let pool = this
            .py()
            .import("concurrent.futures")?
            .getattr("ThreadPoolExecutor")?
            .call((), Some(&options))?;
        this.get().state().pool = Some(pool.unbind());
        Ok(this.clone())
    }

    fn __getattr__(this: &Bound<'_, Self>, name: String) -> PyResult<Submit> {
        if !METHODS.contains(&name.as_str()) {
            return Err(PyAttributeError::new_err(format!(
                "{name:?} cannot be called in parallel; these can: {}",
                METHODS.join(", ")
            )));
        }
        Ok(Submit {
            parallel: this.clone().unbind(),
            name,
        })
    }

    #[pyo3(signature = (kind, *_error))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyTuple>,
    ) -> PyResult<bool> {
        let State { pool, calls } = std::mem::take(&mut *self.state());
        let Some(pool) = pool else { return Ok(false) };
        let at_once = PyDict::new(py);
        at_once.set_item("wait", false)?;
        at_once.set_item("cancel_futures", true)?;
        if !kind.is_none() {
            // The block has failed already: what has not begun need not.
            pool.call_method(py, "shutdown", (), Some(&at_once))?;
            return Ok(false);
        }
        if let Err(error) = pool.call_method0(py, "shutdown") {
            // Ctrl-C.
            pool.call_method(py, "shutdown", (), Some(&at_once))?;
            return Err(error);
        }
        let mut first = None;
        for (future, place) in calls {
            let error = future.bind(py).call_method0("exception")?;
            if error.is_none() {
                continue;
            }
            if first.is_none() {
                first = Some(error.call_method1("with_traceback", (place,))?);
            } else {
                let line = format!("also failed: {}", error.str()?);
                self.machine.bind(py).call_method1("log", (line,))?;
            }
        }
        first.map_or(Ok(false), |error| Err(PyErr::from_value(error)))
    }
}

/// A method that is called in a thread of the pool.
#[pyclass(frozen, module = "test_driver.machine")]
pub(crate) struct Submit {
    parallel: Py<Parallel>,
    name: String,
}

#[pymethods]
impl Submit {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let parallel = self.parallel.get();
        let pool = parallel
            .state()
            .pool
            .as_ref()
            .map(|pool| pool.clone_ref(py));
        let outside = || {
            PyRuntimeError::new_err(
                "it works in its block only: with machine.parallel() as p: p.succeed(…)",
            )
        };
        let pool = pool.ok_or_else(outside)?;
        let method = parallel.machine.bind(py).getattr(self.name.as_str())?;
        let all: Vec<_> = std::iter::once(method).chain(args.iter()).collect();
        let arguments = PyTuple::new(py, all)?;
        let future = pool.bind(py).call_method("submit", arguments, kwargs)?;
        let place = caller(py)?;
        parallel
            .state()
            .calls
            .push((future.clone().unbind(), place.unbind()));
        Ok(future)
    }
}

/// A traceback that says where the script is.
fn caller(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let frame = py.import("sys")?.call_method0("_getframe")?;
    let (instruction, line) = (frame.getattr("f_lasti")?, frame.getattr("f_lineno")?);
    py.import("types")?
        .getattr("TracebackType")?
        .call1((py.None(), frame, instruction, line))
}
