//! What systemd does in a guest, and what its journal says.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::super::bounded;
use super::BaseMachine;
use crate::duration::Timeout;

#[pymethods]
impl BaseMachine {
    /// Runs `systemctl`; gives its status and what it wrote.
    #[pyo3(signature = (q, user=None))]
    fn systemctl(&self, py: Python<'_>, q: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.systemctl(q, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// The properties of a unit.
    #[pyo3(signature = (unit, user=None))]
    fn get_unit_info<'py>(
        &self,
        py: Python<'py>,
        unit: &str,
        user: Option<&str>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let info = self.call(py, |machine, call| machine.get_unit_info(unit, user, call))?;
        let properties = PyDict::new(py);
        for (name, value) in info {
            properties.set_item(name, value)?;
        }
        Ok(properties)
    }

    /// One property of a unit.
    #[pyo3(signature = (unit, property, user=None))]
    fn get_unit_property(
        &self,
        py: Python<'_>,
        unit: &str,
        property: &str,
        user: Option<&str>,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.get_unit_property(unit, property, user, call)
        })
    }

    /// Waits until a unit is active, or in another state; `finished` is a oneshot that has run and ended well.
    #[pyo3(
        signature = (unit, user=None, timeout=Timeout::DEFAULT, *, state="active"),
        text_signature = "($self, unit, user=None, timeout=900, *, state='active')"
    )]
    fn wait_for_unit(
        &self,
        py: Python<'_>,
        unit: &str,
        user: Option<&str>,
        timeout: Timeout,
        state: &str,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_unit_state(unit, state, user, bounded(timeout), call)
        })
    }

    /// The older name of `wait_for_unit`.
    fn wait_for_job(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.wait_for_unit(py, name, None, Timeout::DEFAULT, "active")
    }

    /// Waits for a line of the journal in which the regular expression is found, and gives it.
    #[pyo3(
        signature = (pattern, unit=None, timeout=Timeout::DEFAULT),
        text_signature = "($self, pattern, unit=None, timeout=900)"
    )]
    fn wait_for_journal(
        &self,
        py: Python<'_>,
        pattern: &str,
        unit: Option<&str>,
        timeout: Timeout,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.wait_for_journal(pattern, unit, bounded(timeout), call)
        })
    }

    /// Checks the state of a unit.
    #[pyo3(signature = (unit, require_state="active"))]
    fn require_unit_state(&self, py: Python<'_>, unit: &str, require_state: &str) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.require_unit_state(unit, require_state, call)
        })
    }

    /// Runs `systemctl start`; gives its status and what it wrote.
    #[pyo3(signature = (name, user=None))]
    fn start_job(&self, py: Python<'_>, name: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.start_job(name, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// Runs `systemctl stop`; gives its status and what it wrote.
    #[pyo3(signature = (name, user=None))]
    fn stop_job(&self, py: Python<'_>, name: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.stop_job(name, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }
}
