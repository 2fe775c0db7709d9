//! The machines that a test announces, and those that its script makes up on the way.

use std::path::Path;
use std::sync::Arc;

use super::{Testbed, directories};
use crate::site::Site;
use crate::{Error, Machine, MachineConfig, TestConfig};

impl Testbed {
    /// Makes one more machine, which a shell command starts; it is called `name`, or as the command says. Nothing else of the
    /// testbed knows of it, but it ends with it.
    ///
    /// # Errors
    ///
    /// When the testbed has a machine of that name, or the host does not give what is needed.
    pub fn create_machine(
        &self,
        start_command: &str,
        name: Option<&str>,
        keep_state: bool,
    ) -> Result<Arc<Machine>, Error> {
        let config = MachineConfig::from_start_command(start_command, name);
        if self
            .machines
            .iter()
            .any(|machine| machine.name() == config.name)
        {
            let name = config.name;
            return Err(Error::Argument(format!(
                "there is a machine {name:?} already"
            )));
        }
        let machine = make(&config, &self.site, &self.logs)?;
        if !keep_state {
            machine.clean_up_state_dir()?;
        }
        Ok(machine)
    }
}

/// Makes the machines of a test.
pub(super) fn make_all(
    config: &TestConfig,
    site: &Arc<Site>,
    logs: &Path,
) -> Result<Vec<Arc<Machine>>, Error> {
    let machines = config.machines.iter();
    machines.map(|machine| make(machine, site, logs)).collect()
}

fn make(config: &MachineConfig, site: &Arc<Site>, logs: &Path) -> Result<Arc<Machine>, Error> {
    directories::check_socket_path(
        &site
            .state_root
            .join(format!("vm-state-{}", config.name))
            .join("monitor"),
    )?;
    let log = logs.join(format!("{}.console.log", config.name));
    let machine = Arc::new(Machine::new(config.clone(), Arc::clone(site), &log)?);
    machine.hot.introduce(&machine);
    Ok(machine)
}
