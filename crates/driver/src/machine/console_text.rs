//! What the guest's console said.

use std::time::Duration;

use super::Machine;
use crate::{Call, Error};

impl Machine {
    /// Waits until the console's text matches. `search` is given the lines that came since the last call of this method, joined
    /// without newlines, anew after each line; lines that it has seen are gone for the next call. `pattern` is for the log.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes; what `search` reports.
    pub fn wait_for_console_text(
        &self,
        pattern: &str,
        search: &mut dyn FnMut(&str) -> Result<bool, Error>,
        timeout: Option<Duration>,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (pattern, search, timeout, call);
        Err(Error::Unsupported("wait_for_console_text"))
    }

    /// All lines of the console since the machine's last start, joined by newlines.
    ///
    /// # Errors
    ///
    /// When the log file cannot be read.
    pub fn get_console_log(&self) -> Result<String, Error> {
        Err(Error::Unsupported("get_console_log"))
    }
}
