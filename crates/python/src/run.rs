//! Runs a script against a testbed, and says how it ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hotbed_driver::{AtTimeout, Log, Testbed};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exceptions::{self, MachineError, RequestedAssertionFailed};
use crate::{Interpreter, Script, Signal, call, clock, debug, failure, interpreter, symbols};

/// How long the end of a test that has run out of time waits for the script to say where it was, and for Python.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How many exceptions are looked at, each of which was raised while the one before was handled.
const CONTEXTS_MAX: usize = 16;

/// What is to be run.
pub struct RunRequest<'a> {
    /// The script.
    pub script: &'a Script,
    /// Its text.
    pub text: &'a str,
    /// The machines and VLANs; nothing of them need run yet.
    pub testbed: &'a Arc<Testbed>,
    /// The program that attaches to the test at a breakpoint; `None`: there are no breakpoints.
    pub debug_hook: Option<&'a str>,
    /// Whether the names that the script finds defined are printed.
    pub lists_symbols: bool,
    /// What becomes of the machines when the test runs out of time.
    pub at_timeout: AtTimeout,
    /// Called when the test runs out of time, with the place where the script was (`ping.py, line 7`). What the script printed
    /// is written out by then, but the script may hang in Python. If the machines are gone, it must end the process; if they are
    /// kept, it is called only when the script does not end, and [`Outcome::TimedOut`] follows when somebody ends it by a signal.
    pub on_timeout: Box<dyn FnOnce(Option<String>) + Send>,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Passed,
    /// By an exception, which has been shown; the text says in one line where and what.
    Failed(String),
    /// By an exception that says that Hotbed or the host failed, not the test.
    HostFailed(String),
    /// By `sys.exit` with a status other than 0.
    Exited(i32),
    /// By a signal.
    Interrupted(Signal),
    /// By the end of the test's time; the machines are kept. The text says in one line where it was, unless that was told before.
    TimedOut(Option<String>),
}

/// Runs a script. Returns when it has ended, with its threads; the machines still run then.
///
/// The global timeout of the testbed's configuration runs meanwhile.
pub fn run(interpreter: &Interpreter, request: RunRequest<'_>) -> Outcome {
    let RunRequest {
        script,
        text,
        testbed,
        debug_hook,
        lists_symbols,
        at_timeout,
        on_timeout,
    } = request;
    let process = std::process::id();
    let (last_words, place) = mpsc::channel();
    let is_told = Arc::new(AtomicBool::new(false));
    if let Some(timeout) = testbed.config().global_timeout {
        let file = script.file().to_owned();
        let is_told = Arc::clone(&is_told);
        let expired = move || {
            if at_timeout == AtTimeout::Keep {
                call::end_all(); // Machines that run on do not end the script's calls.
            }
            let said = place.recv_timeout(LAST_WORDS).ok().flatten();
            if is_told.swap(true, Ordering::AcqRel) {
                return;
            }
            let seen = ask_python(move |py| {
                interpreter::flush_attached(py);
                place_of_main_thread(py, &file)
            });
            on_timeout(said.or(seen));
        };
        testbed.arm_timeout(timeout, at_timeout, Box::new(expired));
    }
    let result = Python::attach(|py| {
        export_environment(py, testbed)?;
        let symbols = symbols::build(py, testbed, text, debug_hook)?;
        if lists_symbols {
            symbols::list(&symbols, testbed)?;
        }
        run_attached(py, script, &symbols, testbed)
    });
    if std::process::id() != process {
        end_forked_child(result);
    }
    call::end_all();
    if testbed.timed_out() {
        let place = |error| Python::attach(|py| failure::place(py, script.file(), error));
        let place = result.as_ref().err().and_then(place);
        if at_timeout == AtTimeout::Keep {
            let told = is_told.swap(true, Ordering::AcqRel);
            drop(last_words);
            return end_with_machines(interpreter, result, place, told);
        }
        // Nobody listens when the timer has given up waiting; it ends the process either way.
        let _ = last_words.send(place);
        loop {
            std::thread::park();
        }
    }
    testbed.disarm_timeout();
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => Python::attach(|py| {
            let outcome = judge(py, testbed.log(), script, &error);
            interpreter::flush_attached(py);
            outcome
        }),
    }
}

/// The end of a script that has run out of time, and whose machines are kept. If the timer has told that already, somebody must
/// end it, unless the script did not end by itself but by a signal.
fn end_with_machines(
    interpreter: &Interpreter,
    result: PyResult<()>,
    place: Option<String>,
    is_told: bool,
) -> Outcome {
    interpreter::flush();
    if !is_told {
        return Outcome::TimedOut(Some(out_of_time(place.as_deref())));
    }
    if !result.is_err_and(|error| Python::attach(|py| comes_from_signal(py, error))) {
        let _ = call::wait_for_signal(interpreter); // Which one makes no difference.
    }
    Outcome::TimedOut(None)
}

/// Whether an exception was raised by a signal, or while the script cleaned up after one.
fn comes_from_signal(py: Python<'_>, error: PyErr) -> bool {
    let mut error = Some(error);
    for _ in 0..CONTEXTS_MAX {
        let Some(this) = error else { return false };
        if Signal::of_exception(py, &this).is_some() {
            return true;
        }
        let context = this.value(py).getattr("__context__");
        error = context
            .ok()
            .filter(|context| !context.is_none())
            .map(PyErr::from_value);
    }
    false
}

/// The verdict on a test that has used up its time.
#[must_use]
pub fn out_of_time(place: Option<&str>) -> String {
    let at = place
        .map(|place| format!(" at {place}"))
        .unwrap_or_default();
    format!("the test ran out of time{at}")
}

fn run_attached(
    py: Python<'_>,
    script: &Script,
    symbols: &Bound<'_, PyDict>,
    testbed: &Arc<Testbed>,
) -> PyResult<()> {
    let log = testbed.log();
    let start = clock::now();
    let block = log.begin(None, "run the VM test script");
    script.execute(py, symbols)?;
    // As at the end of any Python program: its threads first, then what it asked for at exit.
    py.import("threading")?.call_method0("_shutdown")?;
    call::run(py, |call| testbed.sync_all(call))?;
    call::run(py, |_| testbed.lift_bans())?;
    run_exit_functions(py)?;
    block.finish();
    log.info(&format!(
        "test script finished in {:.2}s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Sets `QEMU_VDE_SOCKET_<n>` as the NixOS driver does, for what the script starts.
fn export_environment(py: Python<'_>, testbed: &Testbed) -> PyResult<()> {
    let environment = py.import("os")?.getattr("environ")?;
    for (name, value) in testbed.environment() {
        environment.set_item(name, value)?;
    }
    Ok(())
}

fn run_exit_functions(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method0("_run_exitfuncs")?;
    interpreter::flush_attached(py);
    Ok(())
}

/// Says how a script ended that raised, and shows the exception where that helps.
fn judge(py: Python<'_>, log: &Log, script: &Script, error: &PyErr) -> Outcome {
    if let Some(signal) = Signal::of_exception(py, error) {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            failure::print(py, error); // Where the test was, as Python shows it.
        }
        exit_quietly(py);
        return Outcome::Interrupted(signal);
    }
    if error.is_instance_of::<PySystemExit>(py) {
        exit_quietly(py);
        return exit_status(py, error);
    }
    if error.is_instance_of::<RequestedAssertionFailed>(py) {
        failure::log_demand(py, log, script.file(), error);
        debug::stop_after(py, error);
    } else if error.is_instance_of::<MachineError>(py) {
        failure::log_whole(py, log, error);
    } else {
        failure::print(py, error);
        debug::stop_after(py, error);
    }
    let summary = failure::summary(py, script.file(), error);
    exit_quietly(py);
    if exceptions::says_host_failed(py, error) {
        Outcome::HostFailed(summary)
    } else {
        Outcome::Failed(summary)
    }
}

/// Runs what the script asked for at exit; what goes wrong there is shown but does not change the outcome.
fn exit_quietly(py: Python<'_>) {
    if let Err(error) = run_exit_functions(py) {
        error.display(py);
    }
}

/// What `sys.exit(value)` means: nothing or 0, a number, or a message and 1.
fn exit_status(py: Python<'_>, error: &PyErr) -> Outcome {
    let code = error.value(py).getattr("code").ok();
    let Some(code) = code.filter(|code| !code.is_none()) else {
        return Outcome::Passed;
    };
    match code.extract::<i64>() {
        Ok(0) => Outcome::Passed,
        // The system keeps the last eight bits, and so do we: what is shown is what the caller will see.
        Ok(code) => match i32::from(code.to_le_bytes()[0]) {
            0 => Outcome::Passed,
            status => Outcome::Exited(status),
        },
        Err(_) => {
            eprintln!("{code}");
            Outcome::Exited(1)
        }
    }
}

/// A process that the script forked comes to the script's end too; it must not end its parent's machines.
fn end_forked_child(result: PyResult<()>) -> ! {
    let status = Python::attach(|py| {
        let status = match result {
            Ok(()) => 0,
            Err(error) if error.is_instance_of::<PySystemExit>(py) => match exit_status(py, &error)
            {
                Outcome::Exited(status) => status,
                _ => 0,
            },
            Err(error) => {
                failure::print(py, &error);
                1
            }
        };
        exit_quietly(py);
        status
    });
    crate::sys::exit_without_cleanup(status)
}

/// Asks Python from a thread of its own, as something may hold the GIL and never let go of it.
fn ask_python<T: Send + 'static>(
    question: impl FnOnce(Python<'_>) -> Option<T> + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        // The one who asked may have given up.
        let _ = answer.send(Python::attach(question));
    });
    answered.recv_timeout(LAST_WORDS).ok().flatten()
}

/// Where the main thread of the script is now.
fn place_of_main_thread(py: Python<'_>, file: &Path) -> Option<String> {
    let find = || -> PyResult<Option<String>> {
        let main = py.import("threading")?.call_method0("main_thread")?;
        let frames = py.import("sys")?.call_method0("_current_frames")?;
        let mut frame = frames.get_item(main.getattr("ident")?)?;
        while !frame.is_none() {
            let code = frame.getattr("f_code")?;
            if code.getattr("co_filename")?.extract::<PathBuf>()? == *file {
                let line = frame.getattr("f_lineno")?.extract()?;
                return Ok(Some(failure::name_line(file, line)));
            }
            frame = frame.getattr("f_back")?;
        }
        Ok(None)
    };
    find().ok().flatten()
}
