//! Hosts that are no machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use hotbed_driver::vlan::{GATEWAY_PORT, Network, Services, Simulation};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Vlan;
use crate::call;

#[pymethods]
impl Vlan {
    /// Starts a gateway with the addresses of machine 254: it gives addresses by DHCP and router advertisements, and tells the
    /// machines' names by DNS. Nothing is behind it. It ends with the block of a `with` statement, or when it is stopped.
    fn gateway(&self, py: Python<'_>) -> PyResult<Gateway> {
        let number = call::run(py, |_| self.vlan.start_gateway())?;
        Ok(Gateway {
            number,
            vlan: Arc::clone(&self.vlan),
        })
    }

    /// Starts simulated hosts, with the addresses of a network from its second one on. All answer ARP, neighbour solicitations and
    /// ping, those of the profile "server" TCP echo and HTTP, too. They end with the block of a `with` statement, or when they are stopped.
    #[pyo3(
        signature = (count, profile="server", *, network=None),
        text_signature = "($self, count, profile='server', *, network=None)"
    )]
    fn simulate(
        &self,
        py: Python<'_>,
        count: u32,
        profile: &str,
        network: Option<&str>,
    ) -> PyResult<Hosts> {
        let services = match profile {
            "server" => Services::Server,
            "quiet" => Services::Quiet,
            other => {
                return Err(PyValueError::new_err(format!(
                    "profile is \"server\" or \"quiet\", not {other:?}"
                )));
            }
        };
        let simulation = call::run(py, |_| {
            let network = network.map(Network::parse).transpose()?;
            self.vlan.simulate(count, services, network)
        })?;
        Ok(Hosts {
            vlan: Arc::clone(&self.vlan),
            simulation,
        })
    }
}

/// What gives a VLAN's machines addresses and knows their names.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Gateway {
    number: u64,
    vlan: Arc<hotbed_driver::Vlan>,
}

#[pymethods]
impl Gateway {
    /// The name of its port.
    #[getter]
    fn port(&self) -> &'static str {
        GATEWAY_PORT
    }

    /// Its IPv4 address.
    #[getter]
    fn ipv4(&self) -> String {
        self.vlan.gateway_addresses().0.to_string()
    }

    /// Its IPv6 address.
    #[getter]
    fn ipv6(&self) -> String {
        self.vlan.gateway_addresses().1.to_string()
    }

    /// The addresses that it has given to machines that it does not know, by their MAC addresses.
    fn leases(&self, py: Python<'_>) -> BTreeMap<String, String> {
        let leases = py.detach(|| self.vlan.gateway_leases()).into_iter();
        leases
            .map(|(address, mac)| (mac.to_string(), address.to_string()))
            .collect()
    }

    /// Ends it; a second time it does nothing.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.vlan.stop_gateway(self.number));
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> bool {
        self.stop(py);
        false
    }
}

/// Simulated hosts.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Hosts {
    vlan: Arc<hotbed_driver::Vlan>,
    simulation: Simulation,
}

#[pymethods]
impl Hosts {
    /// The name of their port.
    #[getter]
    fn port(&self) -> &str {
        self.simulation.port()
    }

    fn __len__(&self) -> usize {
        self.simulation.count() as usize
    }

    fn __getitem__(&self, index: i64) -> PyResult<Host> {
        let count = i64::from(self.simulation.count());
        let index = if index < 0 { count + index } else { index };
        let host = u32::try_from(index).ok();
        let host = host.and_then(|index| self.simulation.host(index));
        let host = host.ok_or_else(|| PyIndexError::new_err("there are fewer hosts"))?;
        Ok(Host {
            mac: host.mac.to_string(),
            ipv4: host.ipv4.to_string(),
            ipv6: host.ipv6.to_string(),
        })
    }

    /// Ends them; a second time it does nothing.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.vlan.stop_simulation(&self.simulation));
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> bool {
        self.stop(py);
        false
    }
}

/// A simulated host.
#[pyclass(frozen, get_all, module = "test_driver.vlan")]
pub(crate) struct Host {
    mac: String,
    ipv4: String,
    ipv6: String,
}

#[pymethods]
impl Host {
    fn __repr__(&self) -> String {
        format!("<Host {} at {}>", self.ipv4, self.mac)
    }
}
