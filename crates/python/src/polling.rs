//! `polling_condition`: what must hold all the time while a part of the test runs.
//!
//! The conditions of the `with` blocks that the script is in are on one list, which every call into a guest looks through first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hotbed_driver::Log;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::duration::Timeout;
use crate::{clock, retry};

pyo3::create_exception!(
    test_driver.polling_condition,
    PollingConditionError,
    PyException,
    "What must hold all the time does not."
);

/// How long a condition is taken to hold when the script does not say.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// What must hold while the block of a `with` statement runs.
#[pyclass(frozen, module = "test_driver.polling_condition")]
pub(crate) struct PollingCondition {
    condition: Py<PyAny>,
    interval: Duration,
    description: String,
    log: Arc<Log>,
    /// Those of the blocks that the script is in.
    conditions: Py<PyList>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was last looked at.
    last: Option<Instant>,
    /// Whether it is being looked at: what it asks of machines looks at conditions, too.
    is_entered: bool,
}

impl PollingCondition {
    /// A condition that nobody looks at yet; it is called as its function says.
    pub(crate) fn new(
        condition: &Bound<'_, PyAny>,
        interval: Duration,
        description: Option<String>,
        log: &Arc<Log>,
        conditions: &Bound<'_, PyList>,
    ) -> PyResult<Self> {
        let own = |name: &str| {
            condition
                .getattr_opt(name)?
                .map_or(Ok(None), |it| it.extract())
        };
        let description = match description.map_or_else(|| own("__doc__"), |text| Ok(Some(text)))? {
            Some(text) => text,
            None => own("__name__")?.unwrap_or_else(|| "condition".to_owned()),
        };
        Ok(Self {
            condition: condition.clone().unbind(),
            interval,
            description: description.trim().to_owned(),
            log: Arc::clone(log),
            conditions: conditions.clone().unbind(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether it holds; an exception of its function means that it does not.
    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        let last = {
            let mut state = self.state();
            state.is_entered = true;
            state.last
        };
        let description = &self.description;
        let message = format!("Checking polling condition '{description}'");
        let holds = self.log.nested(None, &message, || {
            let since = last.map_or_else(
                || "(not called yet)".to_owned(),
                |last| format!("Time since last: {:.2}s", last.elapsed().as_secs_f64()),
            );
            py.detach(|| self.log.log(None, &since));
            let holds = match self.condition.call0(py) {
                Ok(result) => result.is_none(py) || result.is_truthy(py)?,
                Err(error) if error.is_instance_of::<PyException>(py) => false,
                Err(error) => return Err(error),
            };
            let verdict = if holds { "succeeded" } else { "failed" };
            let said = format!("Polling condition {verdict}: {description}");
            py.detach(|| self.log.log(None, &said));
            Ok(holds)
        });
        let mut state = self.state();
        state.is_entered = false;
        state.last = Some(clock::now());
        holds
    }
}

#[pymethods]
impl PollingCondition {
    /// What it is called in the log.
    #[getter]
    fn description(&self) -> &str {
        &self.description
    }

    /// Looks whether it holds, unless it was looked at a short time ago.
    #[pyo3(signature = (force=false))]
    fn check(&self, py: Python<'_>, force: bool) -> PyResult<bool> {
        let is_due = {
            let state = self.state();
            let rests = state
                .last
                .is_some_and(|last| last.elapsed() <= self.interval);
            !state.is_entered && (force || !rests)
        };
        if is_due { self.look(py) } else { Ok(true) }
    }

    /// Raises when it does not hold.
    pub(crate) fn maybe_raise(&self, py: Python<'_>) -> PyResult<()> {
        match self.check(py, false)? {
            true => Ok(()),
            false => Err(PollingConditionError::new_err(format!(
                "Polling condition failed: {}",
                self.description
            ))),
        }
    }

    /// Waits until it holds.
    #[pyo3(signature = (timeout_seconds=None, timeout=None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout_seconds: Option<Timeout>,
        timeout: Option<Timeout>,
    ) -> PyResult<()> {
        let timeout = retry::one_of("wait", timeout_seconds, timeout)?;
        let description = &self.description;
        let message = format!("waiting for {description}");
        self.log.nested(None, &message, || {
            retry::until(py, timeout, self.interval, &mut |is_last| {
                if is_last {
                    let line = format!("Last chance for {description}");
                    py.detach(|| self.log.log(None, &line));
                }
                let holds = self.check(py, true)?;
                if !holds && !is_last {
                    let line = format!("({description} failure not fatal yet)");
                    py.detach(|| self.log.log(None, &line));
                }
                Ok(holds)
            })
        })
    }

    fn __enter__<'py>(this: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        this.get().conditions.bind(this.py()).append(&this)?;
        Ok(this)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(this: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        let conditions = this.get().conditions.bind(this.py());
        conditions.call_method1("remove", (this,))?;
        Ok(false)
    }
}
