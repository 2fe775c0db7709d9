//! A console on a vhost-user socket: the guest's memory is shared with us, and data go from it and into it without a copy of
//! ours.
//!
//! [`Service`] listens for a VMM, and carries each port to where it is wanted: to a stream ([`Service::bridge`]), or to the
//! embedder, who borrows what the guest sent ([`Service::receive`]) and sends from where he has it ([`Service::send`]). He polls
//! it in a loop of his own, or has a thread do it ([`Service::start`]).
//!
//! One VMM is served at a time; the next one finds the device as new. A guest that breaks the rules loses its VMM's connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use hotbed_vhost_user::{Memory, virtio_queue::Queue};

use super::console::{Config, Console, Sent};
use super::received::Received;
use super::source::Source;
use super::state::PortEvent;
use super::wire::Size;

mod bridge;
mod carrier;
mod data;
mod running;
mod unit;

use carrier::Carrier;
pub use running::Running;

/// What happened to a console.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happened {
    /// A VMM connected.
    Connected,
    /// The VMM is gone: it hung up (`None`), it or its guest broke the rules.
    Disconnected(Option<Error>),
    /// The guest did something with a port.
    Port(PortEvent),
    /// The guest sent something by this port, which is not bridged: [`Service::receive`] gives it, until it gives `None`.
    Data(u32),
    /// The guest has room again behind this port, which is not bridged, and the last [`Service::send`] found none.
    Room(u32),
    /// The guest wrote something in an emergency, and that many bytes more were lost.
    Emergency(Vec<u8>, u64),
    /// The stream behind this port was closed; so is the port now.
    Unbridged(u32),
}

/// Why a console on a vhost-user socket cannot be, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The VMM broke the rules, or the socket is at fault.
    #[error("the console's VMM")]
    Connection(#[from] hotbed_vhost_user::Error),
    /// The guest broke the rules, or the configuration is at fault.
    #[error("the console")]
    Device(#[from] super::Error),
    /// The system refused something.
    #[error("the console's descriptors")]
    Descriptors(#[from] io::Error),
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Descriptors(errno.into())
    }
}

/// A console on a vhost-user socket.
#[derive(Debug)]
pub struct Service {
    carrier: Carrier,
}

impl Service {
    /// Makes the socket, at which a VMM is served from the first [`poll`](Self::poll) on. Dropping this removes it.
    ///
    /// # Errors
    ///
    /// An impossible configuration, and a path that cannot be bound, as one where there is something.
    pub fn listen(path: &Path, config: Config) -> Result<Self, Error> {
        let carrier = Carrier::new(path, config)?;
        Ok(Self { carrier })
    }

    /// Carries a port's bytes to a stream and back, from now on; the port is opened. A stream that was there is closed.
    ///
    /// What the stream does not take waits in the guest, and what the guest does not take waits in the stream. It is made
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// There is no such port, or the descriptor is none that can be polled.
    pub fn bridge(&mut self, port: u32, stream: OwnedFd) -> Result<(), Error> {
        self.carrier.bridge(port, stream)
    }

    /// Carries a port to a new stream, and gives its other end: for example for [`Shell::new`](crate::Shell::new).
    ///
    /// # Errors
    ///
    /// There is no such port, or there are too many open files.
    pub fn stream(&mut self, port: u32) -> Result<UnixStream, Error> {
        let (ours, theirs) = UnixStream::pair()?;
        self.bridge(port, ours.into())?;
        Ok(theirs)
    }

    /// Waits until something happens, and does what is to be done meanwhile. `Ok(None)` at `until`; with a moment that has
    /// passed it does what can be done at once.
    ///
    /// # Errors
    ///
    /// [`Error::Descriptors`]. What a VMM or a guest does wrong is [`Happened::Disconnected`].
    pub fn poll(&mut self, until: Instant) -> Result<Option<Happened>, Error> {
        self.carrier.poll(until)
    }

    /// Borrows what the guest sent by a port that is not bridged, and gives the buffers back. `None` when there is nothing.
    pub fn receive<T>(
        &mut self,
        port: u32,
        take: impl FnOnce(&mut Received<'_, Memory, Queue>) -> T,
    ) -> Option<T> {
        self.carrier.receive(port, take)
    }

    /// Sends to a port what the source has, straight into the guest's buffers. Without a guest nothing is sent, as when nobody
    /// there has the port open.
    ///
    /// # Errors
    ///
    /// The source fails.
    pub fn send<S: Source>(&mut self, port: u32, source: &mut S) -> Result<Sent, Error> {
        self.carrier.send(port, source)
    }

    /// Opens a port that is not bridged, or closes it.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn set_open(&mut self, port: u32, is_open: bool) -> Result<(), Error> {
        self.carrier.set_open(port, is_open)
    }

    /// Gives a port's console another size.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn resize(&mut self, port: u32, size: Size) -> Result<(), Error> {
        self.carrier.resize(port, size)
    }

    /// The device, to look at.
    #[must_use]
    pub fn console(&self) -> &Console {
        self.carrier.console()
    }

    /// Polls on a thread of its own from now on, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// There are too many threads or open files.
    pub fn start(self) -> Result<Running, Error> {
        Running::start(self.carrier)
    }
}

/// Readable when [`Service::poll`] has something to do.
impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.carrier.as_fd()
    }
}
