//! What a script demands of the frames that pass.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hotbed_driver::Testbed;
use hotbed_driver::vlan::{Direction, Sighting, Watch};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::Vlan;
use crate::call;
use crate::duration::Span;

#[pymethods]
impl Vlan {
    /// Waits for the next frame that the filter means, as it comes in; with `ports`, as it comes in or goes out there.
    #[pyo3(signature = (filter, within, *, ports=None))]
    fn expect(
        &self,
        py: Python<'_>,
        filter: &str,
        within: Span,
        ports: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Frame> {
        let expectation = self.expecting(py, filter, within, ports)?;
        expectation.meet(py)?;
        expectation.frame()
    }

    /// Demands, for the block of a `with` statement, that such a frame passes in it, or so soon after its end.
    #[pyo3(signature = (filter, within, *, ports=None))]
    fn expecting(
        &self,
        py: Python<'_>,
        filter: &str,
        within: Span,
        ports: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Expectation> {
        let ports = ports.map(|ports| self.ends(ports)).transpose()?;
        let watch = call::run(py, |_| self.vlan.watch(filter, ports))?;
        Ok(Expectation {
            vlan: Arc::clone(&self.vlan),
            testbed: Arc::clone(&self.testbed),
            watch,
            within: within.0,
            frame: Mutex::default(),
        })
    }

    /// Demands that no such frame passes: until the block of a `with` statement ends, until it is lifted, or to the end of the test.
    #[pyo3(signature = (filter, *, ports=None))]
    fn forbid(
        &self,
        py: Python<'_>,
        filter: &str,
        ports: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Ban> {
        let ports = ports.map(|ports| self.ends(ports)).transpose()?;
        Ok(Ban {
            vlan: Arc::clone(&self.vlan),
            watch: call::run(py, |_| self.vlan.forbid(filter, ports))?,
        })
    }
}

/// A frame that passed a port.
#[pyclass(frozen, module = "test_driver.vlan")]
#[derive(Clone)]
pub(crate) struct Frame(Arc<Sighting>);

#[pymethods]
impl Frame {
    /// The port that it passed.
    #[getter]
    fn port(&self) -> &str {
        &self.0.port_name
    }

    /// Whether it went out there, to who is plugged in.
    #[getter]
    fn is_outgoing(&self) -> bool {
        self.0.direction == Direction::Out
    }

    /// When, in seconds since 1970.
    #[getter]
    fn time(&self) -> f64 {
        let since_1970 = self.0.time.duration_since(SystemTime::UNIX_EPOCH);
        since_1970.unwrap_or_default().as_secs_f64()
    }

    /// Its bytes, from the target's address on.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.frame)
    }

    fn __repr__(&self) -> String {
        format!("<Frame {}>", self.0)
    }
}

/// A frame that must pass before the block of a `with` statement ends, or soon after that.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Expectation {
    vlan: Arc<hotbed_driver::Vlan>,
    testbed: Arc<Testbed>,
    watch: Watch,
    within: Duration,
    frame: Mutex<Option<Frame>>,
}

#[pymethods]
impl Expectation {
    /// The frame, once the block has ended.
    #[getter]
    fn frame(&self) -> PyResult<Frame> {
        let frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        let early = || PyRuntimeError::new_err("the frame is known when the block has ended");
        frame.clone().ok_or_else(early)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (kind, *_error))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyTuple>,
    ) -> PyResult<bool> {
        if kind.is_none() {
            self.meet(py)?;
        }
        Ok(false)
    }
}

impl Expectation {
    fn meet(&self, py: Python<'_>) -> PyResult<()> {
        let log = self.testbed.log();
        let sighting = call::run(py, |call| {
            self.vlan.expect(&self.watch, self.within, log, call)
        })?;
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        *frame = Some(Frame(Arc::new(sighting)));
        Ok(())
    }
}

/// Frames that must not pass.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Ban {
    vlan: Arc<hotbed_driver::Vlan>,
    watch: Arc<Watch>,
}

#[pymethods]
impl Ban {
    /// Ends it; raises if such a frame has passed. A second time it does nothing.
    fn lift(&self, py: Python<'_>) -> PyResult<()> {
        call::run(py, |_| self.vlan.lift(&self.watch))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (kind, *_error))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyTuple>,
    ) -> PyResult<bool> {
        let lifted = self.lift(py);
        if kind.is_none() {
            lifted?;
        }
        Ok(false)
    }
}
