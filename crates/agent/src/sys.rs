//! What has no safe wrapper: what a child does between fork and exec, and the ioctls of the random numbers.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::{ioctl, process, thread};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Who a child is to be.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// What a child does before it becomes another program. It always begins a session of its own.
#[derive(Debug, Default)]
pub(crate) struct Preparation {
    /// The `cgroup.procs` of the group that it joins.
    pub(crate) cgroup: Option<File>,
    /// Standard input becomes its controlling terminal.
    pub(crate) controls_terminal: bool,
    /// Its orphaned descendants become its children.
    pub(crate) is_subreaper: bool,
    pub(crate) credentials: Option<Credentials>,
    /// Descriptors that it keeps under these numbers; all of both are above 9.
    pub(crate) descriptors: Vec<(OwnedFd, i32)>,
}

/// Has a child prepare itself like that.
pub(crate) fn prepare(command: &mut Command, preparation: Preparation) {
    let steps = move || steps(&preparation).map_err(Into::into);
    // SAFETY: `pre_exec` runs the closure in a forked child, where only what is async-signal-safe may be called.
    // - `steps` makes system calls, through rustix, which neither allocates nor locks there.
    // - It reads what was moved into the closure, and frees nothing.
    unsafe { command.pre_exec(steps) };
}

/// Has a child take in the orphans below it.
pub(crate) fn take_in_orphans(command: &mut Command) {
    let step = || process::set_child_subreaper(Some(process::getpid())).map_err(Into::into);
    // SAFETY: `pre_exec` runs the closure in a forked child, where only what is async-signal-safe may be called.
    // - The closure makes two system calls, through rustix, which neither allocates nor locks there.
    unsafe { command.pre_exec(step) };
}

fn steps(preparation: &Preparation) -> Result<(), Errno> {
    process::setsid()?;
    if let Some(procs) = &preparation.cgroup {
        rustix::io::write(procs, b"0")?;
    }
    if preparation.controls_terminal {
        process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    if preparation.is_subreaper {
        process::set_child_subreaper(Some(process::getpid()))?;
    }
    for (descriptor, number) in &preparation.descriptors {
        keep_as(descriptor, *number)?;
    }
    if let Some(credentials) = &preparation.credentials {
        thread::set_thread_groups(&credentials.groups)?;
        thread::set_thread_res_gid(credentials.gid, credentials.gid, credentials.gid)?;
        thread::set_thread_res_uid(credentials.uid, credentials.uid, credentials.uid)?;
    }
    // It does not outlive us. Another user would end that, so it comes last.
    process::set_parent_process_death_signal(Some(process::Signal::KILL))?;
    Ok(())
}

/// Makes this descriptor one of that number, which a program that is started gets.
fn keep_as(descriptor: &OwnedFd, number: i32) -> Result<(), Errno> {
    // SAFETY: `from_raw_fd` needs a descriptor that nobody else owns.
    // - Nobody else: it is a number that the child has no other use for; what the agent has open there is closed by this.
    // - It is not closed at the end: `into_raw_fd` gives it up.
    let mut target = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    let result = rustix::io::dup2(descriptor, &mut target);
    let _ = std::os::fd::IntoRawFd::into_raw_fd(target);
    result
}

/// The most random bytes that are taken at once.
pub(crate) const ENTROPY_MAX: usize = 4096;

/// `struct rand_pool_info` of `linux/random.h`.
#[repr(C)]
struct PoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; ENTROPY_MAX],
}

/// `RNDADDENTROPY`: its size is that of the struct without the bytes.
const ADD_ENTROPY: ioctl::Opcode = ioctl::opcode::write::<[i32; 2]>(b'R', 0x03);

/// `RNDRESEEDCRNG`.
const RESEED: ioctl::Opcode = ioctl::opcode::none(b'R', 0x07);

/// Mixes bytes into the kernel's random numbers, credits them, and has the generator seeded anew.
pub(crate) fn add_entropy(device: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut info = PoolInfo {
        entropy_count: i32::try_from(bytes.len() * 8).map_err(|_| Errno::INVAL)?,
        buf_size: i32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?,
        buf: [0; ENTROPY_MAX],
    };
    info.buf
        .get_mut(..bytes.len())
        .ok_or(Errno::INVAL)?
        .copy_from_slice(bytes);
    // SAFETY: the opcode takes a pointer to a `rand_pool_info`.
    // - `PoolInfo` has its layout, and `buf_size` bytes are in it: that was checked above.
    let add = unsafe { ioctl::Setter::<ADD_ENTROPY, PoolInfo>::new(info) };
    // SAFETY: `add` is what its opcode wants, as said above; the device is a descriptor that is open.
    unsafe { ioctl::ioctl(device.as_fd(), add) }?;
    // SAFETY: the opcode takes no argument.
    let reseed = unsafe { ioctl::NoArg::<RESEED>::new() };
    // SAFETY: `reseed` is what its opcode wants; the device is a descriptor that is open.
    unsafe { ioctl::ioctl(device.as_fd(), reseed) }
}
