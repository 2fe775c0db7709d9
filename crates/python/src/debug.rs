//! `debug`: breakpoints at which somebody can attach to a test that runs in a build's sandbox.

use std::sync::Arc;

use hotbed_driver::Log;
use pyo3::prelude::*;

/// The numbers that the attaching program finds the sandbox by.
const NUMBERS: (u32, u32) = (999_999, 9_999_999);
/// Where the debugger listens when the script does not say.
const HOST: &str = "127.0.0.1";
/// Its port.
const PORT: u16 = 4444;

/// Breakpoints.
#[pyclass(frozen, subclass, module = "test_driver.debug")]
pub(crate) struct DebugAbstract;

#[pymethods]
impl DebugAbstract {
    /// Stops the test, if breakpoints are enabled.
    #[pyo3(signature = (host=HOST, port=PORT), text_signature = "($self, host='127.0.0.1', port=4444)")]
    fn breakpoint(&self, host: &str, port: u16) {
        let _ = (host, port);
    }
}

/// Breakpoints that are not enabled.
#[pyclass(frozen, extends = DebugAbstract, module = "test_driver.debug")]
pub(crate) struct DebugNop;

/// Breakpoints that are enabled: the script waits in a debugger that listens on a port.
#[pyclass(frozen, extends = DebugAbstract, module = "test_driver.debug")]
pub(crate) struct Debug {
    log: Arc<Log>,
    /// The program that attaches to the sandbox.
    attach: String,
}

#[pymethods]
impl Debug {
    /// Stops the test where it is called.
    #[pyo3(signature = (host=HOST, port=PORT), text_signature = "($self, host='127.0.0.1', port=4444)")]
    fn breakpoint(&self, py: Python<'_>, host: &str, port: u16) -> PyResult<()> {
        let frame = py.import("sys")?.call_method0("_getframe")?;
        self.stop_at(&frame, host, port)
    }
}

impl Debug {
    /// Says how to attach, and gives the script's frame to the debugger.
    fn stop_at(&self, frame: &Bound<'_, PyAny>, host: &str, port: u16) -> PyResult<()> {
        let py = frame.py();
        let debugger = py.import("remote_pdb")?;
        let number: u32 = py
            .import("random")?
            .call_method1("randrange", NUMBERS)?
            .extract()?;
        let line = format!("Breakpoint reached, run 'sudo {} {number}'", self.attach);
        py.detach(|| self.log.log_test_error(&line));
        let bash = py.import("shutil")?.call_method1("which", ("bash",))?;
        if !bash.is_none() {
            let environment = py.import("os")?.getattr("environ")?;
            environment.set_item("bashInteractive", bash)?;
        }
        // The attaching program finds the sandbox by this process.
        let arguments = (vec!["sleep".to_owned(), number.to_string()],);
        let mark = py.import("subprocess")?.call_method1("Popen", arguments)?;
        let stopped = debugger
            .call_method1("RemotePdb", (host, port))
            .and_then(|pdb| pdb.call_method1("set_trace", (frame,)));
        mark.call_method0("kill")?;
        mark.call_method0("wait")?;
        stopped.map(|_| ())
    }
}

/// `debug` of a script; `attach` enables breakpoints.
pub(crate) fn make<'py>(
    py: Python<'py>,
    log: &Arc<Log>,
    attach: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let base = PyClassInitializer::from(DebugAbstract);
    Ok(match attach {
        None => Bound::new(py, base.add_subclass(DebugNop))?.into_any(),
        Some(attach) => {
            let debug = Debug {
                log: Arc::clone(log),
                attach: attach.to_owned(),
            };
            Bound::new(py, base.add_subclass(debug))?.into_any()
        }
    })
}

/// Stops where an exception was raised, if breakpoints are enabled; what goes wrong with that is only shown.
pub(crate) fn stop_after(py: Python<'_>, error: &PyErr) {
    let stop = || -> PyResult<()> {
        let debug = py.import("test_driver.script")?.getattr("debug")?;
        let Ok(debug) = debug.cast::<Debug>() else {
            return Ok(());
        };
        let Some(mut traceback) = error.traceback(py).map(Bound::into_any) else {
            return Ok(());
        };
        loop {
            let next = traceback.getattr("tb_next")?;
            if next.is_none() {
                break;
            }
            traceback = next;
        }
        debug
            .get()
            .stop_at(&traceback.getattr("tb_frame")?, HOST, PORT)
    };
    if let Err(error) = stop() {
        error.display(py);
    }
}
