//! Off, on, again; and the network cable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::run::Run;
use super::{Execute, Machine};
use crate::call::{after, now};
use crate::{Call, Error};

/// The first card on a VLAN; QEMU itself calls it so when a start script has a user-mode card before it.
const FIRST_CARD: &str = "virtio-net-pci.1";
/// Leaves the initrd; nobody is there to answer afterwards.
const SWITCH_ROOT: &str =
    "systemctl isolate --no-block initrd-switch-root.target 2>/dev/null >/dev/null";
/// How long QEMU may take to leave when its monitor is told to quit, before it is killed.
const QUIT_GRACE: Duration = Duration::from_secs(5);

impl Machine {
    /// Lets the guest power off, and waits until QEMU is gone.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn shutdown(&self, call: &Call<'_>) -> Result<(), Error> {
        self.touch(call)?;
        let Some(run) = self.present_run() else {
            return Ok(());
        };
        if !self.is_told_to_power_off(&run) {
            let doing = || format!("telling {} to power off", self.name());
            let mut shell = run.shell.take(call, &doing)?;
            let until = call.slice(&doing)?;
            if let Err(error) = shell.send_raw(b"poweroff\n", until)
                && run.is_running()
            {
                return Err(self.explain(
                    &run,
                    Error::Machine(format!("cannot tell {} to power off: {error}", self.name())),
                ));
            }
        }
        self.wait_for_shutdown(None, call)
    }

    /// Tells the agent, if it is what takes commands here; nobody answers this.
    fn is_told_to_power_off(&self, run: &Arc<Run>) -> bool {
        self.is_connected()
            && self
                .conversation(run)
                .is_some_and(|conversation| conversation.power_off().is_ok())
    }

    /// Ends QEMU at once, as a power cut would.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn crash(&self, call: &Call<'_>) -> Result<(), Error> {
        self.touch(call)?;
        let Some(run) = self.present_run() else {
            return Ok(());
        };
        self.log("forced crash");
        {
            let mut monitor = run
                .monitor
                .take(call, &|| format!("waiting for {}'s monitor", self.name()))?;
            monitor.send_last("quit");
        }
        match self.wait_for_shutdown(Some(QUIT_GRACE), call) {
            Err(Error::ProcessTimeout { .. }) => {
                run.process.kill();
                self.wait_for_shutdown(Some(QUIT_GRACE), call)
            }
            result => result,
        }
    }

    /// Presses ctrl-alt-delete; the next command waits for the shell of the new boot. Needs `start` with `allow_reboot`.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn reboot(&self, call: &Call<'_>) -> Result<(), Error> {
        let run = self.touched(call)?;
        let doing = || format!("rebooting {}", self.name());
        // What it said when it came up may lie there unheard, where the agent took the commands. After the keys it would be too late:
        // the shell of the new boot may be there by then.
        let _ = run.shell.take(call, &doing)?.poll_ready(now());
        self.send_key("ctrl-alt-delete", Some(super::keys::DELAY), true, call)?;
        self.expect_shell(&run, call)
    }

    /// Goes on from a systemd initrd that waits at `initrd.target` to the real root, and waits for the shell there.
    ///
    /// # Errors
    ///
    /// When the initrd or the shell does not come.
    pub fn switch_root(&self, call: &Call<'_>) -> Result<(), Error> {
        self.wait_for_unit("initrd.target", None, super::WAIT_TIMEOUT, call)?;
        let run = self.connected(call)?;
        let doing = || format!("{} switches its root", self.name());
        let _ = run.shell.take(call, &doing)?.poll_ready(now());
        let unheard = Execute {
            check_return: false,
            check_output: false,
            ..Execute::default()
        };
        self.execute(SWITCH_ROOT, &unheard, call)?;
        self.expect_shell(&run, call)?;
        self.connect(call)
    }

    /// Lets the next command wait for a shell that is still to come.
    fn expect_shell(&self, run: &Arc<Run>, call: &Call<'_>) -> Result<(), Error> {
        let doing = || format!("expecting another shell of {}", self.name());
        run.shell.take(call, &doing)?.expect_ready();
        run.agent.expect_boot(now());
        run.connected.store(false, Ordering::Release);
        Ok(())
    }

    /// Waits until QEMU is gone.
    ///
    /// # Errors
    ///
    /// [`Error::ProcessTimeout`] when `timeout` passes.
    pub fn wait_for_shutdown(
        &self,
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let Some(mut run) = self.present_run() else {
            return Ok(());
        };
        let deadline = timeout.map(|timeout| after(now(), timeout));
        self.nested("waiting for the VM to power off", || {
            loop {
                let slice = call.slice(&|| format!("{} powers off", self.name()))?;
                let slice = deadline.map_or(slice, |deadline| slice.min(deadline));
                if run.poll_exit(slice)?.is_some() {
                    if let Some(other) = self.present_run()
                        && !Arc::ptr_eq(&run, &other)
                    {
                        run = other; // It went on from a snapshot.
                        continue;
                    }
                    self.forget_run();
                    return Ok(());
                }
                if let (Some(timeout), Some(deadline)) = (timeout, deadline)
                    && now() >= deadline
                {
                    return Err(Error::ProcessTimeout {
                        command: format!("QEMU of {}", self.name()),
                        timeout,
                    });
                }
            }
        })
    }

    /// Pulls the cable of the first VLAN's network card.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn block(&self, call: &Call<'_>) -> Result<(), Error> {
        self.set_link("off", call)
    }

    /// Plugs the cable of the first VLAN's network card in again.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn unblock(&self, call: &Call<'_>) -> Result<(), Error> {
        self.set_link("on", call)
    }

    fn set_link(&self, state: &str, call: &Call<'_>) -> Result<(), Error> {
        self.send_monitor_command(&format!("set_link {FIRST_CARD} {state}"), call)
            .map(|_| ())
    }
}
