//! What is said of an exception that left the script.

use std::path::Path;

use hotbed_driver::Log;
use pyo3::prelude::*;

/// One line of the script's stack.
struct Frame {
    file: String,
    line: usize,
    function: String,
    source: String,
}

/// Logs an unmet demand of the test: the test's own lines, then the exception, without frames of libraries.
pub(crate) fn log_demand(py: Python<'_>, log: &Log, script: &Path, error: &PyErr) {
    log.log_test_error("Traceback (most recent call last):");
    for frame in frames(py, script, error).unwrap_or_default() {
        log.log_test_error(&format!(
            "  File \"{}\", line {}, in {}",
            frame.file, frame.line, frame.function
        ));
        log.log_test_error(&format!("    {}", frame.source.trim()));
    }
    log.log_test_error("");
    let (class, message) = class_and_message(py, error);
    for line in format!("{class}: {message}").lines() {
        log.log_test_error(line);
    }
}

/// Logs every line of an exception with its whole traceback.
pub(crate) fn log_whole(py: Python<'_>, log: &Log, error: &PyErr) {
    let lines = || -> PyResult<String> {
        let arguments = (error.get_type(py), error.value(py), error.traceback(py));
        let lines: Vec<String> = py
            .import("traceback")?
            .call_method1("format_exception", arguments)?
            .extract()?;
        Ok(lines.concat())
    };
    for line in lines().unwrap_or_else(|_| error.to_string()).lines() {
        log.log_test_error(line);
    }
}

/// Prints an exception as Python does for any program.
pub(crate) fn print(py: Python<'_>, error: &PyErr) {
    let hook = || -> PyResult<()> {
        let arguments = (error.get_type(py), error.value(py), error.traceback(py));
        py.import("sys")?.getattr("excepthook")?.call1(arguments)?;
        Ok(())
    };
    if hook().is_err() {
        error.display(py);
    }
}

/// One line for the verdict: where in the script, and what.
pub(crate) fn summary(py: Python<'_>, script: &Path, error: &PyErr) -> String {
    let (class, message) = class_and_message(py, error);
    let first = message.lines().next().unwrap_or_default();
    let what = match class.as_str() {
        "RequestedAssertionFailed" if !first.is_empty() => first.to_owned(),
        "MachineError" if !first.is_empty() => first_and_last(&message),
        _ if first.is_empty() => class,
        _ => format!("{class}: {first}"),
    };
    match place(py, script, error) {
        Some(place) => format!("{place}: {what}"),
        None => what,
    }
}

/// What failed, and QEMU's last word on it.
fn first_and_last(message: &str) -> String {
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{}: {last}", first.trim_end_matches(['.', ':'])),
        None => first.to_owned(),
    }
}

/// The innermost line of the script itself: `ping.py, line 12`.
pub(crate) fn place(py: Python<'_>, script: &Path, error: &PyErr) -> Option<String> {
    let frames = frames(py, script, error).ok()?;
    let file = script.to_string_lossy();
    let frame = frames.iter().rev().find(|frame| frame.file == file)?;
    Some(name_line(script, frame.line))
}

/// `ping.py, line 12`.
pub(crate) fn name_line(script: &Path, line: usize) -> String {
    let name = script.file_name().unwrap_or(script.as_os_str());
    format!("{}, line {line}", name.display())
}

/// The frames of the test's own files: the script and what lies in its folder.
fn frames(py: Python<'_>, script: &Path, error: &PyErr) -> PyResult<Vec<Frame>> {
    // A script that is no file has no folder.
    let folder = script
        .parent()
        .filter(|_| script.is_absolute())
        .unwrap_or(script);
    let entries = py
        .import("traceback")?
        .call_method1("extract_tb", (error.traceback(py),))?;
    let mut frames = Vec::new();
    for entry in entries.try_iter()? {
        let entry = entry?;
        let file: String = entry.getattr("filename")?.extract()?;
        if !Path::new(&file).starts_with(folder) {
            continue;
        }
        frames.push(Frame {
            file,
            line: entry.getattr("lineno")?.extract()?,
            function: entry.getattr("name")?.extract()?,
            source: entry.getattr("line")?.extract().unwrap_or_default(),
        });
    }
    Ok(frames)
}

fn class_and_message(py: Python<'_>, error: &PyErr) -> (String, String) {
    let class = error
        .get_type(py)
        .name()
        .map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
    let message = error
        .value(py)
        .str()
        .map_or_else(|_| String::new(), |text| text.to_string());
    (class, message)
}
