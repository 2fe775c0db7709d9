//! The front end takes the eventfds of a crate that has no safe way to make one of a descriptor.

use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// Gives a descriptor the type of an eventfd, whatever it is.
pub(crate) fn event(descriptor: OwnedFd) -> EventFd {
    // SAFETY: `from_raw_fd` needs an open descriptor that nobody else owns: it was given to us, and is given away here.
    unsafe { EventFd::from_raw_fd(descriptor.into_raw_fd()) }
}
