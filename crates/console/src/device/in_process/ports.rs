//! What is at the host's end of the ports.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use virtio_queue::Queue;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{GuestMemory, VolatileSlice};

use crate::device::received::Received;
use crate::device::source::{Descriptor, Source};
use crate::device::state::PortEvent;

/// What is at the host's end of the ports.
pub trait Ports {
    /// Takes what the guest sent, straight from its memory. What is kept ([`Received::keep_after`]) comes again when the port's
    /// descriptor can be written to, or with [`Service::handle_change`](super::Service::handle_change).
    fn handle_received<M: GuestMemory>(&mut self, port: u32, received: &mut Received<'_, M, Queue>);

    /// Fills the guest's buffers from their beginning, and says how many bytes it wrote. 0: there is nothing now.
    ///
    /// # Errors
    ///
    /// Fails when reading what is to be sent fails; this ends the service.
    fn poll_source<B: BitmapSlice>(
        &mut self,
        port: u32,
        buffers: &[VolatileSlice<'_, B>],
    ) -> io::Result<usize>;

    /// The descriptor that says when there is more to send, or more room for what was received. `None`: there is none.
    ///
    /// It may go away for good, which closes the port, but not change.
    fn descriptor(&self, port: u32) -> Option<BorrowedFd<'_>>;

    /// Whether nothing more will be sent to a port, so that its descriptor need not be watched for that.
    fn is_at_end(&self, port: u32) -> bool {
        let _ = port;
        false
    }

    /// Hears what the guest did with its ports.
    fn handle_event(&mut self, event: PortEvent) {
        let _ = event;
    }

    /// Hears what the guest wrote in an emergency, and how many bytes of that were lost.
    fn handle_emergency(&mut self, bytes: &[u8], lost: u64) {
        let _ = (bytes, lost);
    }
}

/// A stream (socket, pipe, terminal) for each port, or none: then what the guest sends there is lost.
///
/// A stream that takes no more is closed, and the port has none from then on. One that has no more to say is kept for what the
/// guest says.
#[derive(Debug)]
pub struct Streams {
    streams: Vec<Option<Stream>>,
}

#[derive(Debug)]
struct Stream {
    descriptor: OwnedFd,
    is_at_end: bool,
}

impl Streams {
    /// These streams, which must be non-blocking.
    #[must_use]
    pub fn new(streams: Vec<Option<OwnedFd>>) -> Streams {
        let stream = |descriptor| Stream {
            descriptor,
            is_at_end: false,
        };
        Streams {
            streams: streams.into_iter().map(|it| it.map(stream)).collect(),
        }
    }

    fn stream(&self, port: u32) -> Option<&Stream> {
        self.streams.get(port as usize)?.as_ref()
    }
}

impl Ports for Streams {
    fn handle_received<M: GuestMemory>(
        &mut self,
        port: u32,
        received: &mut Received<'_, M, Queue>,
    ) {
        let Some(slot) = self.streams.get_mut(port as usize) else {
            return;
        };
        let Some(stream) = slot else {
            return;
        };
        if received.write_to(&stream.descriptor).is_err() {
            received.keep_after(usize::MAX);
            *slot = None;
        }
    }

    fn poll_source<B: BitmapSlice>(
        &mut self,
        port: u32,
        buffers: &[VolatileSlice<'_, B>],
    ) -> io::Result<usize> {
        let Some(Some(stream)) = self.streams.get_mut(port as usize) else {
            return Ok(0);
        };
        let mut source = Descriptor::new(&stream.descriptor);
        // A stream that cannot be read has no more to say; whether it still listens, writing shows.
        let filled = source.fill(buffers);
        stream.is_at_end = source.is_at_end() || filled.is_err();
        Ok(filled.unwrap_or(0))
    }

    fn descriptor(&self, port: u32) -> Option<BorrowedFd<'_>> {
        self.stream(port).map(|stream| stream.descriptor.as_fd())
    }

    fn is_at_end(&self, port: u32) -> bool {
        self.stream(port).is_some_and(|stream| stream.is_at_end)
    }
}

/// A port's end as a source.
pub(super) struct FromPort<'a, P>(pub(super) &'a mut P, pub(super) u32);

impl<P: Ports> Source for FromPort<'_, P> {
    fn fill<B: BitmapSlice>(&mut self, buffers: &[VolatileSlice<'_, B>]) -> io::Result<usize> {
        self.0.poll_source(self.1, buffers)
    }
}
