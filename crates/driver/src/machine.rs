//! One machine: its QEMU, its shell, its files, its power.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::{Call, Error};

mod console_text;
mod files;
mod monitor;
mod power;
pub(crate) mod quoting;
mod shell;
mod units;
mod wait;

pub use shell::{Execute, Output};

/// The default of every wait.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(900);

/// What a machine is doing, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It is not running.
    Off,
    /// QEMU runs; the shell is not there yet.
    Booting(Duration),
    /// Nothing was asked of it.
    Idle(Duration),
    /// It runs a command of the test, or waits for something; the text says which.
    Busy(String, Duration),
}

/// One machine of a testbed. All methods may be called from any thread; those that need the shell take turns.
#[derive(Debug)]
pub struct Machine {
    name: String,
    state_dir: PathBuf,
    shared_dir: PathBuf,
}

impl Machine {
    /// Its name in the test.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The directory that all machines share with the host.
    #[must_use]
    pub fn shared_dir(&self) -> &Path {
        &self.shared_dir
    }

    /// Where the whole text of its console is kept.
    #[must_use]
    pub fn console_log_path(&self) -> &Path {
        &self.state_dir
    }

    /// What it is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        Activity::Off
    }

    /// Whether QEMU runs and the shell is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        false
    }

    /// Whether QEMU was started and has not been seen to end.
    #[must_use]
    pub fn is_booted(&self) -> bool {
        false
    }

    /// Whether the shell is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        false
    }

    /// The process id of QEMU or its start script, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        None
    }

    /// Logs one line with the machine's name.
    pub fn log(&self, message: &str) {
        let _ = message;
    }

    /// Starts QEMU unless it runs; does not wait for the guest. Without `allow_reboot`, a guest that reboots ends.
    ///
    /// # Errors
    ///
    /// When QEMU exits at once (its words are in the message), or the image cannot be had.
    pub fn start(&self, allow_reboot: bool, call: &Call<'_>) -> Result<(), Error> {
        let _ = (allow_reboot, call);
        Err(Error::Unsupported("start"))
    }

    /// Waits for the guest's shell; starts the machine if need be.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] when the shell does not come within the boot timeout, [`Error::Machine`] when QEMU ends before.
    pub fn connect(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("connect"))
    }

    /// Kills QEMU if it runs, as the end of a test does.
    pub fn release(&self) {}

    /// Writes to the guest's console.
    ///
    /// # Errors
    ///
    /// When the machine is not running, or QEMU does not take it.
    pub fn send_console(&self, text: &str, call: &Call<'_>) -> Result<(), Error> {
        let _ = (text, call);
        Err(Error::Unsupported("send_console"))
    }

    /// Sends a QMP command; the answer is the whole object `{"return": …}`.
    ///
    /// # Errors
    ///
    /// [`Error::Qmp`] when QEMU refuses it, [`Error::Runtime`] when there is no QMP session.
    pub fn qmp(&self, command: &str, arguments: Value, call: &Call<'_>) -> Result<Value, Error> {
        let _ = (command, arguments, call);
        Err(Error::Unsupported("qmp"))
    }

    /// Takes the next QMP event from the machine's queue; `None` when none comes within `timeout`.
    ///
    /// # Errors
    ///
    /// When the call ends before, or QEMU is gone.
    pub fn qmp_event(&self, timeout: Duration, call: &Call<'_>) -> Result<Option<Value>, Error> {
        let _ = (timeout, call);
        Err(Error::Unsupported("qmp_event"))
    }

    /// Takes events from the queue until `filter` likes one.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] when none comes within `timeout`; what `filter` reports.
    pub fn wait_for_qmp_event(
        &self,
        filter: &mut dyn FnMut(&Value) -> Result<bool, Error>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<Value, Error> {
        let _ = (filter, timeout, call);
        Err(Error::Unsupported("wait_for_qmp_event"))
    }
}
