//! What the standard library does not do between `fork` and `exec`.

use std::io;
use std::os::unix::process::CommandExt;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal, setsid};

/// Lets the kernel kill the process when the thread that starts it ends.
#[expect(clippy::disallowed_types, reason = "the I/O shell")]
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    let parent = getpid();
    let set_up = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the call: nobody would tell.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: what runs between `fork` and `exec` may only do what is safe in a signal handler.
    // - `set_up` makes two system calls, `prctl` and `getppid`; it takes no lock and does not allocate: an error is made from a number.
    // - It holds nothing but a process id.
    unsafe { command.pre_exec(set_up) };
}

/// Puts the process in a session of its own, out of reach of the terminal's signals.
#[expect(clippy::disallowed_types, reason = "the I/O shell")]
pub(crate) fn in_own_session(command: &mut std::process::Command) {
    let set_up = || setsid().map(|_| ()).map_err(io::Error::from);
    // SAFETY: what runs between `fork` and `exec` may only do what is safe in a signal handler.
    // - `set_up` makes one system call, takes no lock and does not allocate.
    // - It holds nothing.
    unsafe { command.pre_exec(set_up) };
}
