//! A test's VLANs: a switch for each.

use std::path::Path;
use std::sync::Arc;

use super::directories;
use crate::{Error, Log, TestConfig, Vlan};

/// Starts the switches of all VLANs.
pub(super) fn start(
    config: &TestConfig,
    directory: &Path,
    log: &Log,
) -> Result<Vec<Arc<Vlan>>, Error> {
    for number in &config.vlans {
        // A client's own socket is beside the switch's: `.12345-12345`, and pids may have seven digits.
        directories::check_socket_path(
            &directory
                .join(format!("vde{number}.ctl"))
                .join(".1234567-12345"),
        )?;
    }
    log.nested(None, "start all VLans", || {
        config
            .vlans
            .iter()
            .map(|&number| {
                let on_it = |machine: &&crate::MachineConfig| machine.vlans.contains(&number);
                let machines: Vec<_> = config.machines.iter().filter(on_it).collect();
                Vlan::start(number, &machines, directory, log).map(Arc::new)
            })
            .collect()
    })
}

/// Where VDE clients find the switches: `QEMU_VDE_SOCKET_<n>`.
pub(super) fn environment(vlans: &[Arc<Vlan>]) -> Vec<(String, String)> {
    let variable = |vlan: &Arc<Vlan>| {
        (
            format!("QEMU_VDE_SOCKET_{}", vlan.number()),
            vlan.socket_dir().to_string_lossy().into_owned(),
        )
    };
    vlans.iter().map(variable).collect()
}
