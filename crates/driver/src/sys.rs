//! What the standard library does not do: between `fork` and `exec`, and the clock of another process.

use std::io;
use std::os::unix::process::CommandExt;
use std::time::Duration;

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

/// The processor time that a process has taken, all its threads together.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock_getcpuclockid` writes one `clockid_t` to where it is told.
    // - `clock` is one, is ours alone and outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `clock_gettime` writes one `timespec` to where it is told.
    // - `time` is one, is ours alone and outlives the call.
    // - Any clock may be asked for: that of a process that has ended is an error.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    Ok(seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default()))
}
