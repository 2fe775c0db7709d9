//! When a machine is where its snapshot is to be: its shell is there, and its agent, and its boot is over, or what the test's head asks
//! for is there.

use std::time::Duration;

use hotbed_console::agent::wire::Command as AgentCommand;
use hotbed_console::agent::{Agent, Progress as AgentProgress};
use hotbed_console::{Command, Progress, Shell};

use super::{Plan, deadline};
use crate::call::now;
use crate::config::Hot;
use crate::machine::Machine;
use crate::machine::run::Run;
use crate::machine::units::wait_for_unit_script;
use crate::{Call, Error};

/// How long the agent of a guest whose shell is there may take to answer, and the other way round.
const GRACE: Duration = Duration::from_secs(10);
/// How long after its own timeout a wait of the guest may take to end.
const UNIT_GRACE: Duration = Duration::from_secs(10);

impl Machine {
    /// Waits until the machine is where its snapshot is to be; says whether there is an agent.
    pub(super) fn reach_point(
        &self,
        run: &Run,
        shell: &mut Shell,
        plan: &Plan,
        call: &Call<'_>,
    ) -> Result<bool, Error> {
        self.wait_for_its_shell(shell, call)?;
        let patience = deadline(GRACE);
        let doing = || format!("{} comes up", self.name());
        let mut agent = None;
        while plan.has_agent && run.agent.is_open() && agent.is_none() && now() < patience {
            agent = run.agent.poll_ready(call.slice(&doing)?);
        }
        if let Hot::Unit(unit) = &plan.point {
            self.wait_for_its_unit(shell, unit, call)?;
        } else {
            let agent = agent.as_ref().map(|(agent, _)| agent);
            self.wait_for_calm(run, agent, call)?;
        }
        if let Some((agent, _)) = &agent {
            warm_up(agent, call)?;
        }
        Ok(agent.is_some())
    }

    fn wait_for_its_shell(&self, shell: &mut Shell, call: &Call<'_>) -> Result<(), Error> {
        let patience = deadline(GRACE);
        let doing = || format!("{} comes up", self.name());
        while !shell.is_ready() {
            let slice = call.slice(&doing)?.min(patience);
            let answer = shell.poll_ready(slice).map_err(|error| {
                Error::Machine(format!(
                    "the shell of {} did not come: {error}",
                    self.name()
                ))
            })?;
            if answer.is_none() && now() >= patience {
                return Err(Error::Machine("its shell does not come".to_owned()));
            }
        }
        Ok(())
    }

    fn wait_for_its_unit(
        &self,
        shell: &mut Shell,
        unit: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let script = wait_for_unit_script(unit, "active", None);
        let command = Command {
            timeout: Some(self.site.boot_timeout),
            ..Command::new(&script)
        };
        let patience = self.site.boot_timeout + UNIT_GRACE;
        match self.run_in_shell(shell, &command, patience, call)? {
            0 => Ok(()),
            _ => Err(Error::Machine(format!("{unit} does not become active"))),
        }
    }

    /// Runs a command of ours whose output nobody wants in the guest's shell; gives its status.
    pub(super) fn run_in_shell(
        &self,
        shell: &mut Shell,
        command: &Command<'_>,
        patience: Duration,
        call: &Call<'_>,
    ) -> Result<i32, Error> {
        let failed =
            |error: hotbed_console::Error| Error::Machine(format!("its shell failed: {error}"));
        let doing = || format!("{} is prepared", self.name());
        let patience = deadline(patience);
        shell.begin(command, call.slice(&doing)?).map_err(failed)?;
        loop {
            match shell.poll_output(call.slice(&doing)?).map_err(failed)? {
                Progress::Done(exit) => return Ok(exit.status),
                Progress::Pending if now() >= patience => {
                    return Err(Error::Machine("its shell does not answer".to_owned()));
                }
                _ => {}
            }
        }
    }
}

/// Has the agent run something, so that the first command after a restore finds all that one needs in memory. It may fail.
fn warm_up(agent: &Agent, call: &Call<'_>) -> Result<(), Error> {
    let script = "true";
    let Ok(running) = agent.start(&AgentCommand::script(script), script.as_bytes()) else {
        return Ok(());
    };
    let patience = deadline(GRACE);
    while now() < patience {
        let slice = call.slice(&|| "an agent warms up".to_owned())?;
        match running.poll_output(slice.min(patience)) {
            Ok(AgentProgress::Exited(_) | AgentProgress::Detached) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}
