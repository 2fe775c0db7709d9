//! VLANs as scripts see them.
//!
//! - `rules`: what happens to frames on purpose; `demands`: what must or must not pass;
//!   `seen`: what the switch tells of ports, stations and links, and captures.
//! - `hosts`: the gateway, and simulated hosts.

mod demands;
mod hosts;
mod rules;
mod seen;

use std::path::Path;
use std::sync::Arc;

use hotbed_driver::Testbed;
use hotbed_driver::vlan::End;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::call;
use crate::machine::BaseMachine;

pub(crate) use demands::{Ban, Expectation, Frame};
pub(crate) use hosts::{Gateway, Host, Hosts};
pub(crate) use rules::Change;
pub(crate) use seen::{Capture, Link, Port, Station};

/// One emulated Ethernet segment.
#[pyclass(frozen, module = "test_driver.vlan", name = "VLan")]
pub(crate) struct Vlan {
    pub(crate) vlan: Arc<hotbed_driver::Vlan>,
    pub(crate) testbed: Arc<Testbed>,
}

#[pymethods]
impl Vlan {
    /// Its number.
    #[getter]
    fn nr(&self) -> u8 {
        self.vlan.number()
    }

    /// The VDE control directory, to plug other VDE tools into.
    #[getter]
    fn socket_dir(&self) -> &Path {
        self.vlan.socket_dir()
    }

    /// The process that runs the switch.
    #[getter]
    fn pid(&self) -> u32 {
        self.vlan.pid()
    }

    /// Stops the switch.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.vlan.stop(self.testbed.log()));
    }

    fn __repr__(&self) -> String {
        format!("<Vlan Nr. {}>", self.vlan.number())
    }
}

impl Vlan {
    /// The port that is meant: a machine's, or that of this name.
    fn end(&self, port: &Bound<'_, PyAny>) -> PyResult<End> {
        if let Ok(name) = port.cast::<PyString>() {
            return Ok(End::from(name.to_str()?));
        }
        let Ok(machine) = port.cast::<BaseMachine>() else {
            let kind = port.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a port is a machine, or a str with a port's name, not {kind}"
            )));
        };
        let machine = Arc::clone(&machine.get().machine);
        call::run(port.py(), |_| self.vlan.end_of(&machine))
    }

    fn ends(&self, ports: &Bound<'_, PyAny>) -> PyResult<Vec<End>> {
        ports.try_iter()?.map(|port| self.end(&port?)).collect()
    }
}
