//! Starts CPython: the one place that needs its C interface directly.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

use pyo3::ffi::{
    Py_InitializeFromConfig, PyConfig, PyConfig_Clear, PyConfig_InitPythonConfig,
    PyConfig_SetBytesArgv, PyConfig_SetBytesString, PyEval_SaveThread, PyStatus,
    PyStatus_Exception,
};

/// What the interpreter is started with.
pub(crate) struct Settings {
    /// `sys.executable`, and where the search for the standard library begins.
    pub(crate) executable: CString,
    /// The prefix of the standard library; without it Python looks beside the executable.
    pub(crate) home: Option<CString>,
    /// `sys.argv`.
    pub(crate) argv: Vec<CString>,
}

/// Starts the interpreter on the calling thread, which becomes Python's main thread, and lets go of the GIL.
///
/// Signal handlers are left alone. Must be called once in a process, before anything else touches Python.
///
/// # Errors
///
/// What Python said, when it did not start.
pub(crate) fn initialize(settings: &Settings) -> Result<(), String> {
    let mut config = MaybeUninit::<PyConfig>::zeroed();
    let config: *mut PyConfig = config.as_mut_ptr();
    // SAFETY: needs memory for a PyConfig, which is on this stack frame until the end of this function. It writes every
    // field, so the struct is initialised from here on.
    unsafe { PyConfig_InitPythonConfig(config) };
    let started = configure(config, settings).and_then(|()| {
        // SAFETY: needs an initialised config, and no interpreter to be running, as the caller promises.
        check(unsafe { Py_InitializeFromConfig(config) })
    });
    // SAFETY: needs an initialised config; it frees the strings that `configure` made Python copy, and no one else
    // points to them.
    unsafe { PyConfig_Clear(config) };
    started?;
    // SAFETY: needs the GIL, which `Py_InitializeFromConfig` leaves with this thread. The thread state that it returns
    // stays registered for this thread, and PyO3 finds it there when the thread attaches again.
    unsafe { PyEval_SaveThread() };
    Ok(())
}

/// Fills in `config`, which must be initialised.
fn configure(config: *mut PyConfig, settings: &Settings) -> Result<(), String> {
    // SAFETY: the caller's pointer is to an initialised config that nobody else uses meanwhile.
    let fields = unsafe { &mut *config };
    fields.parse_argv = 0;
    fields.install_signal_handlers = 0;
    let argv: Vec<*const libc::c_char> = settings.argv.iter().map(|a| a.as_ptr()).collect();
    let count = isize::try_from(argv.len()).map_err(|_| "too many arguments".to_owned())?;
    // SAFETY: needs `count` pointers to strings that end in NUL; `argv` borrows them from `settings`. Python copies
    // them and does not write through the pointer, though its type says so.
    check(unsafe { PyConfig_SetBytesArgv(config, count, argv.as_ptr().cast_mut().cast()) })?;
    let executable = settings.executable.as_c_str();
    for field in [&raw mut fields.program_name, &raw mut fields.executable] {
        set(config, field, executable)?;
    }
    if let Some(home) = &settings.home {
        set(config, &raw mut fields.home, home)?;
    }
    Ok(())
}

/// Sets one string of `config`, which must be initialised; `field` points into it.
fn set(config: *mut PyConfig, field: *mut *mut libc::wchar_t, value: &CStr) -> Result<(), String> {
    // SAFETY: needs an initialised config, a field of that config, and a string that ends in NUL; the caller passes the
    // first two and the type promises the third. Python copies the string.
    check(unsafe { PyConfig_SetBytesString(config, field, value.as_ptr()) })
}

fn check(status: PyStatus) -> Result<(), String> {
    // SAFETY: takes the status by value and reads it.
    if unsafe { PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    if ptr::eq(status.err_msg, ptr::null()) {
        return Err("no reason given".to_owned());
    }
    // SAFETY: needs a string that ends in NUL and outlives the borrow; Python's messages are literals.
    let message = unsafe { CStr::from_ptr(status.err_msg) };
    Err(message.to_string_lossy().into_owned())
}

/// Ends this process at once: no destructors, no exit handlers.
pub(crate) fn exit_without_cleanup(status: i32) -> ! {
    // SAFETY: takes a number and does not return; a forked child owns nothing that needs an orderly end.
    unsafe { libc::_exit(status) }
}
