//! The guest's terminals, and what else a test asks of QEMU now and then.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use hotbed_driver::terminal::Near;
use hotbed_driver::{Call, Error, Machine};
use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;

use super::super::{bounded, search};
use super::QemuMachine;
use crate::call;
use crate::duration::Timeout;

/// A virtual terminal: `1` or `"1"`.
#[derive(FromPyObject)]
enum Tty {
    Number(u8),
    Name(String),
}

impl Tty {
    fn name(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name,
        }
    }
}

impl QemuMachine {
    /// Runs `body` with this process's own terminal.
    fn with_terminal(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&Arc<Machine>, &Near<'_>, &Call<'_>) -> Result<(), Error> + Send,
    ) -> PyResult<()> {
        let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        py.import("sys")?.getattr("stdout")?.call_method0("flush")?;
        call::run(py, |call| {
            let near = Near {
                input: input.as_fd(),
                output: output.as_fd(),
                errors: errors.as_fd(),
            };
            body(&self.machine, &near, call)
        })
    }
}

#[pymethods]
impl QemuMachine {
    /// The socket of QEMU's human monitor.
    #[getter]
    fn monitor_path(&self) -> PathBuf {
        self.machine.state_dir().join("monitor")
    }

    /// The socket of QEMU's machine protocol.
    #[getter]
    fn qmp_path(&self) -> PathBuf {
        self.machine.state_dir().join("qmp")
    }

    /// The socket of the guest's shell.
    #[getter]
    fn shell_path(&self) -> PathBuf {
        self.machine.state_dir().join("shell")
    }

    /// The EFI variables that a start script is told of.
    #[getter]
    fn efi_vars_path(&self) -> PathBuf {
        self.machine.efi_vars_path()
    }

    /// The lines that the guest's console has said since the machine's last start.
    #[getter]
    fn full_console_log(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let text = self.run(py, |machine, _| machine.get_console_log())?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Brings the terminal, or what is on standard input, together with a root shell in the guest.
    #[pyo3(signature = (address=None))]
    fn shell_interact(&self, py: Python<'_>, address: Option<&str>) -> PyResult<()> {
        if let Some(address) = address {
            return Err(PyNotImplementedError::new_err(format!(
                "shell_interact has no use for the address {address:?}: `hotbed shell FILE.py {}` opens a shell from any terminal",
                self.machine.name()
            )));
        }
        self.with_terminal(py, |machine, near, call| {
            machine.interact(near, call).map(drop)
        })
    }

    /// Writes what is on standard input to the guest's console.
    fn console_interact(&self, py: Python<'_>) -> PyResult<()> {
        self.with_terminal(py, |machine, near, call| {
            machine.interact_with_console(near, call)
        })
    }

    /// What a virtual terminal shows.
    fn get_tty_text(&self, py: Python<'_>, tty: Tty) -> PyResult<String> {
        let tty = tty.name();
        self.run(py, |machine, call| machine.get_tty_text(&tty, call))
    }

    /// Waits until a virtual terminal shows what the regular expression matches.
    #[pyo3(
        signature = (tty, regexp, timeout=Timeout::DEFAULT),
        text_signature = "($self, tty, regexp, timeout=900)"
    )]
    fn wait_until_tty_matches(
        &self,
        py: Python<'_>,
        tty: Tty,
        regexp: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<()> {
        let tty = tty.name();
        let (text, mut search) = search::compile(regexp)?;
        self.run(py, move |machine, call| {
            machine.wait_until_tty_matches(&tty, &text, &mut search, bounded(timeout), call)
        })
    }

    /// Writes what a virtual terminal shows to the guest's journal.
    fn dump_tty_contents(&self, py: Python<'_>, tty: Tty) -> PyResult<()> {
        let tty = tty.name();
        self.run(py, |machine, call| machine.dump_tty_contents(&tty, call))
    }

    /// Lets connections to a port of the host reach one of the guest.
    #[pyo3(signature = (host_port=8080, guest_port=80))]
    fn forward_port(&self, py: Python<'_>, host_port: u16, guest_port: u16) -> PyResult<()> {
        self.run(py, |machine, call| {
            machine.forward_port(host_port, guest_port, call)
        })
    }

    /// Goes on from a systemd initrd that waits at `initrd.target` to the real root.
    fn switch_root(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, Machine::switch_root)
    }
}
