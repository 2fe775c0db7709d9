//! Off, on, again; and the network cable.

use std::time::Duration;

use super::Machine;
use crate::{Call, Error};

impl Machine {
    /// Lets the guest power off, and waits until QEMU is gone.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn shutdown(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("shutdown"))
    }

    /// Ends QEMU at once, as a power cut would.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn crash(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("crash"))
    }

    /// Presses ctrl-alt-delete; the next command waits for the shell of the new boot. Needs `start` with `allow_reboot`.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn reboot(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("reboot"))
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
        let _ = (timeout, call);
        Err(Error::Unsupported("wait_for_shutdown"))
    }

    /// Pulls the cable of the first VLAN's network card.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn block(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("block"))
    }

    /// Plugs the cable of the first VLAN's network card in again.
    ///
    /// # Errors
    ///
    /// When the machine is not running or the call ends before.
    pub fn unblock(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("unblock"))
    }
}
