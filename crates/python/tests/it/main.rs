//! The Python side from outside: the package that scripts import, and its stubs.
//!
//! Whole scripts run in the tests of `cli`, each in a process of its own: Python starts once in a process.

mod package;
mod stubs;

use std::ffi::CString;
use std::sync::Once;

use hotbed_python::Interpreter;
use pyo3::prelude::*;

static START: Once = Once::new();

/// Runs `body` with the interpreter, which the first caller starts.
fn with_python(body: impl FnOnce(Python<'_>)) {
    START.call_once(|| {
        Interpreter::start(&["test.py".into(), "an argument".into()]).expect("Python starts");
    });
    Python::attach(body);
}

/// Runs Python code; what it raises is a test failure.
fn run(py: Python<'_>, code: &str) {
    let code = CString::new(code).expect("code has no NUL");
    if let Err(error) = py.run(&code, None, None) {
        error.display(py);
        panic!("the Python code raised {error}");
    }
}
