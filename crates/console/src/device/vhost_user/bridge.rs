//! A stream behind a port.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;

use super::Error;
use crate::device::source::Descriptor;

/// A stream, and what is known of it. It is polled by edges: what it can do stays known until it cannot.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) stream: Descriptor<Arc<OwnedFd>>,
    descriptor: Arc<OwnedFd>,
    epoll: Arc<OwnedFd>,
    pub(super) can_read: bool,
    pub(super) can_write: bool,
    has_hung_up: bool,
    is_broken: bool,
}

impl Bridge {
    pub(super) fn new(stream: OwnedFd, epoll: Arc<OwnedFd>, token: u64) -> Result<Self, Error> {
        let flags = rustix::fs::fcntl_getfl(&stream)?;
        rustix::fs::fcntl_setfl(&stream, flags | OFlags::NONBLOCK)?;
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&epoll, &stream, EventData::new_u64(token), events)?;
        let descriptor = Arc::new(stream);
        Ok(Self {
            stream: Descriptor::new(Arc::clone(&descriptor)),
            descriptor,
            epoll,
            can_read: true,
            can_write: true,
            has_hung_up: false,
            is_broken: false,
        })
    }

    /// Takes note of what epoll says.
    pub(super) fn handle(&mut self, flags: EventFlags) {
        let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        self.can_read |= is_over || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.can_write |= is_over || flags.contains(EventFlags::OUT);
        self.has_hung_up |= is_over;
    }

    /// Takes note that reading or writing failed.
    pub(super) fn break_off(&mut self) {
        (self.can_read, self.can_write) = (false, false);
        self.is_broken = true;
    }

    /// Whether nothing will come from the stream, nor go to it. One that only sends no more may still take something.
    pub(super) fn is_over(&self) -> bool {
        self.is_broken || self.has_hung_up && self.stream.is_at_end()
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // The embedder may have another descriptor of it, which would keep it in epoll.
        let _ = epoll::delete(&self.epoll, self.descriptor.as_fd());
    }
}
