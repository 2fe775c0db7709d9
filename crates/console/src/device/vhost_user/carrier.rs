//! Carries ports between a guest and streams.

use std::collections::VecDeque;
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotbed_vhost_user::virtio_queue::{Queue, QueueT as _};
use hotbed_vhost_user::{Connection, Event, Listener, Memory, Parts, Poller};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::bridge::Bridge;
use super::data::{notify, pump_from_guest, pump_to_guest, receive, send};
use super::unit::Unit;
use super::{Error, Happened};
use crate::device::console::{Config, Console, PORTS_MAX, Sent, Stop};
use crate::device::queue::Role;
use crate::device::received::Received;
use crate::device::source::Source;
use crate::device::wire::Size;

/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 32;

/// No single wait in the kernel is longer than this.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Tokens of epoll: the listener, the end, the streams of the ports, and then those of the connection.
const LISTENER: u64 = 0;
const STOP: u64 = 1;
const BRIDGES: u64 = 2;
const CONNECTION: u64 = BRIDGES + PORTS_MAX as u64;

/// All of a console on a vhost-user socket.
pub(super) struct Carrier {
    epoll: Arc<OwnedFd>,
    listener: Listener,
    stop: Arc<OwnedFd>,
    is_stopped: bool,
    link: Link,
    ports: Vec<Way>,
    config: Config,
    happened: VecDeque<Happened>,
    /// There is more to do than was done in one turn.
    is_busy: bool,
}

/// Whether there is a VMM.
enum Link {
    Waiting(Unit),
    Connected(Box<Connection<Unit>>),
    /// Between the two.
    Changing,
}

/// Where a port leads.
#[derive(Debug, Default)]
struct Way {
    bridge: Option<Bridge>,
    /// The embedder wants to know when there is room.
    wants_room: bool,
}

impl Carrier {
    pub(super) fn new(path: &Path, config: Config) -> Result<Self, Error> {
        let unit = Unit::new(config.clone())?;
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let listener = Listener::bind(path)?;
        let ports = unit.console.ports().iter().map(|_| Way::default());
        let carrier = Self {
            ports: ports.collect(),
            config,
            epoll,
            listener,
            stop,
            is_stopped: false,
            link: Link::Waiting(unit),
            happened: VecDeque::new(),
            is_busy: false,
        };
        carrier.listen()?;
        Ok(carrier)
    }

    pub(super) fn stop_event(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.stop)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    pub(super) fn bridge(&mut self, port: u32, stream: OwnedFd) -> Result<(), Error> {
        self.set_open(port, true)?; // Whether there is such a port.
        let token = BRIDGES + u64::from(port);
        let way = &mut self.ports[port as usize];
        way.bridge = None;
        way.bridge = Some(Bridge::new(stream, Arc::clone(&self.epoll), token)?);
        self.is_busy = true;
        Ok(())
    }

    pub(super) fn set_open(&mut self, port: u32, is_open: bool) -> Result<(), Error> {
        let console = self.console_mut();
        if is_open {
            console.open_port(port)?;
        } else {
            console.close_port(port)?;
        }
        self.is_busy = true;
        Ok(())
    }

    pub(super) fn resize(&mut self, port: u32, size: Size) -> Result<(), Error> {
        self.console_mut().resize(port, size)?;
        self.is_busy = true;
        Ok(())
    }

    pub(super) fn console(&self) -> &Console {
        match &self.link {
            Link::Waiting(unit) => &unit.console,
            Link::Connected(connection) => &connection.device().console,
            Link::Changing => unreachable!("a link does not stay between"),
        }
    }

    fn console_mut(&mut self) -> &mut Console {
        match &mut self.link {
            Link::Waiting(unit) => &mut unit.console,
            Link::Connected(connection) => &mut connection.device_mut().console,
            Link::Changing => unreachable!("a link does not stay between"),
        }
    }

    pub(super) fn poll(&mut self, until: Instant) -> Result<Option<Happened>, Error> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Ok(Some(happened));
            }
            let is_late = Instant::now() >= until;
            let has_handled = self.handle_events(until)?;
            let was_busy = mem::take(&mut self.is_busy);
            if has_handled || was_busy {
                self.pump();
            } else if is_late || self.is_stopped {
                return Ok(None);
            }
            if self.is_stopped {
                return Ok(self.happened.pop_front());
            }
        }
    }

    /// Waits for events until then, and handles them. Says whether there were any.
    fn handle_events(&mut self, until: Instant) -> Result<bool, Error> {
        let left = until
            .saturating_duration_since(Instant::now())
            .min(WAIT_MAX);
        let left = if self.is_busy { Duration::ZERO } else { left };
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let epoll = Arc::clone(&self.epoll);
        let events = match epoll::wait(&epoll, &mut events, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        for event in &*events {
            self.handle_event(event.data.u64(), event.flags)?;
        }
        Ok(!events.is_empty())
    }

    fn handle_event(&mut self, token: u64, flags: EventFlags) -> Result<(), Error> {
        match token {
            LISTENER => self.accept(),
            STOP => {
                self.is_stopped = true;
                Ok(())
            }
            BRIDGES..CONNECTION => {
                let way = self.ports.get_mut((token - BRIDGES) as usize);
                if let Some(bridge) = way.and_then(|way| way.bridge.as_mut()) {
                    bridge.handle(flags);
                }
                Ok(())
            }
            _ => self.handle_connection(token),
        }
    }

    fn listen(&self) -> Result<(), Error> {
        let data = EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, &self.listener, data, EventFlags::IN)?;
        Ok(())
    }

    /// Takes the next VMM; those behind it wait until it is gone.
    fn accept(&mut self) -> Result<(), Error> {
        if !matches!(self.link, Link::Waiting(_)) {
            return Ok(());
        }
        let Some(stream) = self.listener.accept()? else {
            return Ok(());
        };
        let Link::Waiting(unit) = mem::replace(&mut self.link, Link::Changing) else {
            unreachable!("it waits");
        };
        let poller = Poller::new(Arc::clone(&self.epoll), CONNECTION);
        self.link = match Connection::new(stream, unit, poller) {
            Ok(connection) => Link::Connected(Box::new(connection)),
            Err(error) => {
                self.link = Link::Waiting(self.new_unit());
                return Err(error.into()); // Too many open files, and the device went with it.
            }
        };
        epoll::delete(&self.epoll, &self.listener)?;
        self.happened.push_back(Happened::Connected);
        Ok(())
    }

    /// A device as at first, with the ports open that are bridged.
    fn new_unit(&self) -> Unit {
        let mut config = self.config.clone();
        for (port, way) in config.ports.iter_mut().zip(&self.ports) {
            port.is_open |= way.bridge.is_some();
        }
        Unit::new(config).expect("it was possible before")
    }

    fn handle_connection(&mut self, token: u64) -> Result<(), Error> {
        let Link::Connected(connection) = &mut self.link else {
            return Ok(()); // An event of one that is gone, from the same batch.
        };
        match connection.handle(token) {
            Ok(Event::Closed) => self.disconnect(None),
            Ok(Event::Kick(queue)) => {
                self.handle_kick(queue);
                Ok(())
            }
            Ok(Event::Changed | Event::Nothing) => {
                self.take_emergency();
                Ok(())
            }
            Err(error) => self.disconnect(Some(error.into())),
        }
    }

    /// Tells the embedder of what he wants to know himself.
    fn handle_kick(&mut self, queue: usize) {
        let (port, happened) = match Role::of(queue) {
            Role::Transmit(port) => (port, Happened::Data(port)),
            Role::Receive(port) => (port, Happened::Room(port)),
            Role::ControlReceive | Role::ControlTransmit => return,
        };
        let Some(way) = self.ports.get_mut(port as usize) else {
            return;
        };
        let is_wanted = match happened {
            Happened::Room(_) => mem::take(&mut way.wants_room),
            _ => true,
        };
        if way.bridge.is_none() && is_wanted {
            self.happened.push_back(happened);
        }
    }

    fn take_emergency(&mut self) {
        let (bytes, lost) = self.console_mut().take_emergency();
        if !bytes.is_empty() {
            self.happened.push_back(Happened::Emergency(bytes, lost));
        }
    }

    /// Is ready for the next VMM, with a device that no driver has touched.
    fn disconnect(&mut self, why: Option<Error>) -> Result<(), Error> {
        self.link = match mem::replace(&mut self.link, Link::Changing) {
            Link::Connected(connection) => {
                let mut unit = connection.into_device();
                unit.console.reset();
                self.happened.push_back(Happened::Disconnected(why));
                Link::Waiting(unit)
            }
            link => link,
        };
        self.listen()
    }
}

/// Data.
impl Carrier {
    /// Does all that can be done, or a good deal of it.
    fn pump(&mut self) {
        let Link::Connected(connection) = &mut self.link else {
            return;
        };
        let parts = connection.parts();
        let mut outcome = Self::pump_control(parts, &mut self.happened);
        for (port, way) in (0..).zip(&mut self.ports) {
            let Some(bridge) = &mut way.bridge else {
                continue;
            };
            let mut parts = connection.parts();
            outcome = outcome.and_then(|is_busy| {
                let reads = pump_from_guest(&mut parts, port, bridge)?;
                let writes = pump_to_guest(&mut parts, port, bridge)?;
                Ok(is_busy || reads || writes)
            });
        }
        match outcome {
            Ok(is_busy) => self.is_busy |= is_busy,
            Err(error) => self.fail(error),
        }
        self.close_bridges();
    }

    fn fail(&mut self, error: Error) {
        if self.disconnect(Some(error)).is_err() {
            self.is_stopped = true; // Nobody can connect any longer.
        }
    }

    /// Closes ports whose streams have come to their end.
    fn close_bridges(&mut self) {
        for port in 0..self.ports.len() {
            let way = &mut self.ports[port];
            if way.bridge.as_ref().is_some_and(Bridge::is_over) {
                way.bridge = None;
                let port = u32::try_from(port).unwrap_or(u32::MAX);
                let _ = self.set_open(port, false); // There is such a port.
                self.happened.push_back(Happened::Unbridged(port));
            }
        }
    }

    /// Hears and answers control messages. Says whether there are more.
    fn pump_control(
        parts: Parts<'_, Unit>,
        happened: &mut VecDeque<Happened>,
    ) -> Result<bool, Error> {
        let first = Role::ControlReceive.index();
        let [receive, transmit] = &mut parts.rings[first..first + 2] else {
            unreachable!("two queues");
        };
        if !receive.is_running() || !transmit.is_running() {
            return Ok(false);
        }
        let memory: &Memory = parts.memory;
        let before = [receive.queue().next_used(), transmit.queue().next_used()];
        let (to, from) = (receive.queue(), transmit.queue());
        let control = parts.device.console.handle_control(memory, to, from)?;
        let [before_to, before_from] = before;
        notify(receive, Role::ControlReceive, memory, before_to)?;
        notify(transmit, Role::ControlTransmit, memory, before_from)?;
        happened.extend(control.events.into_iter().map(Happened::Port));
        Ok(control.again)
    }

    pub(super) fn receive<T>(
        &mut self,
        port: u32,
        take: impl FnOnce(&mut Received<'_, Memory, Queue>) -> T,
    ) -> Option<T> {
        let Link::Connected(connection) = &mut self.link else {
            return None;
        };
        match receive(&mut connection.parts(), port, take) {
            Ok(taken) => taken,
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    pub(super) fn send<S: Source>(&mut self, port: u32, source: &mut S) -> Result<Sent, Error> {
        let stop = Stop::Closed;
        let nothing = Sent { bytes: 0, stop };
        let Link::Connected(connection) = &mut self.link else {
            return Ok(nothing);
        };
        match send(&mut connection.parts(), port, source) {
            Ok(sent) => {
                if let Some(way) = self.ports.get_mut(port as usize) {
                    way.wants_room = sent.stop == Stop::NoBuffers;
                }
                Ok(sent)
            }
            Err(error @ Error::Device(crate::device::Error::Source(_))) => Err(error),
            Err(error) => {
                self.fail(error);
                Ok(nothing)
            }
        }
    }
}

impl AsFd for Carrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("listener", &self.listener)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}
