//! Programs in a guest that go on by themselves, in the manner of `subprocess.Popen`.

use std::sync::Arc;
use std::time::Duration;

use hotbed_driver::machine::program::{OutputStream, Process as GuestProcess};
use hotbed_driver::{Call, Error, Machine};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::program::{input, output};
use crate::call;
use crate::duration::Timeout;

/// SIGTERM.
const TERMINATE: i32 = 15;

/// A program that goes on by itself. When nothing refers to it any more it is killed, with all that it has started.
#[pyclass(frozen, module = "test_driver.machine")]
pub(crate) struct Process {
    shared: Arc<Shared>,
    args: Py<PyAny>,
    /// When it is killed.
    timeout: Timeout,
}

/// What the handle and its streams share.
struct Shared {
    process: GuestProcess,
    machine: Arc<Machine>,
    text: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Ok(None) = self.process.poll(&Call::unlimited()) {
            self.machine.log(&format!(
                "{} (pid {}) is killed: nothing refers to it any more",
                self.process.shown(),
                self.process.pid()
            ));
        }
    }
}

impl Process {
    pub(crate) fn new(
        machine: &Arc<Machine>,
        process: GuestProcess,
        args: &Bound<'_, PyAny>,
        timeout: Timeout,
        text: bool,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                process,
                machine: Arc::clone(machine),
                text,
            }),
            args: args.clone().unbind(),
            timeout,
        }
    }

    fn expired(&self, py: Python<'_>, timeout: Timeout) -> PyErr {
        let expired = || -> PyResult<PyErr> {
            let class = py.import("subprocess")?.getattr("TimeoutExpired")?;
            let seconds = timeout.0.unwrap_or(Duration::ZERO).as_secs_f64();
            Ok(PyErr::from_value(class.call1((&self.args, seconds))?))
        };
        expired().unwrap_or_else(|error| error)
    }

    /// Raises when it was killed because its own time was over.
    fn check_time(&self, py: Python<'_>) -> PyResult<()> {
        match self.run(py, GuestProcess::has_timed_out)? {
            true => Err(self.expired(py, self.timeout)),
            false => Ok(()),
        }
    }

    fn run<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&GuestProcess, &Call<'_>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        call::run(py, |call| body(&self.shared.process, call))
    }

    fn output(&self, stream: OutputStream) -> Output {
        Output {
            shared: Arc::clone(&self.shared),
            stream,
        }
    }
}

#[pymethods]
impl Process {
    /// What was started.
    #[getter]
    fn args(&self, py: Python<'_>) -> Py<PyAny> {
        self.args.clone_ref(py)
    }

    /// Its process number in the guest.
    #[getter]
    fn pid(&self) -> u32 {
        self.shared.process.pid()
    }

    /// Its status; `None` while it runs. Below zero: the signal that ended it.
    #[getter]
    fn returncode(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        self.poll(py)
    }

    /// Its input.
    #[getter]
    fn stdin(&self) -> Input {
        Input {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What it writes to its standard output.
    #[getter]
    fn stdout(&self) -> Output {
        self.output(OutputStream::Stdout)
    }

    /// What it writes to its standard error.
    #[getter]
    fn stderr(&self) -> Output {
        self.output(OutputStream::Stderr)
    }

    /// Its status, if it has ended.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        self.run(py, GuestProcess::poll)
    }

    /// Waits for its end and gives its status; raises `subprocess.TimeoutExpired`, also when its own timeout has ended it.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<i32> {
        let status = self.run(py, |process, call| process.wait(timeout.0, call))?;
        let status = status.ok_or_else(|| self.expired(py, timeout))?;
        self.check_time(py)?;
        Ok(status)
    }

    /// Gives it all of its input, waits for its end, and gives its output and its errors; raises as `wait` does.
    #[pyo3(
        signature = (input=None, timeout=Timeout::NEVER),
        text_signature = "($self, input=None, timeout=None)"
    )]
    fn communicate<'py>(
        &self,
        py: Python<'py>,
        input: Option<&Bound<'py, PyAny>>,
        timeout: Timeout,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let bytes = self::input(input)?.unwrap_or_default();
        let said = self.run(py, |process, call| {
            process.communicate(&bytes, timeout.0, call)
        })?;
        let (stdout, stderr) = said.ok_or_else(|| self.expired(py, timeout))?;
        let text = self.shared.text;
        let (stdout, stderr) = (output(py, &stdout, text), output(py, &stderr, text));
        match self.check_time(py) {
            Ok(()) => Ok((stdout, stderr)),
            Err(error) => {
                error.value(py).setattr("output", stdout)?;
                error.value(py).setattr("stderr", stderr)?;
                Err(error)
            }
        }
    }

    /// Sends it a signal.
    fn send_signal(&self, signal: i32) {
        self.shared.process.signal(signal, false);
    }

    /// Asks it to end (SIGTERM).
    fn terminate(&self) {
        self.shared.process.signal(TERMINATE, false);
    }

    /// Kills it, with all that it has started.
    fn kill(&self) {
        self.shared.process.kill();
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    /// Kills it if it still runs, and waits for its end.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        if self.poll(py)?.is_none() {
            self.shared.process.kill();
            self.run(py, |process, call| process.wait(None, call))?;
        }
        Ok(false)
    }

    fn __repr__(&self) -> String {
        let process = &self.shared.process;
        format!("<Process {} `{}`>", process.pid(), process.shown())
    }
}

/// The input of a [`Process`].
#[pyclass(frozen, module = "test_driver.machine")]
pub(crate) struct Input {
    shared: Arc<Shared>,
}

#[pymethods]
impl Input {
    /// Writes text or bytes; waits until the guest has taken them.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = input(Some(data))?.unwrap_or_default();
        call::run(py, |call| self.shared.process.write(&bytes, call))
    }

    /// Says that there is no more.
    fn close(&self) {
        self.shared.process.close_stdin();
    }
}

/// A stream of what a [`Process`] writes: its lines are iterated over as they come.
#[pyclass(frozen, module = "test_driver.machine")]
pub(crate) struct Output {
    shared: Arc<Shared>,
    stream: OutputStream,
}

#[pymethods]
impl Output {
    /// Waits for the program's end, and gives all that was not read yet.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = call::run(py, |call| {
            self.shared.process.read_to_end(self.stream, call)
        })?;
        Ok(output(py, &bytes, self.shared.text))
    }

    /// Waits for the next line, and gives it with its line break; nothing at the end.
    fn readline<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let line = call::run(py, |call| self.shared.process.read_line(self.stream, call))?;
        Ok(output(py, &line.unwrap_or_default(), self.shared.text))
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let line = call::run(py, |call| self.shared.process.read_line(self.stream, call))?;
        Ok(line.map(|line| output(py, &line, self.shared.text)))
    }
}
