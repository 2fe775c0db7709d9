//! `driver`: the testbed as scripts see it.

use std::path::Path;
use std::sync::Arc;

use hotbed_driver::Testbed;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::call;
use crate::duration::Span;
use crate::log::{Block, Logger};
use crate::machine::QemuMachine;
use crate::polling::{INTERVAL, PollingCondition};

/// The test's machines and VLANs, and what is done with all of them.
#[pyclass(frozen, module = "test_driver.driver")]
pub(crate) struct Driver {
    pub(crate) testbed: Arc<Testbed>,
    /// The list that the script knows as `machines`.
    pub(crate) machines: Py<PyList>,
    /// The list that the script knows as `vlans`.
    pub(crate) vlans: Py<PyList>,
    /// Those of the blocks that the script is in.
    pub(crate) polling_conditions: Py<PyList>,
    /// Breakpoints.
    pub(crate) debug: Py<PyAny>,
    /// The text of the script.
    pub(crate) tests: String,
}

impl Driver {
    fn nested<T>(&self, message: &str, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        self.testbed.log().nested(None, message, body)
    }
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

    /// The machines that systemd-nspawn runs: none.
    #[getter]
    fn machines_nspawn(&self, py: Python<'_>) -> Py<PyList> {
        PyList::empty(py).unbind()
    }

    /// Whether the machines' directories are kept after the test, and found by the next one.
    #[getter]
    fn keep_machine_state(&self) -> bool {
        self.testbed.keeps_state()
    }

    /// Whether somebody types what the script says.
    #[getter]
    fn interactive(&self) -> bool {
        false
    }

    /// Breakpoints.
    #[getter]
    fn debug(&self, py: Python<'_>) -> Py<PyAny> {
        self.debug.clone_ref(py)
    }

    /// The conditions of the `with` blocks that the script is in.
    #[getter]
    fn polling_conditions(&self, py: Python<'_>) -> Py<PyList> {
        self.polling_conditions.clone_ref(py)
    }

    /// Looks at the conditions that were not looked at for long; raises for one that does not hold.
    fn check_polling_conditions(&self, py: Python<'_>) -> PyResult<()> {
        let conditions: Vec<Bound<'_, PollingCondition>> =
            self.polling_conditions.bind(py).extract()?;
        conditions
            .iter()
            .try_for_each(|condition| condition.get().maybe_raise(py))
    }

    /// Makes a condition of a function; without one, gives what makes it, for use as a decorator.
    #[pyo3(signature = (fun=None, *, seconds_interval=None, interval=None, description=None))]
    fn polling_condition<'py>(
        this: &Bound<'py, Self>,
        fun: Option<Bound<'py, PyAny>>,
        seconds_interval: Option<Span>,
        interval: Option<Span>,
        description: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let Some(fun) = fun else {
            let options = PyDict::new(py);
            let interval = interval.or(seconds_interval);
            options.set_item("interval", interval.map(|span| span.0))?;
            options.set_item("description", description)?;
            let again = this.getattr("polling_condition")?;
            return py
                .import("functools")?
                .getattr("partial")?
                .call((again,), Some(&options));
        };
        let driver = this.get();
        let condition = PollingCondition::new(
            &fun,
            interval
                .or(seconds_interval)
                .map_or(INTERVAL, |span| span.0),
            description,
            driver.testbed.log(),
            driver.polling_conditions.bind(py),
        )?;
        Ok(Bound::new(py, condition)?.into_any())
    }

    /// Makes a machine that a shell command starts; it is not one of `machines`.
    #[pyo3(signature = (start_command, *, name=None, keep_machine_state=false))]
    fn create_machine<'py>(
        &self,
        py: Python<'py>,
        start_command: &str,
        name: Option<&str>,
        keep_machine_state: bool,
    ) -> PyResult<Bound<'py, QemuMachine>> {
        let machine = call::run(py, |_| {
            self.testbed
                .create_machine(start_command, name, keep_machine_state)
        })?;
        QemuMachine::new(py, &self.testbed, &machine, &PyList::empty(py))
    }

    /// The names that a script finds defined.
    fn test_symbols<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let symbols = PyDict::new(py);
        for (name, value) in py.import("test_driver.script")?.dict() {
            if !name.extract::<String>()?.starts_with("__") {
                symbols.set_item(name, value)?;
            }
        }
        Ok(symbols)
    }

    /// Runs the script, with names of its own.
    fn test_script(&self, py: Python<'_>) -> PyResult<()> {
        self.nested("run the VM test script", || {
            let builtins = py.import("builtins")?;
            let code = builtins.call_method1("compile", (&self.tests, "<string>", "exec"))?;
            builtins.call_method1("exec", (code, self.test_symbols(py)?))?;
            Ok(())
        })
    }

    /// Runs the script, and lets every machine that is up write to its disks.
    fn run_tests(&self, py: Python<'_>) -> PyResult<()> {
        self.test_script(py)?;
        call::run(py, |call| self.testbed.sync_all(call))
    }

    /// Ends the machines and this process, as the end of the test's time does.
    fn terminate_test(&self, py: Python<'_>) -> PyResult<()> {
        self.nested("timeout reached; test terminating...", || {
            let machines = self.testbed.machines();
            py.detach(|| machines.iter().for_each(|machine| machine.release()));
            Ok(())
        })?;
        let signal = py.import("signal")?;
        signal.call_method1("raise_signal", (signal.getattr("SIGTERM")?,))?;
        Ok(())
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
