//! Programs in a guest, as `subprocess` has them.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::super::program::{self, Options};
use super::super::{Completed, Parallel, Process};
use super::BaseMachine;
use crate::call;
use crate::duration::Timeout;

#[pymethods]
impl BaseMachine {
    /// Runs a program to its end, as `subprocess.run` does; a text is a script for bash.
    #[pyo3(
        signature = (args, *, input=None, stdin=None, stderr=None, check=false, env=None, user=None, cwd=None, timeout=Timeout::NEVER, text=true),
        text_signature = "($self, args, *, input=None, stdin=None, stderr=None, check=False, env=None, user=None, cwd=None, timeout=None, text=True)"
    )]
    #[expect(clippy::too_many_arguments, reason = "the keywords of subprocess.run")]
    fn run(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyAny>,
        input: Option<&Bound<'_, PyAny>>,
        stdin: Option<&Bound<'_, PyAny>>,
        stderr: Option<i32>,
        check: bool,
        env: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        cwd: Option<PathBuf>,
        timeout: Timeout,
        text: bool,
    ) -> PyResult<Completed> {
        if input.is_some() && stdin.is_some() {
            return Err(PyValueError::new_err(
                "stdin and input arguments may not both be used.",
            ));
        }
        let options = Options {
            env,
            user,
            cwd,
            timeout,
            stderr,
        };
        let (task, stdin) = (
            program::task(args, options)?,
            program::input(input.or(stdin))?,
        );
        let finished = self.call(py, |machine, call| {
            machine.run_task(&task, stdin.as_deref(), call)
        })?;
        program::completed(args, &self.machine, &finished, (check, text), timeout.0)
    }

    /// Starts a program that goes on by itself, as `subprocess.Popen` does; it is killed when `timeout` is over.
    #[pyo3(
        signature = (args, *, stderr=None, env=None, user=None, cwd=None, timeout=Timeout::NEVER, text=true),
        text_signature = "($self, args, *, stderr=None, env=None, user=None, cwd=None, timeout=None, text=True)"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "the keywords of subprocess.Popen"
    )]
    fn spawn(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyAny>,
        stderr: Option<i32>,
        env: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        cwd: Option<PathBuf>,
        timeout: Timeout,
        text: bool,
    ) -> PyResult<Process> {
        let options = Options {
            env,
            user,
            cwd,
            timeout,
            stderr,
        };
        let task = program::task(args, options)?;
        let process = call::run(py, |call| self.machine.spawn(&task, call))?;
        Ok(Process::new(&self.machine, process, args, timeout, text))
    }

    /// Calls methods at once in the block of a `with` statement.
    fn parallel(this: Bound<'_, Self>) -> Parallel {
        Parallel::new(this.into_any().unbind())
    }
}
