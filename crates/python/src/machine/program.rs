//! Programs in a guest, in the manner of `subprocess`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hotbed_driver::Machine;
use hotbed_driver::machine::program::{Finished, Program, Task};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString, PyType};

use crate::duration::Timeout;

/// What `run` gives: as `subprocess.CompletedProcess`, and how long it took.
#[pyclass(frozen, get_all, module = "test_driver.machine")]
pub(crate) struct Completed {
    args: Py<PyAny>,
    returncode: i32,
    stdout: Py<PyAny>,
    stderr: Py<PyAny>,
    /// Seconds.
    duration: f64,
}

#[pymethods]
impl Completed {
    /// Raises `subprocess.CalledProcessError` if the status is not 0.
    fn check_returncode(&self, py: Python<'_>) -> PyResult<()> {
        if self.returncode == 0 {
            return Ok(());
        }
        let class = py.import("subprocess")?.getattr("CalledProcessError")?;
        let arguments = (self.returncode, &self.args, &self.stdout, &self.stderr);
        Err(PyErr::from_value(class.call1(arguments)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "Completed(args={}, returncode={}, stdout={}, stderr={}, duration={:.3})",
            self.args.bind(py).repr()?,
            self.returncode,
            self.stdout.bind(py).repr()?,
            self.stderr.bind(py).repr()?,
            self.duration,
        ))
    }

    /// For annotations: `Completed[str]`.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        _item: &Bound<'py, PyAny>,
    ) -> Bound<'py, PyType> {
        class.clone()
    }
}

/// The keyword arguments that programs have in common.
pub(crate) struct Options<'a, 'py> {
    pub(crate) env: Option<&'a Bound<'py, PyAny>>,
    pub(crate) user: Option<&'a Bound<'py, PyAny>>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) timeout: Timeout,
    pub(crate) stderr: Option<i32>,
}

/// `subprocess.PIPE` and `subprocess.STDOUT`.
const PIPE: i32 = -1;
const STDOUT: i32 = -2;

/// The driver's task for a script's arguments: a text is a script for bash, a list a program with its arguments.
pub(crate) fn task(args: &Bound<'_, PyAny>, options: Options<'_, '_>) -> PyResult<Task> {
    let program = match args.cast::<PyString>() {
        Ok(script) => Program::Script(script.extract()?),
        Err(_) if args.cast::<PyBytes>().is_ok() => {
            return Err(PyTypeError::new_err(
                "a program is a list of arguments, or a str with a script for bash, not bytes",
            ));
        }
        Err(_) => {
            let words = args.try_iter()?.map(|word| text_of(&word?));
            Program::Arguments(words.collect::<PyResult<_>>()?)
        }
    };
    let mut task = Task::new(program);
    if let Some(env) = options.env {
        for item in env.call_method0("items")?.try_iter()? {
            task.environment.push(item?.extract()?);
        }
    }
    task.user = options
        .user
        .map(|user| match user.extract::<u32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => user.extract(),
        })
        .transpose()?;
    task.directory = options.cwd.map(path_text).transpose()?;
    task.timeout = options.timeout.0;
    task.merges_stderr = match options.stderr {
        None | Some(PIPE) => false,
        Some(STDOUT) => true,
        Some(_) => {
            return Err(PyValueError::new_err(
                "stderr is None, subprocess.PIPE (both: apart) or subprocess.STDOUT (with the output)",
            ));
        }
    };
    Ok(task)
}

/// A `str` or a path.
fn text_of(word: &Bound<'_, PyAny>) -> PyResult<String> {
    match word.cast::<PyString>() {
        Ok(text) => text.extract(),
        Err(_) => path_text(word.extract()?),
    }
}

/// A path in a guest.
pub(crate) fn path_text(path: PathBuf) -> PyResult<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| PyValueError::new_err(format!("{} is no UTF-8", path.display())))
}

/// What a script gives as input: text, bytes, or a file of the host that is read to its end.
pub(crate) fn input(data: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<u8>>> {
    let Some(data) = data else { return Ok(None) };
    if data.hasattr("read")? {
        return input(Some(&data.call_method0("read")?));
    }
    if let Ok(text) = data.cast::<PyString>() {
        return Ok(Some(text.to_str()?.as_bytes().to_vec()));
    }
    // A list of numbers would do for Rust's vector; it is a mistake.
    let wrong = |_| PyTypeError::new_err("input is a str, bytes or an open file");
    let bytes: PyBackedBytes = data.extract().map_err(wrong)?;
    Ok(Some(bytes.to_vec()))
}

/// What a program wrote, as a `str`, in which what is not UTF-8 is U+FFFD, or as `bytes`.
pub(crate) fn output<'py>(py: Python<'py>, bytes: &[u8], text: bool) -> Bound<'py, PyAny> {
    match text {
        true => PyString::new(py, &String::from_utf8_lossy(bytes)).into_any(),
        false => PyBytes::new(py, bytes).into_any(),
    }
}

/// What became of a program that `run` ran; raises as `subprocess.run` does.
pub(crate) fn completed(
    args: &Bound<'_, PyAny>,
    machine: &Arc<Machine>,
    finished: &Finished,
    (check, text): (bool, bool),
    timeout: Option<Duration>,
) -> PyResult<Completed> {
    let py = args.py();
    let stdout = output(py, &finished.stdout, text);
    let stderr = output(py, &finished.stderr, text);
    if let Some(timeout) = timeout.filter(|_| finished.timed_out) {
        let class = py.import("subprocess")?.getattr("TimeoutExpired")?;
        let arguments = (args, timeout.as_secs_f64(), stdout, stderr);
        return Err(PyErr::from_value(class.call1(arguments)?));
    }
    let completed = Completed {
        args: args.clone().unbind(),
        returncode: finished.status,
        stdout: stdout.unbind(),
        stderr: stderr.unbind(),
        duration: finished.duration.as_secs_f64(),
    };
    if check && finished.status != 0 {
        // The exception does not show them.
        for (name, bytes) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            let shown = String::from_utf8_lossy(bytes);
            if !shown.trim().is_empty() {
                py.detach(|| machine.log(&format!("{name}: {shown}")));
            }
        }
        completed.check_returncode(py)?;
    }
    Ok(completed)
}
