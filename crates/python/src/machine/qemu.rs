//! What QEMU adds to a machine: power, monitor, console, QMP; `terminals`: the guest's terminals, and where QEMU's sockets are.

mod terminals;

use std::sync::Arc;
use std::time::Duration;

use hotbed_driver::{Call, Error, Machine, Testbed};
use pyo3::prelude::*;
use pyo3::types::PyList;
use serde_json::Value;

use super::{BaseMachine, bounded, search};
use crate::duration::Timeout;
use crate::qmp::QmpSession;
use crate::{call, exceptions, json};

/// How long `wait_for_qmp_event` waits when the script does not say.
const QMP_EVENT_TIMEOUT: Timeout = Timeout(Some(Duration::from_mins(10)));

/// A machine that QEMU emulates.
#[pyclass(frozen, extends = BaseMachine, subclass, module = "test_driver.machine")]
pub(crate) struct QemuMachine {
    machine: Arc<Machine>,
}

impl QemuMachine {
    /// The object of one machine of `testbed`.
    pub(crate) fn new<'py>(
        py: Python<'py>,
        testbed: &Arc<Testbed>,
        machine: &Arc<Machine>,
        callbacks: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, Self>> {
        let base = BaseMachine {
            machine: Arc::clone(machine),
            testbed: Arc::clone(testbed),
            callbacks: callbacks.clone().unbind(),
        };
        let machine = Arc::clone(machine);
        Bound::new(
            py,
            PyClassInitializer::from(base).add_subclass(Self { machine }),
        )
    }

    fn run<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&Machine, &Call<'_>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        call::run(py, |call| body(&self.machine, call))
    }
}

#[pymethods]
impl QemuMachine {
    /// The command that starts QEMU.
    #[getter]
    fn start_command(&self) -> String {
        self.machine.start_command()
    }

    /// The process id of QEMU, or of its start script; `None` when the machine is off.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.machine.pid()
    }

    /// Whether QEMU runs.
    #[getter]
    fn booted(&self) -> bool {
        self.machine.is_booted()
    }

    /// Whether the guest's shell is connected.
    #[getter]
    fn connected(&self) -> bool {
        self.machine.is_connected()
    }

    /// Commands and events of QEMU's machine protocol.
    #[getter]
    fn qmp_client(&self) -> QmpSession {
        QmpSession {
            machine: Arc::clone(&self.machine),
        }
    }

    /// Starts QEMU unless it runs; does not wait for the guest.
    #[pyo3(signature = (allow_reboot=false))]
    fn start(&self, py: Python<'_>, allow_reboot: bool) -> PyResult<()> {
        self.run(py, |machine, call| machine.start(allow_reboot, call))
    }

    /// Waits for the guest's shell.
    fn connect(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::connect)
    }

    /// Lets the guest power off and waits for it.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::shutdown)
    }

    /// Ends QEMU at once.
    fn crash(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::crash)
    }

    /// Presses ctrl-alt-delete; needs `start(allow_reboot=True)`.
    fn reboot(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::reboot)
    }

    /// Saves the machine as it is now; the others and the network are not held.
    fn snapshot(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.run(py, |machine, call| machine.snapshot(name, call))
    }

    /// Takes the machine back to a snapshot of its own.
    fn restore(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.run(py, |machine, call| machine.restore_snapshot(name, call))
    }

    /// Drops a snapshot and its files; says whether there was one.
    fn forget_snapshot(&self, py: Python<'_>, name: &str) -> bool {
        py.detach(|| self.machine.forget_snapshot(name))
    }

    /// Waits until the machine is off.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait_for_shutdown(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        self.run(py, |machine, call| {
            machine.wait_for_shutdown(timeout.0, call)
        })
    }

    /// Kills QEMU if it runs.
    fn release(&self, py: Python<'_>) {
        py.detach(|| self.machine.release());
    }

    /// Pulls the cable of the first VLAN's network card.
    fn block(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::block)
    }

    /// Plugs the cable of the first VLAN's network card in again.
    fn unblock(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::unblock)
    }

    /// Sends a command to QEMU's human monitor; gives its answer.
    fn send_monitor_command(this: &Bound<'_, Self>, cmd: &str) -> PyResult<String> {
        let py = this.py();
        this.as_super().get().run_callbacks(py)?;
        this.get()
            .run(py, |machine, call| machine.send_monitor_command(cmd, call))
    }

    /// Writes to the guest's console.
    fn send_console(&self, py: Python<'_>, chars: &str) -> PyResult<()> {
        self.run(py, |machine, call| machine.send_console(chars, call))
    }

    /// Waits until the guest's console says what the regular expression matches.
    #[pyo3(signature = (regex, timeout=Timeout::NEVER), text_signature = "($self, regex, timeout=None)")]
    fn wait_for_console_text(
        &self,
        py: Python<'_>,
        regex: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<()> {
        let (text, mut search) = search::compile(regex)?;
        self.run(py, move |machine, call| {
            machine.wait_for_console_text(&text, &mut search, timeout.0, call)
        })
    }

    /// What the guest's console has said since the machine's last start.
    fn get_console_log(&self, py: Python<'_>) -> PyResult<String> {
        self.run(py, |machine, _| machine.get_console_log())
    }

    /// Waits for a QMP event for which `filter(event)` is true; those before it are dropped.
    #[pyo3(
        signature = (filter, timeout=QMP_EVENT_TIMEOUT),
        text_signature = "($self, filter, timeout=600)"
    )]
    fn wait_for_qmp_event<'py>(
        &self,
        py: Python<'py>,
        filter: &Bound<'py, PyAny>,
        timeout: Timeout,
    ) -> PyResult<Bound<'py, PyAny>> {
        let filter = filter.clone().unbind();
        let mut wanted = |event: &Value| -> Result<bool, Error> {
            Python::attach(|py| {
                let event = json::to_python(py, event)?;
                filter.call1(py, (event,))?.is_truthy(py)
            })
            .map_err(exceptions::to_driver)
        };
        let event = self.run(py, move |machine, call| {
            machine.wait_for_qmp_event(&mut wanted, bounded(timeout), call)
        })?;
        json::to_python(py, &event)
    }
}
