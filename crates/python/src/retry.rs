//! `retry`: calls a function of the script until it says that it is content.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::call;
use crate::clock;
use crate::duration::Timeout;
use crate::exceptions::RequestedAssertionFailed;

/// The pause after the first try; each further one is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long `retry` tries when the script does not say.
const DEFAULT: Duration = Duration::from_mins(15);

/// Calls `fn(False)` until it returns true, with pauses that grow to a second; at the end `fn(True)` once.
#[pyfunction]
#[pyo3(signature = (r#fn, timeout_seconds=None, timeout=None))]
pub(crate) fn retry(
    py: Python<'_>,
    r#fn: &Bound<'_, PyAny>,
    timeout_seconds: Option<Timeout>,
    timeout: Option<Timeout>,
) -> PyResult<()> {
    let timeout = one_of("retry", timeout_seconds, timeout)?;
    until(py, timeout, PAUSE_MAX, &mut |is_last| {
        r#fn.call1((is_last,))?.is_truthy()
    })
}

/// The timeout that was given under its newer or its older name.
pub(crate) fn one_of(
    function: &str,
    timeout_seconds: Option<Timeout>,
    timeout: Option<Timeout>,
) -> PyResult<Duration> {
    if timeout_seconds.is_some() && timeout.is_some() {
        return Err(PyTypeError::new_err(format!(
            "{function}() got both 'timeout' and 'timeout_seconds' arguments. Pass only 'timeout'"
        )));
    }
    let given = timeout.or(timeout_seconds);
    Ok(given.map_or(DEFAULT, crate::machine::bounded))
}

/// Tries until it is done, with pauses that grow to `pause_max`; `attempt` is told when it is the last time.
pub(crate) fn until(
    py: Python<'_>,
    timeout: Duration,
    pause_max: Duration,
    attempt: &mut dyn FnMut(bool) -> PyResult<bool>,
) -> PyResult<()> {
    let start = clock::now();
    let mut pause = PAUSE_MIN.min(pause_max);
    while start.elapsed() < timeout {
        if attempt(false)? {
            return Ok(());
        }
        call::pause(py, pause.min(timeout.saturating_sub(start.elapsed())))?;
        pause = (pause * 2).min(pause_max);
    }
    if attempt(true)? {
        return Ok(());
    }
    Err(RequestedAssertionFailed::new_err(format!(
        "action timed out after {:.2} seconds (timeout={:?})",
        start.elapsed().as_secs_f64(),
        timeout.as_secs_f64()
    )))
}
