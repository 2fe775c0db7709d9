//! Waiting for something in a guest.

use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::super::bounded;
use super::BaseMachine;
use crate::duration::{Span, Timeout};

#[pymethods]
impl BaseMachine {
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
}
