//! Calls from a script into the driver: without the GIL, ended by signals and by the end of the test.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hotbed_driver::{Call, Error, Interrupt};
use pyo3::prelude::*;

use crate::{Interpreter, Signal, clock, exceptions};

/// How long a pause goes on before it asks for signals.
const SLICE: Duration = Duration::from_millis(50);

/// Whether the script is over, so that what its threads still wait for is of no use.
static SCRIPT_ENDED: AtomicBool = AtomicBool::new(false);

/// Ends the calls that threads of the script are in; each raises in its thread.
pub(crate) fn end_all() {
    SCRIPT_ENDED.store(true, Ordering::SeqCst);
}

/// Runs `body` without the GIL. A signal whose handler raises, such as Ctrl-C, ends the call with that exception.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    body: impl FnOnce(&Call<'_>) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let signals = Signals::default();
    let result = py.detach(|| {
        body(&Call {
            until: None,
            interrupt: &signals,
        })
    });
    result.map_err(|error| {
        let raised = signals.take();
        raised.unwrap_or_else(|| exceptions::to_python(py, error))
    })
}

/// Ends calls when a signal comes in that asks the process to end. Python runs its handlers on its main thread only, so
/// that is where the call must be made.
#[derive(Debug, Default)]
pub struct Signals {
    /// What the handler raised; it must reach the script, so it is kept until the call has ended.
    raised: Mutex<Option<PyErr>>,
}

impl Signals {
    /// The signal that has come in, if one has.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        let error = self.take()?;
        Some(Python::attach(|py| {
            Signal::of_exception(py, &error).unwrap_or(Signal::INTERRUPT)
        }))
    }

    /// What a handler has raised.
    pub(crate) fn take(&self) -> Option<PyErr> {
        self.raised
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}

impl Interrupt for Signals {
    fn is_interrupted(&self) -> bool {
        if SCRIPT_ENDED.load(Ordering::SeqCst) {
            return true;
        }
        // Taken and given back before the lock: no thread waits for one while it holds the other.
        let Err(error) = Python::attach(|py| py.check_signals()) else {
            return false;
        };
        self.raised
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get_or_insert(error);
        true
    }
}

/// Waits for a signal that asks the process to end. The script must be over, and this the thread that started Python.
#[must_use]
pub fn wait_for_signal(_interpreter: &Interpreter) -> Signal {
    loop {
        let raised = Python::attach(|py| {
            let error = py.check_signals().err()?;
            Some(Signal::of_exception(py, &error).unwrap_or(Signal::INTERRUPT))
        });
        if let Some(signal) = raised {
            return signal;
        }
        thread::park_timeout(SLICE);
    }
}

/// Lets `length` pass without the GIL; a signal ends it as it ends a call.
pub(crate) fn pause(py: Python<'_>, length: Duration) -> PyResult<()> {
    let end = clock::now() + length;
    run(py, |call| {
        loop {
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            if call.interrupt.is_interrupted() {
                return Err(Error::Interrupted);
            }
            thread::park_timeout(left.min(SLICE));
        }
    })
}
