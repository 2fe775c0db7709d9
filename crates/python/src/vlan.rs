//! VLANs as scripts see them.

use std::path::Path;
use std::sync::Arc;

use pyo3::prelude::*;

/// One emulated Ethernet segment.
#[pyclass(frozen, module = "test_driver.vlan", name = "VLan")]
pub(crate) struct Vlan {
    pub(crate) vlan: Arc<hotbed_driver::Vlan>,
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

    fn __repr__(&self) -> String {
        format!("<Vlan Nr. {}>", self.vlan.number())
    }
}
