//! Durations as scripts write them: seconds (`5`, `0.5`) or a `datetime.timedelta`.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta};

/// Longer waits are cut to this: a hundred years. Adding it to a clock cannot overflow.
pub(crate) const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// A length of time; below zero counts as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A length of time, or `None`: without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Option<Duration>);

impl Timeout {
    /// What the waits of a script have when they name none.
    pub(crate) const DEFAULT: Self = Self(Some(Duration::from_mins(15)));
    /// No end.
    pub(crate) const NEVER: Self = Self(None);
}

impl<'py> FromPyObject<'_, 'py> for Span {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(from_seconds(seconds(&object)?)))
    }
}

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_none() {
            return Ok(Self::NEVER);
        }
        let seconds = seconds(&object)?;
        Ok(Self(
            (seconds != f64::INFINITY).then(|| from_seconds(seconds)),
        ))
    }
}

/// A short time: seconds, a `datetime.timedelta`, or a text with a unit, such as `20ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delay(pub(crate) Duration);

impl<'py> FromPyObject<'_, 'py> for Delay {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(text) = object.extract::<String>() else {
            return Ok(Self(from_seconds(seconds(&object)?)));
        };
        let wrong = || PyValueError::new_err(format!("{text:?} is no time such as \"20ms\""));
        Ok(Self(from_text(&text).ok_or_else(wrong)?))
    }
}

/// A number with `us`, `ms` or `s` behind it.
fn from_text(text: &str) -> Option<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let split = |&(unit, factor): &(&str, f64)| Some((text.strip_suffix(unit)?, factor));
    let (number, factor) = units.iter().find_map(split)?;
    let seconds = number.trim_end().parse::<f64>().ok()? * factor;
    (0.0..=LONGEST.as_secs_f64())
        .contains(&seconds)
        .then(|| from_seconds(seconds))
}

fn seconds(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    if object.cast::<PyDelta>().is_ok() {
        return object.call_method0("total_seconds")?.extract();
    }
    let wrong = || -> PyErr {
        let found = object
            .get_type()
            .name()
            .map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "a duration is a datetime.timedelta or a number of seconds, not {found}"
        ))
    };
    if object.cast::<PyBool>().is_ok() {
        return Err(wrong()); // Python's bools are numbers; `timeout=True` is a mistake.
    }
    let seconds: f64 = object.extract().map_err(|_| wrong())?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a duration cannot be NaN"));
    }
    Ok(seconds)
}

fn from_seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64()))
}

#[cfg(test)]
mod tests;
