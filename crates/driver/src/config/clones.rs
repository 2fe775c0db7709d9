//! Machines that are alike but for their names and addresses: `count = 3` in the table of `worker` makes `worker1` to `worker3`.

use super::MachineConfig;

/// Makes `count` machines of one.
pub(super) fn make(machine: &MachineConfig, count: i64) -> Vec<MachineConfig> {
    let one = |number| MachineConfig {
        name: format!("{}{number}", machine.name),
        clone_of: Some(machine.name.clone()),
        ..machine.clone()
    };
    (1..=count).map(one).collect()
}

/// By what a machine is sorted.
pub(super) fn place(machine: &MachineConfig) -> &str {
    machine.clone_of.as_ref().unwrap_or(&machine.name)
}
