//! `driver`: the testbed as scripts see it.

use std::path::Path;
use std::sync::Arc;

use hotbed_driver::Testbed;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::call;
use crate::log::{Block, Logger};

/// The test's machines and VLANs, and what is done with all of them.
#[pyclass(frozen, module = "test_driver.driver")]
pub(crate) struct Driver {
    pub(crate) testbed: Arc<Testbed>,
    /// The list that the script knows as `machines`.
    pub(crate) machines: Py<PyList>,
    /// The list that the script knows as `vlans`.
    pub(crate) vlans: Py<PyList>,
    /// The text of the script.
    pub(crate) tests: String,
}

#[pymethods]
impl Driver {
    /// All machines, sorted by name.
    #[getter]
    fn machines(&self, py: Python<'_>) -> Py<PyList> {
        self.machines.clone_ref(py)
    }

    /// The machines that QEMU emulates.
    #[getter]
    fn machines_qemu(&self, py: Python<'_>) -> Py<PyList> {
        self.machines.clone_ref(py)
    }

    /// All VLANs, sorted by number.
    #[getter]
    fn vlans(&self, py: Python<'_>) -> Py<PyList> {
        self.vlans.clone_ref(py)
    }

    /// Where `copy_from_machine` puts files.
    #[getter]
    fn out_dir(&self) -> &Path {
        self.testbed.out_dir()
    }

    /// The text of the script.
    #[getter]
    fn tests(&self) -> &str {
        &self.tests
    }

    /// The log of the test.
    #[getter]
    fn logger(&self) -> Logger {
        Logger {
            log: Arc::clone(self.testbed.log()),
        }
    }

    /// Starts every machine; does not wait for the guests.
    fn start_all(&self, py: Python<'_>) -> PyResult<()> {
        call::run(py, |call| self.testbed.start_all(call))
    }

    /// Waits until every machine is off.
    fn join_all(&self, py: Python<'_>) -> PyResult<()> {
        call::run(py, |call| self.testbed.join_all(call))
    }

    /// Logs a named part of the test around the body of a `with` statement.
    fn subtest(&self, name: String) -> Block {
        Block::subtest(self.testbed.log(), name)
    }

    /// Shows the lines of the machines' consoles.
    fn serial_stdout_on(&self) {
        self.testbed.log().print_serial_logs(true);
    }

    /// Hides the lines of the machines' consoles; they are kept all the same.
    fn serial_stdout_off(&self) {
        self.testbed.log().print_serial_logs(false);
    }
}
