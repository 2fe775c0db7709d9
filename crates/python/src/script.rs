//! A test file: compiled before anything boots, run as `__main__`.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::{Error, Interpreter};

/// A test file that Python could compile.
#[derive(Debug)]
pub struct Script {
    file: PathBuf,
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
        Python::attach(|py| {
            let code =
                compile(py, &file, text).map_err(|error| Error::Syntax(describe(py, &error)))?;
            Ok(Self {
                file,
                code: code.unbind(),
            })
        })
    }

    /// The absolute path: `__file__`, and the file that tracebacks name.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Runs the script in `__main__`, with `symbols` among its globals.
    pub(crate) fn execute(&self, py: Python<'_>, symbols: &Bound<'_, PyDict>) -> PyResult<()> {
        self.extend_path(py)?;
        let globals = py.import("__main__")?.dict();
        let loader = py
            .import("importlib.machinery")?
            .call_method1("SourceFileLoader", ("__main__", self.file.as_os_str()))?;
        globals.set_item("__file__", self.file.as_os_str())?;
        globals.set_item("__cached__", py.None())?;
        globals.set_item("__loader__", loader)?;
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
