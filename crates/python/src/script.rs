//! A test's script: compiled before anything boots, run as `__main__`.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::{Error, Interpreter};

/// A script that Python could compile.
#[derive(Debug)]
pub struct Script {
    /// What tracebacks call it.
    file: PathBuf,
    /// Whether that is where it is.
    is_file: bool,
    code: Py<PyAny>,
}

impl Script {
    /// Compiles the text of a test file. Nothing of it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Syntax`] with Python's own words: file, line, the place in the line, what is wrong.
    pub fn compile(_interpreter: &Interpreter, path: &Path, text: &[u8]) -> Result<Self, Error> {
        // As `python3 FILE` does: absolute, symbolic links kept.
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::compile_as(file, true, text)
    }

    /// Compiles what is left of a test file that begins at a checkpoint: the statements after the one that takes it, and before those
    /// only imports, definitions, and assignments that call nothing. Gives it with a line that says what is skipped.
    ///
    /// # Errors
    ///
    /// As [`Script::compile`]; [`Error::Checkpoint`] when the script cannot begin there.
    pub fn compile_from(
        interpreter: &Interpreter,
        path: &Path,
        text: &[u8],
        checkpoint: &str,
    ) -> Result<(Self, String), Error> {
        let whole = Self::compile(interpreter, path, text)?;
        Python::attach(|py| {
            let (code, note) = rest_of(py, &whole.file, text, checkpoint)
                .map_err(|error| Error::Checkpoint(error.value(py).to_string()))?;
            let code = code.unbind();
            Ok((Self { code, ..whole }, note))
        })
    }

    /// Compiles a script that is `name` in tracebacks and no file: it has no `__file__`, and finds no modules beside itself.
    ///
    /// # Errors
    ///
    /// As [`Script::compile`].
    pub fn compile_text(
        _interpreter: &Interpreter,
        name: &str,
        text: &[u8],
    ) -> Result<Self, Error> {
        // Without them, tracebacks have no lines of the script, and are as true.
        let _ = Python::attach(|py| remember_lines(py, name, text));
        Self::compile_as(name.into(), false, text)
    }

    fn compile_as(file: PathBuf, is_file: bool, text: &[u8]) -> Result<Self, Error> {
        Python::attach(|py| {
            let code =
                compile(py, &file, text).map_err(|error| Error::Syntax(describe(py, &error)))?;
            Ok(Self {
                file,
                is_file,
                code: code.unbind(),
            })
        })
    }

    /// The file that tracebacks name: `__file__`, an absolute path, or what [`Script::compile_text`] was told.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Runs the script in `__main__`, with `symbols` among its globals.
    pub(crate) fn execute(&self, py: Python<'_>, symbols: &Bound<'_, PyDict>) -> PyResult<()> {
        let globals = py.import("__main__")?.dict();
        if self.is_file {
            self.extend_path(py)?;
            let loader = py
                .import("importlib.machinery")?
                .call_method1("SourceFileLoader", ("__main__", self.file.as_os_str()))?;
            globals.set_item("__file__", self.file.as_os_str())?;
            globals.set_item("__cached__", py.None())?;
            globals.set_item("__loader__", loader)?;
        }
        globals.update(symbols.as_mapping())?;
        let exec = py.import("builtins")?.getattr("exec")?;
        exec.call1((&self.code, globals))?;
        Ok(())
    }

    /// Puts the file's folder in front of `sys.path`, unless the user asked for a safe path.
    fn extend_path(&self, py: Python<'_>) -> PyResult<()> {
        let sys = py.import("sys")?;
        let flags = sys.getattr("flags")?;
        let safe = flags.getattr_opt("safe_path")?; // Python 3.11 has it first.
        if safe.map_or(Ok(false), |flag| flag.is_truthy())? {
            return Ok(());
        }
        let real = self
            .file
            .canonicalize()
            .unwrap_or_else(|_| self.file.clone());
        let folder = real.parent().unwrap_or(Path::new("/"));
        sys.getattr("path")?
            .call_method1("insert", (0, folder.as_os_str()))?;
        Ok(())
    }
}

fn compile<'py>(py: Python<'py>, file: &Path, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(py);
    options.set_item("dont_inherit", true)?;
    let source = PyBytes::new(py, text); // Bytes: a line `# coding: …` counts.
    let arguments = (source, file.as_os_str(), "exec");
    py.import("builtins")?
        .getattr("compile")?
        .call(arguments, Some(&options))
}

/// The code of a script from a checkpoint on, and what to say about the rest.
fn rest_of<'py>(
    py: Python<'py>,
    file: &Path,
    text: &[u8],
    checkpoint: &str,
) -> PyResult<(Bound<'py, PyAny>, String)> {
    let names = PyDict::new(py);
    py.run(
        pyo3::ffi::c_str!(include_str!("resume.py")),
        Some(&names),
        None,
    )?;
    let resume = names.as_any().get_item("resume")?;
    let arguments = (PyBytes::new(py, text), file.as_os_str(), checkpoint);
    resume.call1(arguments)?.extract()
}

/// Lets tracebacks show the lines of a script that is no file.
fn remember_lines(py: Python<'_>, name: &str, text: &[u8]) -> PyResult<()> {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let entry = (text.len(), py.None(), lines, name);
    py.import("linecache")?
        .getattr("cache")?
        .set_item(name, entry)
}

/// The lines that Python prints for an exception without a traceback.
fn describe(py: Python<'_>, error: &PyErr) -> String {
    let lines = || -> PyResult<Vec<String>> {
        py.import("traceback")?
            .call_method1(
                "format_exception_only",
                (error.get_type(py), error.value(py)),
            )?
            .extract()
    };
    lines().map_or_else(
        |_| error.to_string(),
        |lines| lines.concat().trim_end().to_owned(),
    )
}
