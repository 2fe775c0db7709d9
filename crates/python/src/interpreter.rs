//! The one interpreter of this process: started, asked for signals, flushed.

use std::ffi::{CString, OsStr, OsString};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::{Error, modules, signals, sys};

/// The interpreter that this was linked with, as the build saw it.
const EXECUTABLE: &str = env!("HOTBED_PYTHON_EXECUTABLE");
/// Its version: `3.11`.
const VERSION: &str = env!("HOTBED_PYTHON_VERSION");

static STARTED: AtomicBool = AtomicBool::new(false);

/// CPython, running in this process. It stays on the thread that started it: Python handles signals there.
#[derive(Debug)]
pub struct Interpreter {
    /// Keeps the value on its thread.
    not_send: PhantomData<*const ()>,
}

impl Interpreter {
    /// Starts CPython with `argv` as `sys.argv`: the test file, then its arguments.
    ///
    /// Environment variables (`PYTHONPATH`, `PYTHONUTF8`, …) and the user's site-packages count as they do for a plain
    /// `python3`. An active virtual environment (`VIRTUAL_ENV`) counts when it is of the Python that this was linked
    /// with. From here on SIGINT raises `KeyboardInterrupt`, and SIGTERM and SIGHUP raise `SystemExit`, in the script or
    /// in a call that asks [`Signals`](crate::Signals); signals that are ignored when this is called stay ignored.
    ///
    /// # Errors
    ///
    /// When this process has started Python before, or Python does not start (no standard library, bad `PYTHONHOME`).
    pub fn start(argv: &[OsString]) -> Result<Self, Error> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::StartedTwice);
        }
        let environment = VirtualEnvironment::active();
        let executable = environment.as_ref().map_or_else(
            || PathBuf::from(EXECUTABLE),
            |found| found.executable.clone(),
        );
        let home = environment.and_then(|found| found.home);
        let settings = sys::Settings {
            executable: c_string(executable.as_os_str())?,
            home: home.map(|home| c_string(home.as_os_str())).transpose()?,
            argv: argv
                .iter()
                .map(|argument| c_string(argument))
                .collect::<Result<_, _>>()?,
        };
        let failed = |reason| Error::Start {
            executable: executable.display().to_string(),
            reason,
        };
        sys::initialize(&settings).map_err(failed)?;
        Python::attach(|py| {
            // Whoever imports this first is Python's main thread.
            py.import("threading")?;
            modules::register(py)?;
            line_buffer(py)?;
            signals::install(py)
        })
        .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            not_send: PhantomData,
        })
    }

    /// The version of Python that this runs: `3.11`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        VERSION
    }
}

/// Writes out what scripts have printed. Rust's exit does not.
pub fn flush() {
    if STARTED.load(Ordering::SeqCst) {
        Python::attach(flush_attached);
    }
}

pub(crate) fn flush_attached(py: Python<'_>) {
    for name in ["stdout", "stderr"] {
        // A closed or replaced stream has nothing to say; there is no one left to tell either.
        let _ = py
            .import("sys")
            .and_then(|sys| sys.getattr(name))
            .and_then(|stream| stream.call_method0("flush"));
    }
}

/// Lets lines that scripts print appear between the log's lines, in order, also when they go to a file or a pipe.
fn line_buffer(py: Python<'_>) -> PyResult<()> {
    let stdout = py.import("sys")?.getattr("stdout")?;
    if stdout.is_none() {
        return Ok(()); // Started with a closed descriptor 1.
    }
    let options = pyo3::types::PyDict::new(py);
    options.set_item("line_buffering", true)?;
    stdout.call_method("reconfigure", (), Some(&options))?;
    Ok(())
}

/// A virtual environment whose packages the linked Python can import.
struct VirtualEnvironment {
    executable: PathBuf,
    /// The prefix of the linked Python, so that its own standard library is used and not that of another build of the
    /// same version that made the environment. `PYTHONHOME` goes before it.
    home: Option<PathBuf>,
}

impl VirtualEnvironment {
    fn active() -> Option<Self> {
        let root = PathBuf::from(std::env::var_os("VIRTUAL_ENV")?);
        let executable = root.join("bin/python3");
        let packages = root.join(format!("lib/python{VERSION}/site-packages"));
        if !root.join("pyvenv.cfg").is_file() || !packages.is_dir() || !executable.exists() {
            return None;
        }
        let prefix = || {
            let real = Path::new(EXECUTABLE).canonicalize().ok()?;
            Some(real.parent()?.parent()?.to_owned())
        };
        let home = if std::env::var_os("PYTHONHOME").is_some() {
            None
        } else {
            prefix()
        };
        Some(Self { executable, home })
    }
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Start {
        executable: EXECUTABLE.to_owned(),
        reason: format!("{} holds a NUL byte", text.display()),
    })
}
