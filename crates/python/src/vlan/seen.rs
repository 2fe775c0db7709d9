//! What the switch of a VLAN tells: ports, stations, links; and captures of frames.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hotbed_driver::vlan::{Drops, PortKind};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Vlan;
use crate::call;

/// What is plugged into a VLAN, and what went through there.
#[pyclass(frozen, get_all, module = "test_driver.vlan")]
pub(crate) struct Port {
    name: String,
    kind: &'static str,
    frames_in: u64,
    bytes_in: u64,
    frames_out: u64,
    bytes_out: u64,
    queued: usize,
    drops: BTreeMap<&'static str, u64>,
}

#[pymethods]
impl Port {
    fn __repr__(&self) -> String {
        let lost: u64 = self.drops.values().sum();
        format!(
            "<Port {} ({}): {} frames in, {} out, {lost} lost>",
            self.name, self.kind, self.frames_in, self.frames_out
        )
    }
}

/// A network card that has sent something lately.
#[pyclass(frozen, get_all, module = "test_driver.vlan")]
pub(crate) struct Station {
    address: String,
    port: String,
    segment: u16,
    silent_for: f64,
}

#[pymethods]
impl Station {
    fn __repr__(&self) -> String {
        format!("<Station {} at {}>", self.address, self.port)
    }
}

/// An impaired link, and what happened on it.
#[pyclass(frozen, get_all, module = "test_driver.vlan")]
pub(crate) struct Link {
    source: Option<String>,
    target: Option<String>,
    frames: u64,
    lost: u64,
    down: u64,
    queue_full: u64,
    duplicated: u64,
    corrupted: u64,
    reordered: u64,
    waiting: u64,
}

#[pymethods]
impl Link {
    fn __repr__(&self) -> String {
        let end = |name: &Option<String>| name.clone().unwrap_or_else(|| "all".to_owned());
        format!(
            "<Link from {} to {}: {} frames, {} lost>",
            end(&self.source),
            end(&self.target),
            self.frames,
            self.lost
        )
    }
}

#[pymethods]
impl Vlan {
    /// What is plugged in, with counters.
    fn ports(&self, py: Python<'_>) -> Vec<Port> {
        let ports = py.detach(|| self.vlan.ports()).into_iter();
        let port = |port: hotbed_driver::vlan::PortInfo| Port {
            name: port.name,
            kind: kind(port.kind),
            frames_in: port.counters.frames_in,
            bytes_in: port.counters.bytes_in,
            frames_out: port.counters.frames_out,
            bytes_out: port.counters.bytes_out,
            queued: port.queued,
            drops: drops(&port.counters.drops),
        };
        ports.map(port).collect()
    }

    /// The network cards that have sent something lately.
    fn stations(&self, py: Python<'_>) -> PyResult<Vec<Station>> {
        let stations = call::run(py, |_| self.vlan.stations())?;
        let names = self.names(py);
        let station = |station: &hotbed_driver::vlan::StationInfo| Station {
            address: station.address.to_string(),
            port: name_of(&names, station.port),
            segment: station.segment,
            silent_for: station.silent_for.as_secs_f64(),
        };
        Ok(stations.iter().map(station).collect())
    }

    /// The links that are impaired now.
    fn links(&self, py: Python<'_>) -> PyResult<Vec<Link>> {
        let links = call::run(py, |_| self.vlan.links())?;
        let names = self.names(py);
        let link = |link: &hotbed_driver::vlan::LinkInfo| Link {
            source: link.from.map(|port| name_of(&names, port)),
            target: link.to.map(|port| name_of(&names, port)),
            frames: link.counters.frames,
            lost: link.counters.lost,
            down: link.counters.down,
            queue_full: link.counters.queue_full,
            duplicated: link.counters.duplicated,
            corrupted: link.counters.corrupted,
            reordered: link.counters.reordered,
            waiting: link.counters.waiting,
        };
        Ok(links.iter().map(link).collect())
    }

    /// Writes frames to a pcapng file, which is looked for in the output directory, until it is stopped or the block of a `with`
    /// statement ends.
    #[pyo3(signature = (path, filter=None, *, ports=None))]
    fn capture(
        &self,
        py: Python<'_>,
        path: PathBuf,
        filter: Option<&str>,
        ports: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Capture> {
        let path = self.testbed.out_dir().join(path);
        let ports = ports.map(|ports| self.ends(ports)).transpose()?;
        call::run(py, |_| self.vlan.start_capture_of(&path, ports, filter))?;
        Ok(Capture {
            vlan: Arc::clone(&self.vlan),
            path,
            frames: Mutex::new(None),
        })
    }
}

/// The names of ports by their ids.
type Names = Vec<(hotbed_driver::vlan::PortId, String)>;

impl Vlan {
    fn names(&self, py: Python<'_>) -> Names {
        let ports = py.detach(|| self.vlan.ports()).into_iter();
        ports.map(|port| (port.id, port.name)).collect()
    }
}

fn name_of(names: &Names, id: hotbed_driver::vlan::PortId) -> String {
    let named = names.iter().find(|(port, _)| *port == id);
    named.map_or_else(|| id.to_string(), |(_, name)| name.clone())
}

fn kind(kind: PortKind) -> &'static str {
    match kind {
        PortKind::Vde => "vde",
        PortKind::Stream => "stream",
        PortKind::Dgram => "dgram",
        PortKind::Tap => "tap",
        PortKind::Vxlan => "vxlan",
        PortKind::Local => "local",
        PortKind::VhostUser => "vhost-user",
        _ => "other",
    }
}

fn drops(drops: &Drops) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("runt", drops.runt),
        ("oversized", drops.oversized),
        ("queue_full", drops.queue_full),
        ("no_peer", drops.no_peer),
        ("refused", drops.refused),
        ("impaired", drops.impaired),
        ("link_down", drops.link_down),
        ("link_full", drops.link_full),
        ("partitioned", drops.partitioned),
        ("foreign", drops.foreign),
    ])
}

/// Frames that are being written to a file.
#[pyclass(frozen, module = "test_driver.vlan")]
pub(crate) struct Capture {
    vlan: Arc<hotbed_driver::Vlan>,
    path: PathBuf,
    /// How many there were, once it has ended.
    frames: Mutex<Option<u64>>,
}

#[pymethods]
impl Capture {
    /// The file.
    #[getter]
    fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it; gives how many frames are in the file, which is whole then.
    fn stop(&self, py: Python<'_>) -> PyResult<u64> {
        let ended = *self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frames) = ended {
            return Ok(frames);
        }
        let summary = call::run(py, |_| self.vlan.stop_capture_of(&self.path))?;
        *self.frames.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary.frames);
        Ok(summary.frames)
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        self.stop(py)?;
        Ok(false)
    }
}
