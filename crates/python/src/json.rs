//! JSON values in both languages.

use pyo3::prelude::*;
use serde_json::Value;

/// A value as Python's `json` module has it.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?
        .call_method1("loads", (value.to_string(),))
}

/// A value that Python's `json` module can write.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    let text: String = value
        .py()
        .import("json")?
        .call_method1("dumps", (value,))?
        .extract()?;
    serde_json::from_str(&text).map_err(|error| {
        pyo3::exceptions::PyValueError::new_err(format!("not JSON ({error}): {text}"))
    })
}
