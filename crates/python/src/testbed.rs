//! `testbed`: all machines and VLANs of the test, and the moments that it can go back to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotbed_driver::Testbed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::call;

/// Tells the checkpoints of forks apart.
static FORKS: AtomicU64 = AtomicU64::new(1);

/// All machines and VLANs of the test.
#[pyclass(frozen, module = "test_driver.testbed", name = "Testbed")]
pub(crate) struct TestbedObject {
    pub(crate) testbed: Arc<Testbed>,
}

#[pymethods]
impl TestbedObject {
    /// Saves all machines that run, and their network, at one instant.
    fn checkpoint(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        call::run(py, |call| self.testbed.checkpoint(name, call))
    }

    /// Takes all machines back to a checkpoint.
    fn rollback(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        call::run(py, |call| self.testbed.rollback(name, call))
    }

    /// Drops a checkpoint and its files; says whether there was one.
    fn forget(&self, py: Python<'_>, name: &str) -> bool {
        py.detach(|| self.testbed.forget_checkpoint(name))
    }

    /// The names of the checkpoints.
    fn checkpoints(&self) -> Vec<String> {
        self.testbed.checkpoints()
    }

    /// Runs the block of a `with` statement, and takes all machines back to where they were at its beginning.
    fn fork(&self) -> Fork {
        Fork {
            testbed: Arc::clone(&self.testbed),
            checkpoint: Mutex::new(None),
        }
    }
}

/// A part of the test after which all machines are as they were before.
#[pyclass(frozen, module = "test_driver.testbed")]
pub(crate) struct Fork {
    testbed: Arc<Testbed>,
    /// Within the block.
    checkpoint: Mutex<Option<String>>,
}

impl Fork {
    fn checkpoint(&self) -> MutexGuard<'_, Option<String>> {
        self.checkpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Fork {
    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let fork = this.get();
        let name = format!("fork {}", FORKS.fetch_add(1, Ordering::Relaxed));
        // Before it is saved, so that no other thread can be in the same block.
        {
            let mut checkpoint = fork.checkpoint();
            if checkpoint.is_some() {
                return Err(PyRuntimeError::new_err(
                    "each block needs a fork of its own: with testbed.fork(): …",
                ));
            }
            *checkpoint = Some(name.clone());
        }
        call::run(this.py(), |call| {
            fork.testbed.checkpoint_for_fork(&name, call)
        })
        .inspect_err(|_| *fork.checkpoint() = None)?;
        Ok(this)
    }

    /// Rolls back, also after an exception, which goes on; that nothing could be rolled back is then only logged.
    #[pyo3(signature = (kind, *_error))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyTuple>,
    ) -> PyResult<bool> {
        let name = self.checkpoint().take();
        let Some(name) = name else {
            return Ok(false);
        };
        let rolled_back = call::run(py, |call| self.testbed.rollback(&name, call));
        py.detach(|| self.testbed.forget_checkpoint(&name));
        match rolled_back {
            Err(error) if !kind.is_none() => {
                let line = format!("the fork was not rolled back: {error}");
                py.detach(|| self.testbed.log().warning(&line));
            }
            result => result?,
        }
        Ok(false)
    }
}
