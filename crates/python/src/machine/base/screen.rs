//! Keys, and what is on the screen.

use std::time::Duration;

use pyo3::prelude::*;

use super::super::{bounded, search};
use super::BaseMachine;
use crate::duration::Timeout;

/// How long a key rests after it was pressed when the script does not say.
const KEY_DELAY: Timeout = Timeout(Some(Duration::from_millis(10)));

#[pymethods]
impl BaseMachine {
    /// Presses a key: a character, or a name such as `ctrl-alt-delete`.
    #[pyo3(
        signature = (key, delay=KEY_DELAY, log=true),
        text_signature = "($self, key, delay=0.01, log=True)"
    )]
    fn send_key(&self, py: Python<'_>, key: &str, delay: Timeout, log: bool) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.send_key(key, delay.0, log, call)
        })
    }

    /// Types characters, one key after the other.
    #[pyo3(
        signature = (chars, delay=KEY_DELAY),
        text_signature = "($self, chars, delay=0.01)"
    )]
    fn send_chars(&self, py: Python<'_>, chars: &str, delay: Timeout) -> PyResult<()> {
        self.call(py, |machine, call| machine.send_chars(chars, delay.0, call))
    }

    /// Writes a picture of the screen to a PNG file.
    fn screenshot(&self, py: Python<'_>, filename: &str) -> PyResult<()> {
        self.call(py, |machine, call| machine.screenshot(filename, call))
    }

    /// The text on the screen.
    fn get_screen_text(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, |machine, call| machine.get_screen_text(call))
    }

    /// The text on the screen, as it is recognised in several forms of the picture.
    fn get_screen_text_variants(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.call(py, |machine, call| machine.get_screen_text_variants(call))
    }

    /// Waits until the screen shows what the regular expression matches.
    #[pyo3(signature = (regex, timeout=Timeout::DEFAULT), text_signature = "($self, regex, timeout=900)")]
    fn wait_for_text(
        &self,
        py: Python<'_>,
        regex: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<()> {
        let (text, mut search) = search::compile(regex)?;
        self.call(py, move |machine, call| {
            machine.wait_for_text(&text, &mut search, bounded(timeout), call)
        })
    }

    /// The names of all windows.
    fn get_window_names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.call(py, |machine, call| machine.get_window_names(call))
    }

    /// Waits for a window whose name the regular expression matches.
    #[pyo3(signature = (regexp, timeout=Timeout::DEFAULT), text_signature = "($self, regexp, timeout=900)")]
    fn wait_for_window(
        &self,
        py: Python<'_>,
        regexp: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<()> {
        let (text, mut search) = search::compile(regexp)?;
        self.call(py, move |machine, call| {
            machine.wait_for_window(&text, &mut search, bounded(timeout), call)
        })
    }

    /// Waits for a graphical session.
    #[pyo3(signature = (timeout=Timeout::DEFAULT), text_signature = "($self, timeout=900)")]
    fn wait_for_x(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_x(bounded(timeout), call)
        })
    }
}
