//! What any machine has: a name, a shell, and by module:
//!
//! - `programs`: programs as `subprocess` has them; `files`: files in and out.
//! - `screen`: keys, and what is on the screen.
//! - `units`: systemd and its journal; `waits`: waiting for everything else.

mod files;
mod programs;
mod screen;
mod units;
mod waits;

use std::path::Path;
use std::sync::Arc;

use hotbed_driver::machine::Execute;
use hotbed_driver::{Call, Error, Machine, Testbed};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::call;
use crate::duration::Timeout;
use crate::log::{Block, Logger};

/// A machine of the test.
#[pyclass(frozen, subclass, module = "test_driver.machine")]
pub(crate) struct BaseMachine {
    pub(crate) machine: Arc<Machine>,
    pub(crate) testbed: Arc<Testbed>,
    /// What is called before a command goes to the machine.
    pub(crate) callbacks: Py<PyList>,
}

/// A machine that systemd-nspawn runs: for annotations, as there are none.
#[pyclass(frozen, extends = BaseMachine, module = "test_driver.machine")]
pub(crate) struct NspawnMachine;

impl BaseMachine {
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&Machine, &Call<'_>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        self.run_callbacks(py)?;
        call::run(py, |call| body(&self.machine, call))
    }
}

#[pymethods]
impl BaseMachine {
    /// Its name in the test.
    #[getter]
    fn name(&self) -> &str {
        self.machine.name()
    }

    /// The directory of its sockets and disks.
    #[getter]
    fn state_dir(&self) -> &Path {
        self.machine.state_dir()
    }

    /// The host's side of `/tmp/shared`.
    #[getter]
    fn shared_dir(&self) -> &Path {
        self.machine.shared_dir()
    }

    /// Where `copy_from_machine` puts files.
    #[getter]
    fn out_dir(&self) -> &Path {
        self.testbed.out_dir()
    }

    /// The directory that holds the state of all machines.
    #[getter]
    fn tmp_dir(&self) -> &Path {
        self.testbed.directory()
    }

    /// What is called before a command goes to the machine.
    #[getter]
    fn callbacks(&self, py: Python<'_>) -> Py<PyList> {
        self.callbacks.clone_ref(py)
    }

    /// Calls the callbacks.
    pub(crate) fn run_callbacks(&self, py: Python<'_>) -> PyResult<()> {
        let mut callbacks = self.callbacks.bind(py).iter();
        callbacks.try_for_each(|callback| callback.call0().map(drop))
    }

    /// Whether the machine's directory is kept after the test, and found by the next one.
    #[getter]
    fn keep_machine_state(&self) -> bool {
        self.testbed.keeps_state()
    }

    /// The older name of `keep_machine_state`.
    #[getter]
    fn keep_vm_state(&self) -> bool {
        self.testbed.keeps_state()
    }

    /// Deletes what is in the machine's directory.
    fn cleanup_statedir(&self, py: Python<'_>) -> PyResult<()> {
        call::run(py, |_| self.machine.clean_up_state_dir())
    }

    /// The log of the test.
    #[getter]
    fn logger(&self) -> Logger {
        Logger {
            log: Arc::clone(self.testbed.log()),
        }
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let class = this.get_type().name()?;
        Ok(format!("<{class} '{}'>", this.get().machine.name()))
    }

    /// Logs a line with the machine's name.
    fn log(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.machine.log(msg));
    }

    /// Logs a line as if the machine's console had said it.
    fn log_serial(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.testbed.log().log_serial(msg, self.machine.name()));
    }

    /// Logs a block around the body of a `with` statement.
    #[pyo3(signature = (msg, attrs=None))]
    fn nested(&self, msg: String, attrs: Option<Bound<'_, PyAny>>) -> Block {
        let _ = attrs; // For reports; the terminal does not show them.
        Block::new(
            self.testbed.log(),
            Some(self.machine.name().to_owned()),
            msg,
        )
    }

    /// Whether the machine runs and takes commands.
    fn is_up(&self) -> bool {
        self.machine.is_up()
    }

    /// Runs a command; gives its status and what it wrote.
    #[pyo3(
        signature = (command, check_return=true, check_output=true, timeout=Timeout::DEFAULT),
        text_signature = "($self, command, check_return=True, check_output=True, timeout=900)"
    )]
    fn execute(
        &self,
        py: Python<'_>,
        command: &str,
        check_return: bool,
        check_output: bool,
        timeout: Timeout,
    ) -> PyResult<(i32, String)> {
        let options = Execute {
            check_return,
            check_output,
            timeout: timeout.0,
        };
        let output = self.call(py, |machine, call| machine.execute(command, &options, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// Runs commands that must succeed; gives what they wrote.
    #[pyo3(signature = (*commands, timeout=Timeout::NEVER), text_signature = "($self, *commands, timeout=None)")]
    fn succeed(&self, py: Python<'_>, commands: Vec<String>, timeout: Timeout) -> PyResult<String> {
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        self.call(py, |machine, call| {
            machine.succeed(&commands, timeout.0, call)
        })
    }

    /// Runs commands that must fail; gives what they wrote.
    #[pyo3(signature = (*commands, timeout=Timeout::NEVER), text_signature = "($self, *commands, timeout=None)")]
    fn fail(&self, py: Python<'_>, commands: Vec<String>, timeout: Timeout) -> PyResult<String> {
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        self.call(py, |machine, call| machine.fail(&commands, timeout.0, call))
    }
}
