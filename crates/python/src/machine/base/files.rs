//! Files in a guest.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::program::path_text;
use super::BaseMachine;

#[pymethods]
impl BaseMachine {
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
