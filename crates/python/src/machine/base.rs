//! What any machine has: a name, a shell, systemd, files, waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotbed_driver::machine::Execute;
use hotbed_driver::{Call, Error, Machine, Testbed};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::program::{self, Options, path_text};
use super::{Completed, Parallel, Process, bounded};
use crate::call;
use crate::duration::{Span, Timeout};
use crate::log::{Block, Logger};

/// A machine of the test.
#[pyclass(frozen, subclass, module = "test_driver.machine")]
pub(crate) struct BaseMachine {
    pub(crate) machine: Arc<Machine>,
    pub(crate) testbed: Arc<Testbed>,
}

impl BaseMachine {
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&Machine, &Call<'_>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        call::run(py, |call| body(&self.machine, call))
    }
}

#[pymethods]
impl BaseMachine {
    /// Its name in the test.
    #[getter]
    fn name(&self) -> &str {
        self.machine.name()
    }

    /// The directory of its sockets and disks.
    #[getter]
    fn state_dir(&self) -> &Path {
        self.machine.state_dir()
    }

    /// The host's side of `/tmp/shared`.
    #[getter]
    fn shared_dir(&self) -> &Path {
        self.machine.shared_dir()
    }

    /// Where `copy_from_machine` puts files.
    #[getter]
    fn out_dir(&self) -> &Path {
        self.testbed.out_dir()
    }

    /// The directory that holds the state of all machines.
    #[getter]
    fn tmp_dir(&self) -> &Path {
        self.testbed.directory()
    }

    /// The log of the test.
    #[getter]
    fn logger(&self) -> Logger {
        Logger {
            log: Arc::clone(self.testbed.log()),
        }
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let class = this.get_type().name()?;
        Ok(format!("<{class} '{}'>", this.get().machine.name()))
    }

    /// Logs a line with the machine's name.
    fn log(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.machine.log(msg));
    }

    /// Logs a line as if the machine's console had said it.
    fn log_serial(&self, py: Python<'_>, msg: &str) {
        py.detach(|| self.testbed.log().log_serial(msg, self.machine.name()));
    }

    /// Logs a block around the body of a `with` statement.
    #[pyo3(signature = (msg, attrs=None))]
    fn nested(&self, msg: String, attrs: Option<Bound<'_, PyAny>>) -> Block {
        let _ = attrs; // For reports; the terminal does not show them.
        Block::new(
            self.testbed.log(),
            Some(self.machine.name().to_owned()),
            msg,
        )
    }

    /// Whether the machine runs and takes commands.
    fn is_up(&self) -> bool {
        self.machine.is_up()
    }

    /// Runs a command; gives its status and what it wrote.
    #[pyo3(
        signature = (command, check_return=true, check_output=true, timeout=Timeout::DEFAULT),
        text_signature = "($self, command, check_return=True, check_output=True, timeout=900)"
    )]
    fn execute(
        &self,
        py: Python<'_>,
        command: &str,
        check_return: bool,
        check_output: bool,
        timeout: Timeout,
    ) -> PyResult<(i32, String)> {
        let options = Execute {
            check_return,
            check_output,
            timeout: timeout.0,
        };
        let output = self.call(py, |machine, call| machine.execute(command, &options, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// Runs a program to its end, as `subprocess.run` does; a text is a script for bash.
    #[pyo3(
        signature = (args, *, stdin=None, check=false, env=None, user=None, cwd=None, timeout=Timeout::NEVER, text=true),
        text_signature = "($self, args, *, stdin=None, check=False, env=None, user=None, cwd=None, timeout=None, text=True)"
    )]
    #[expect(clippy::too_many_arguments, reason = "the keywords of subprocess.run")]
    fn run(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyAny>,
        stdin: Option<&Bound<'_, PyAny>>,
        check: bool,
        env: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        cwd: Option<PathBuf>,
        timeout: Timeout,
        text: bool,
    ) -> PyResult<Completed> {
        let options = Options {
            env,
            user,
            cwd,
            timeout,
        };
        let (task, stdin) = (program::task(args, options)?, program::input(stdin)?);
        let finished = self.call(py, |machine, call| {
            machine.run_task(&task, stdin.as_deref(), call)
        })?;
        program::completed(args, &self.machine, &finished, (check, text), timeout.0)
    }

    /// Starts a program that goes on by itself, as `subprocess.Popen` does.
    #[pyo3(
        signature = (args, *, env=None, user=None, cwd=None, text=true),
        text_signature = "($self, args, *, env=None, user=None, cwd=None, text=True)"
    )]
    fn spawn(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyAny>,
        env: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        cwd: Option<PathBuf>,
        text: bool,
    ) -> PyResult<Process> {
        let options = Options {
            env,
            user,
            cwd,
            timeout: Timeout::NEVER,
        };
        let task = program::task(args, options)?;
        let process = call::run(py, |call| self.machine.spawn(&task, call))?;
        Ok(Process::new(&self.machine, process, args, text))
    }

    /// Calls methods at once in the block of a `with` statement.
    fn parallel(this: Bound<'_, Self>) -> Parallel {
        Parallel::new(this.into_any().unbind())
    }

    /// Reads a text file of the guest.
    fn read_text<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyAny>> {
        self.read_bytes(py, path)?
            .call_method1("decode", ("utf-8",))
    }

    /// Reads a file of the guest.
    fn read_bytes<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
        let path = path_text(path)?;
        let bytes = self.call(py, |machine, call| machine.read(&path, call))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes a text file of the guest, with these permission bits.
    #[pyo3(signature = (path, data, mode=0o644), text_signature = "($self, path, data, mode=0o644)")]
    fn write_text(&self, py: Python<'_>, path: PathBuf, data: &str, mode: u32) -> PyResult<()> {
        self.write_bytes(py, path, data.as_bytes(), mode)
    }

    /// Writes a file of the guest, with these permission bits.
    #[pyo3(signature = (path, data, mode=0o644), text_signature = "($self, path, data, mode=0o644)")]
    fn write_bytes(&self, py: Python<'_>, path: PathBuf, data: &[u8], mode: u32) -> PyResult<()> {
        let path = path_text(path)?;
        self.call(py, |machine, call| machine.write(&path, data, mode, call))
    }

    /// Puts a file or directory of the host at exactly this path of the guest.
    fn put(&self, py: Python<'_>, source: PathBuf, target: PathBuf) -> PyResult<()> {
        let target = path_text(target)?;
        self.call(py, |machine, call| machine.put(&source, &target, call))
    }

    /// Gets a file or directory of the guest as exactly this path of the host.
    fn get(&self, py: Python<'_>, source: PathBuf, target: PathBuf) -> PyResult<()> {
        let source = path_text(source)?;
        self.call(py, |machine, call| machine.get(&source, &target, call))
    }

    /// Runs commands that must succeed; gives what they wrote.
    #[pyo3(signature = (*commands, timeout=Timeout::NEVER), text_signature = "($self, *commands, timeout=None)")]
    fn succeed(&self, py: Python<'_>, commands: Vec<String>, timeout: Timeout) -> PyResult<String> {
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        self.call(py, |machine, call| {
            machine.succeed(&commands, timeout.0, call)
        })
    }

    /// Runs commands that must fail; gives what they wrote.
    #[pyo3(signature = (*commands, timeout=Timeout::NEVER), text_signature = "($self, *commands, timeout=None)")]
    fn fail(&self, py: Python<'_>, commands: Vec<String>, timeout: Timeout) -> PyResult<String> {
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        self.call(py, |machine, call| machine.fail(&commands, timeout.0, call))
    }

    /// Repeats a command until it succeeds; gives what the last one wrote.
    #[pyo3(signature = (command, timeout=Timeout::DEFAULT), text_signature = "($self, command, timeout=900)")]
    fn wait_until_succeeds(
        &self,
        py: Python<'_>,
        command: &str,
        timeout: Timeout,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.wait_until_succeeds(command, bounded(timeout), call)
        })
    }

    /// Repeats a command until it fails; gives what the last one wrote.
    #[pyo3(signature = (command, timeout=Timeout::DEFAULT), text_signature = "($self, command, timeout=900)")]
    fn wait_until_fails(
        &self,
        py: Python<'_>,
        command: &str,
        timeout: Timeout,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.wait_until_fails(command, bounded(timeout), call)
        })
    }

    /// Sleeps in the guest.
    #[pyo3(signature = (secs=None, duration=None))]
    fn sleep(&self, py: Python<'_>, secs: Option<Span>, duration: Option<Span>) -> PyResult<()> {
        let span = match (secs, duration) {
            (Some(span), None) | (None, Some(span)) => span,
            (Some(_), Some(_)) => {
                return Err(PyTypeError::new_err(
                    "sleep() got both 'secs' and 'duration' arguments; pass only 'duration'",
                ));
            }
            (None, None) => {
                return Err(PyTypeError::new_err(
                    "sleep() missing 1 required argument: 'duration'",
                ));
            }
        };
        self.call(py, |machine, call| machine.sleep(span.0, call))
    }

    /// Runs `systemctl`; gives its status and what it wrote.
    #[pyo3(signature = (q, user=None))]
    fn systemctl(&self, py: Python<'_>, q: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.systemctl(q, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// The properties of a unit.
    #[pyo3(signature = (unit, user=None))]
    fn get_unit_info<'py>(
        &self,
        py: Python<'py>,
        unit: &str,
        user: Option<&str>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let info = self.call(py, |machine, call| machine.get_unit_info(unit, user, call))?;
        let properties = PyDict::new(py);
        for (name, value) in info {
            properties.set_item(name, value)?;
        }
        Ok(properties)
    }

    /// One property of a unit.
    #[pyo3(signature = (unit, property, user=None))]
    fn get_unit_property(
        &self,
        py: Python<'_>,
        unit: &str,
        property: &str,
        user: Option<&str>,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.get_unit_property(unit, property, user, call)
        })
    }

    /// Waits until a unit is active, or in another state; `finished` is a oneshot that has run and ended well.
    #[pyo3(
        signature = (unit, user=None, timeout=Timeout::DEFAULT, *, state="active"),
        text_signature = "($self, unit, user=None, timeout=900, *, state='active')"
    )]
    fn wait_for_unit(
        &self,
        py: Python<'_>,
        unit: &str,
        user: Option<&str>,
        timeout: Timeout,
        state: &str,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_unit_state(unit, state, user, bounded(timeout), call)
        })
    }

    /// Waits for a line of the journal in which the regular expression is found, and gives it.
    #[pyo3(
        signature = (pattern, unit=None, timeout=Timeout::DEFAULT),
        text_signature = "($self, pattern, unit=None, timeout=900)"
    )]
    fn wait_for_journal(
        &self,
        py: Python<'_>,
        pattern: &str,
        unit: Option<&str>,
        timeout: Timeout,
    ) -> PyResult<String> {
        self.call(py, |machine, call| {
            machine.wait_for_journal(pattern, unit, bounded(timeout), call)
        })
    }

    /// Waits until a program of this name runs, or none does any more.
    #[pyo3(
        signature = (name, running=true, timeout=Timeout::DEFAULT),
        text_signature = "($self, name, running=True, timeout=900)"
    )]
    fn wait_for_process(
        &self,
        py: Python<'_>,
        name: &str,
        running: bool,
        timeout: Timeout,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_process(name, running, bounded(timeout), call)
        })
    }

    /// Checks the state of a unit.
    #[pyo3(signature = (unit, require_state="active"))]
    fn require_unit_state(&self, py: Python<'_>, unit: &str, require_state: &str) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.require_unit_state(unit, require_state, call)
        })
    }

    /// Runs `systemctl start`; gives its status and what it wrote.
    #[pyo3(signature = (name, user=None))]
    fn start_job(&self, py: Python<'_>, name: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.start_job(name, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// Runs `systemctl stop`; gives its status and what it wrote.
    #[pyo3(signature = (name, user=None))]
    fn stop_job(&self, py: Python<'_>, name: &str, user: Option<&str>) -> PyResult<(i32, String)> {
        let output = self.call(py, |machine, call| machine.stop_job(name, user, call))?;
        Ok((output.status, output.text().into_owned()))
    }

    /// Waits until a file is there.
    #[pyo3(signature = (filename, timeout=Timeout::DEFAULT), text_signature = "($self, filename, timeout=900)")]
    fn wait_for_file(&self, py: Python<'_>, filename: PathBuf, timeout: Timeout) -> PyResult<()> {
        let filename = filename.to_string_lossy();
        self.call(py, |machine, call| {
            machine.wait_for_file(&filename, bounded(timeout), call)
        })
    }

    /// Waits until a TCP port takes connections.
    #[pyo3(
        signature = (port, addr="localhost", timeout=Timeout::DEFAULT),
        text_signature = "($self, port, addr='localhost', timeout=900)"
    )]
    fn wait_for_open_port(
        &self,
        py: Python<'_>,
        port: u16,
        addr: &str,
        timeout: Timeout,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_open_port(port, addr, bounded(timeout), call)
        })
    }

    /// Waits until a TCP port takes no connections.
    #[pyo3(
        signature = (port, addr="localhost", timeout=Timeout::DEFAULT),
        text_signature = "($self, port, addr='localhost', timeout=900)"
    )]
    fn wait_for_closed_port(
        &self,
        py: Python<'_>,
        port: u16,
        addr: &str,
        timeout: Timeout,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_closed_port(port, addr, bounded(timeout), call)
        })
    }

    /// Waits until something listens on a UNIX-domain socket.
    #[pyo3(
        signature = (addr, is_datagram=false, timeout=Timeout::DEFAULT),
        text_signature = "($self, addr, is_datagram=False, timeout=900)"
    )]
    fn wait_for_open_unix_socket(
        &self,
        py: Python<'_>,
        addr: &str,
        is_datagram: bool,
        timeout: Timeout,
    ) -> PyResult<()> {
        self.call(py, |machine, call| {
            machine.wait_for_open_unix_socket(addr, is_datagram, bounded(timeout), call)
        })
    }

    /// Copies a file or directory of the guest into the output directory.
    #[pyo3(signature = (source, target_dir=PathBuf::new()), text_signature = "($self, source, target_dir='')")]
    fn copy_from_machine(
        &self,
        py: Python<'_>,
        source: PathBuf,
        target_dir: PathBuf,
    ) -> PyResult<()> {
        let (source, target_dir) = (source.to_string_lossy(), target_dir.to_string_lossy());
        self.call(py, |machine, call| {
            machine.copy_from_machine(&source, &target_dir, call)
        })
    }

    /// `copy_from_machine` by its older name.
    #[pyo3(signature = (source, target_dir=PathBuf::new()), text_signature = "($self, source, target_dir='')")]
    fn copy_from_vm(&self, py: Python<'_>, source: PathBuf, target_dir: PathBuf) -> PyResult<()> {
        self.copy_from_machine(py, source, target_dir)
    }

    /// Copies a file or directory of the host into the guest.
    fn copy_from_host(&self, py: Python<'_>, source: PathBuf, target: PathBuf) -> PyResult<()> {
        let target = target.to_string_lossy();
        self.call(py, |machine, call| {
            machine.copy_from_host(&source, &target, call)
        })
    }

    /// Copies a file of the host into the guest through its shell.
    fn copy_from_host_via_shell(
        &self,
        py: Python<'_>,
        source: PathBuf,
        target: PathBuf,
    ) -> PyResult<()> {
        let target = target.to_string_lossy();
        self.call(py, |machine, call| {
            machine.copy_from_host_via_shell(&source, &target, call)
        })
    }
}
