//! QEMU's human monitor, and keys.

use std::time::Duration;

use super::Machine;
use crate::{Call, Error};

impl Machine {
    /// Sends a command to the human monitor; gives all up to the next prompt, the echo included. Starts the machine if need be.
    ///
    /// # Errors
    ///
    /// When QEMU is gone or the call ends before.
    pub fn send_monitor_command(&self, command: &str, call: &Call<'_>) -> Result<String, Error> {
        let _ = (command, call);
        Err(Error::Unsupported("send_monitor_command"))
    }

    /// Presses a key: one character, or a name that QEMU knows, such as `ctrl-alt-delete`.
    ///
    /// # Errors
    ///
    /// When QEMU is gone or the call ends before.
    pub fn send_key(
        &self,
        key: &str,
        delay: Option<Duration>,
        log: bool,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (key, delay, log, call);
        Err(Error::Unsupported("send_key"))
    }
}
