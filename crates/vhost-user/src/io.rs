//! Reads the socket, and answers. The only file that reads or writes it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, fs, io};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};
use vhost::vhost_user::message::{FrontendReq, VhostUserMemoryRegion};
use vhost::vhost_user::{BackendReqHandler, Error as Refused};

use crate::memory::{File, Memory};
use crate::state::{Core, Slot};
use crate::wire::{Enable, HEADER_LEN, Header, Region, Regions};
use crate::{Device, Error, Ring};

mod fuzz;

pub use fuzz::fuzz;

/// The most requests that are answered in a row: one front end cannot keep the thread from the others.
const REQUESTS_MAX: usize = 64;

/// Where a connection's descriptors are waited for: an epoll instance of the embedder's, and the first of the tokens by which
/// their events are told apart.
#[derive(Debug, Clone)]
pub struct Poller {
    epoll: Arc<OwnedFd>,
    first_token: u64,
}

impl Poller {
    /// A place in `epoll` that begins with the token `first_token`.
    #[must_use]
    pub fn new(epoll: Arc<OwnedFd>, first_token: u64) -> Self {
        Self { epoll, first_token }
    }

    /// How many tokens a connection with so many queues uses.
    #[must_use]
    pub fn token_count(queues: usize) -> u64 {
        queues as u64 + 1
    }

    pub(crate) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    pub(crate) fn token_of_ring(&self, index: u32) -> u64 {
        self.first_token + 1 + u64::from(index)
    }
}

/// What an event of epoll meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing that concerns the device.
    Nothing,
    /// The driver has put something into this queue. It may be that the queue does not run.
    Kick(usize),
    /// Queues started or stopped, or lie elsewhere: every queue that runs may have something in it.
    Changed,
    /// The front end hung up between two messages. No queue runs.
    Closed,
}

/// One front end, and the device that it uses.
///
/// It waits for nothing and starts no thread. The embedder waits on the epoll instance, calls [`handle`](Self::handle) with
/// each event's token, and then does what the device does with its queues and the memory, from [`parts`](Self::parts).
pub struct Connection<D: Device> {
    /// Always there but while a request is handled.
    core: Option<Box<Core<D>>>,
    slot: Arc<Mutex<Slot<D>>>,
    requests: BackendReqHandler<Mutex<Slot<D>>>,
    socket: UnixStream,
    poller: Poller,
}

/// A device, its queues, and the memory that they are in.
#[derive(Debug)]
pub struct Parts<'a, D> {
    /// The device.
    pub device: &'a mut D,
    /// The guest's memory; there is none of it before the front end has sent it.
    pub memory: &'a Arc<Memory>,
    /// All queues.
    pub rings: &'a mut [Ring],
}

impl<D: Device> Connection<D> {
    /// Serves the front end at the other end of a stream, which may have sent something already.
    ///
    /// # Errors
    ///
    /// [`Error::Device`], [`Error::Socket`].
    pub fn new(stream: UnixStream, device: D, poller: Poller) -> Result<Self, Error> {
        let core = Box::new(Core::new(device, poller.clone())?);
        // A message is taken when it is whole, so nothing waits; the `vhost` crate would spin on a socket that says so.
        stream.set_nonblocking(false)?;
        let slot = Arc::new(Mutex::new(Slot::empty()));
        let requests = BackendReqHandler::from_stream(stream.try_clone()?, Arc::clone(&slot));
        epoll::add(
            poller.epoll(),
            &stream,
            EventData::new_u64(poller.first_token),
            SOCKET_EVENTS,
        )?;
        Ok(Self {
            core: Some(core),
            slot,
            requests,
            socket: stream,
            poller,
        })
    }

    /// Handles the event of one of this connection's tokens, and says what it meant.
    ///
    /// # Errors
    ///
    /// All but [`Error::Device`] and [`Error::Listen`]. The connection is of no use after one, and no queue runs.
    pub fn handle(&mut self, token: u64) -> Result<Event, Error> {
        let number = token.wrapping_sub(self.poller.first_token);
        if number == 0 {
            let handled = self.handle_socket();
            if !matches!(handled, Ok(Event::Nothing | Event::Changed)) {
                self.core_mut().hang_up();
            }
            return handled;
        }
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let ring = self.core_mut().rings.get_mut(index);
        if ring.is_some_and(Ring::take_kick) {
            Ok(Event::Kick(index))
        } else {
            Ok(Event::Nothing)
        }
    }

    /// The device, its queues and the memory.
    pub fn parts(&mut self) -> Parts<'_, D> {
        let core = self.core_mut();
        Parts {
            memory: core.table.memory(),
            device: &mut core.device,
            rings: &mut core.rings,
        }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.core.as_ref().expect(CORE_IS_THERE).device
    }

    /// The device.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.core_mut().device
    }

    /// Ends the connection and gives the device back, for the next one. The device has learnt that no queue runs.
    #[must_use]
    pub fn into_device(mut self) -> D {
        self.core_mut().hang_up();
        self.core.take().expect(CORE_IS_THERE).device
    }

    fn core_mut(&mut self) -> &mut Core<D> {
        self.core.as_mut().expect(CORE_IS_THERE)
    }

    fn handle_socket(&mut self) -> Result<Event, Error> {
        for _ in 0..REQUESTS_MAX {
            match self.peek()? {
                Peek::Nothing => return Ok(self.outcome()),
                Peek::End => return Ok(Event::Closed),
                Peek::Message(header, is_padded) => self.handle_request(header, is_padded)?,
            }
        }
        // There may be more, which has woken us already: ask to be woken again.
        epoll::modify(
            self.poller.epoll(),
            &self.socket,
            EventData::new_u64(self.poller.first_token),
            SOCKET_EVENTS,
        )?;
        Ok(self.outcome())
    }

    fn outcome(&mut self) -> Event {
        if self.core_mut().take_changed() {
            Event::Changed
        } else {
            Event::Nothing
        }
    }

    /// Looks whether there is a whole message, and leaves it where it is.
    fn peek(&self) -> Result<Peek, Error> {
        let mut head = [0; HEADER_LEN + 4];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let len = match rustix::net::recv(&self.socket, &mut head, flags) {
            Ok((0, _)) => return Ok(Peek::End),
            Ok((len, _)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Peek::Nothing),
            Err(Errno::CONNRESET) => return Ok(Peek::End),
            Err(errno) => return Err(errno.into()),
        };
        let queued = rustix::io::ioctl_fionread(&self.socket)?;
        match Header::parse(&head[..len])? {
            Some(header) if queued >= header.message_len() as u64 => Ok(Peek::Message(
                header,
                Regions::is_padded(&header, &head[..len]),
            )),
            None if queued >= HEADER_LEN as u64 => Err(Error::Malformed(
                "descriptors are in the middle of its head",
            )),
            _ if self.polls(PollFlags::RDHUP)? => Err(Error::HalfMessage),
            _ => Ok(Peek::Nothing),
        }
    }

    fn handle_request(&mut self, header: Header, is_padded: bool) -> Result<(), Error> {
        // An answer fits in a socket that counts as writable, so that sending it will not wait.
        if !self.polls(PollFlags::OUT)? {
            return Err(Error::Unread);
        }
        if header.code == Enable::CODE && self.core_mut().is_enable_early() {
            return self.handle_early_enable(header);
        }
        if is_padded {
            return self.handle_padded_regions(header);
        }
        let core = self.core.take().expect(CORE_IS_THERE);
        lock(&self.slot).put(core);
        let handled = self.requests.handle_request();
        self.core = lock(&self.slot).take();
        handled.map_err(|source| refused(header.code, source))
    }

    /// Does what the `vhost` crate would do, had a driver chosen the feature already.
    fn handle_early_enable(&mut self, header: Header) -> Result<(), Error> {
        let mut message = [0; Enable::MESSAGE_LEN];
        let len = header.message_len().min(message.len());
        let (len, _) = rustix::net::recv(&self.socket, &mut message[..len], RecvFlags::DONTWAIT)?;
        let enable = Enable::parse(&header, &message[..len])?;
        let enabled = self.core_mut().enable_ring(enable.index, enable.is_on);
        self.finish(header, enabled)
    }

    /// Does what the `vhost` crate would do, were the message no longer than it need be.
    fn handle_padded_regions(&mut self, header: Header) -> Result<(), Error> {
        let mut message = vec![0; header.message_len()];
        let files = self.receive_all(&mut message)?;
        let regions = Regions::parse(&header, &message)?.regions;
        if files.len() != regions.len() {
            return Err(Error::Malformed(
                "SET_MEM_TABLE has not a file for each region",
            ));
        }
        let regions: Vec<_> = regions
            .iter()
            .map(|region| {
                let Region {
                    guest,
                    len,
                    user,
                    offset,
                } = *region;
                VhostUserMemoryRegion::new(guest, len, user, offset)
            })
            .collect();
        let set = self.core_mut().set_memory(&regions, files);
        self.finish(header, set)
    }

    /// Takes a message that is there, and the descriptors that came with its beginning.
    fn receive_all(&self, message: &mut [u8]) -> Result<Vec<File>, Error> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Regions::COUNT_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut files = Vec::new();
        let mut len = 0;
        while len < message.len() {
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let mut buffers = [IoSliceMut::new(&mut message[len..])];
            let received = recvmsg(&self.socket, &mut buffers, &mut control, flags)?;
            for item in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = item {
                    files.extend(rights.map(File::from));
                }
            }
            if received.bytes == 0 {
                return Err(Error::HalfMessage);
            }
            len += received.bytes;
        }
        Ok(files)
    }

    /// Answers a request that has no answer by itself, if the front end wants one.
    fn finish(&mut self, header: Header, outcome: Result<(), Refused>) -> Result<(), Error> {
        outcome.map_err(|source| refused(header.code, source))?;
        if header.needs_reply() && self.core_mut().acknowledges() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            rustix::net::send(&self.socket, &header.acknowledge(), flags)?;
        }
        Ok(())
    }

    fn polls(&self, what: PollFlags) -> Result<bool, Error> {
        let mut sockets = [PollFd::new(&self.socket, what)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut sockets, Some(&at_once))?;
        Ok(sockets[0].revents().intersects(what))
    }
}

/// By edge: half a message wakes nobody until more of it comes.
const SOCKET_EVENTS: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// It is elsewhere only while a request is handled.
const CORE_IS_THERE: &str = "the core is put back after each request";

enum Peek {
    Nothing,
    End,
    /// There is a message. It may be a memory table with room for more.
    Message(Header, bool),
}

fn lock<D>(slot: &Mutex<Slot<D>>) -> MutexGuard<'_, Slot<D>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(code: u32, source: Refused) -> Error {
    let request = FrontendReq::try_from(code).map_or_else(
        |_| format!("number {code}"),
        |request| format!("{request:?}"),
    );
    Error::Request { request, source }
}

impl<D: Device> Drop for Connection<D> {
    fn drop(&mut self) {
        // The request handler has a second descriptor of the socket, and the front end one of each kick.
        let _ = epoll::delete(self.poller.epoll(), &self.socket);
    }
}

impl<D: Device + fmt::Debug> fmt::Debug for Connection<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

/// A unix socket that front ends connect to. It is there as long as this value.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`], also when there is something at `path` already.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let bound = UnixListener::bind(path).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => Ok(Self {
                socket,
                path: path.to_owned(),
            }),
            Err(source) => Err(Error::Listen {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Takes a front end that waits. `Ok(None)` when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`]; it may go away, as when there are too many open files.
    pub fn accept(&self) -> Result<Option<UnixStream>, Error> {
        match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
