//! Regular expressions of scripts: Python's `re` looks for them in what the driver finds.

use hotbed_driver::Error;
use pyo3::prelude::*;

use crate::exceptions;

/// Compiles a pattern, or takes a compiled one; gives its text for the log, and what searches for it.
pub(super) fn compile(
    regex: &Bound<'_, PyAny>,
) -> PyResult<(
    String,
    impl FnMut(&str) -> Result<bool, Error> + Send + use<>,
)> {
    let pattern = regex.py().import("re")?.call_method1("compile", (regex,))?;
    let text = pattern.getattr("pattern")?.str()?.extract()?;
    let pattern = pattern.unbind();
    let search = move |seen: &str| {
        Python::attach(|py| {
            let found = pattern.call_method1(py, "search", (seen,))?;
            Ok(!found.is_none(py))
        })
        .map_err(exceptions::to_driver)
    };
    Ok((text, search))
}
