//! The switch's thread: one epoll loop over all sockets.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};

use super::capture::Capture;
use super::fabric::Fabric;
use super::observe::{OBSERVERS_MAX, Observer, Sink};
use super::port::Transport;
use super::settle::Settling;
use super::sockets;
use super::token::Token;
use super::vde::{self, Directory};
use crate::error::Error;
use crate::state::PortId;
use crate::sys::RecvBatch;
use crate::wire::stream::Deframer;
use crate::wire::vde::{BadRequest, REQUEST_MAX, Request};

/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 256;

/// VDE clients that have connected and not said yet what they want, at most; the one that waits for longest has to
/// go for a new one.
const HANDSHAKES_MAX: usize = 64;

/// How often listeners that ran out of descriptors, and datagram ports, look again.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Something for the switch's thread to do.
pub(super) type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// All that the switch's thread owns.
pub(super) struct Engine {
    pub(super) fabric: Fabric,
    jobs: Receiver<Job>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) listeners: Vec<Listener>,
    handshakes: Vec<Handshake>,
    next_handshake: u32,
    upkeep_at: Option<Instant>,
    is_stopping: bool,
    pub(super) is_paused: bool,
    pub(super) settling: Vec<Settling>,
}

/// Where connections come in.
pub(super) enum Listener {
    Vde(Directory),
    Stream {
        socket: OwnedFd,
        path: PathBuf,
    },
    #[cfg(feature = "vhost-user")]
    VhostUser {
        socket: OwnedFd,
        path: PathBuf,
    },
}

struct Handshake {
    number: u32,
    listener: u32,
    control: OwnedFd,
    request: Vec<u8>,
}

impl Engine {
    pub(super) fn new(fabric: Fabric, jobs: Receiver<Job>, wake: Arc<OwnedFd>) -> Engine {
        Engine {
            fabric,
            jobs,
            wake,
            listeners: Vec::new(),
            handshakes: Vec::new(),
            next_handshake: 0,
            upkeep_at: None,
            is_stopping: false,
            is_paused: false,
            settling: Vec::new(),
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut batch = RecvBatch::new();
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        while !self.is_stopping {
            if self.is_paused {
                self.stand_still();
                self.end_settling();
                continue;
            }
            let wake_at = match (self.upkeep_at, self.fabric.ruled.delayed.next_due()) {
                (Some(upkeep), Some(due)) => Some(upkeep.min(due)),
                (upkeep, due) => upkeep.or(due),
            };
            let is_busy = self.fabric.is_busy() || !self.settling.is_empty();
            let wake_at = if is_busy {
                Some(Instant::now())
            } else {
                wake_at
            };
            let timeout = wake_at.map(|at| timespec(at.saturating_duration_since(Instant::now())));
            let events = match epoll::wait(self.fabric.epoll(), &mut events, timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => continue,
                Err(_) => break, // Not possible with an epoll descriptor of ours.
            };
            let now = Instant::now();
            self.release(now);
            for event in events {
                let (data, flags) = (event.data, event.flags);
                if let Some(token) = Token::from_u64(data.u64()) {
                    self.handle_event(now, token, flags, &mut batch);
                }
            }
            #[cfg(feature = "vhost-user")]
            self.fabric.handle_busy(now);
            self.release(now);
            if self.upkeep_at.is_some_and(|at| at <= now) {
                self.handle_upkeep(now);
            }
            self.fabric.observers.retain_mut(Observer::end_round);
            self.end_settling();
        }
        for observer in self.fabric.observers {
            if let Sink::Capture(capture) = observer.sink {
                let _ = capture.finish(); // Nobody asked for it: there is nobody to tell.
            }
        }
    }

    /// Has frames go on that have waited long enough.
    #[inline]
    fn release(&mut self, now: Instant) {
        if self
            .fabric
            .ruled
            .delayed
            .next_due()
            .is_some_and(|due| due <= now)
        {
            self.fabric.release(now);
        }
    }

    fn handle_event(
        &mut self,
        now: Instant,
        token: Token,
        flags: EventFlags,
        batch: &mut RecvBatch,
    ) {
        match token {
            Token::Data(id) => {
                if flags.contains(EventFlags::OUT) {
                    self.fabric.handle_writable(now, id);
                }
                if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
                    self.fabric.handle_readable(now, id, batch);
                }
            }
            Token::Control(id) => self.handle_control(id),
            Token::Listener(number) => {
                self.handle_connection(number);
            }
            Token::Handshake(number) => self.handle_handshake(number),
            Token::Wake => self.handle_jobs(),
            #[cfg(feature = "vhost-user")]
            Token::Guest(id, number) => self.fabric.handle_guest(now, id, number),
            #[cfg(not(feature = "vhost-user"))]
            Token::Guest(..) => {}
        }
    }

    pub(super) fn handle_jobs(&mut self) {
        let _ = rustix::io::read(self.wake.as_fd(), &mut [0_u8; 8]);
        while let Ok(job) = self.jobs.try_recv() {
            job(self);
        }
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn add_listener(&mut self, listener: Listener) -> Result<(), Error> {
        let number = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        let data = EventData::new_u64(Token::Listener(number).to_u64());
        epoll::add(self.fabric.epoll(), listener.socket(), data, EventFlags::IN).map_err(
            |errno| Error::Listen {
                path: listener.path().to_owned(),
                source: errno.into(),
            },
        )?;
        self.listeners.push(listener);
        Ok(())
    }

    pub(super) fn add_port(
        &mut self,
        name: String,
        socket: OwnedFd,
        transport: Transport,
    ) -> Result<PortId, Error> {
        let full = Error::Full(self.fabric.ports_max());
        let id = self.fabric.free_id(None).ok_or(full)?;
        let is_dgram = matches!(transport, Transport::Dgram { .. });
        let id = self
            .fabric
            .add(Instant::now(), id, name, socket, transport)?;
        if is_dgram {
            self.upkeep_at = Some(Instant::now());
        }
        Ok(id)
    }

    /// Tells whether a capture can be started.
    pub(super) fn check_capture(&self, path: &Path, is_main: bool) -> Result<(), Error> {
        let mut captures = self.fabric.observers.iter().filter_map(Observer::capture);
        let collides = |capture: &&Capture| capture.path == path || is_main && capture.is_main;
        match captures.find(collides) {
            Some(running) => Err(Error::CaptureRunning(running.path.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn add_observer(&mut self, mut observer: Observer) -> Result<(), Error> {
        let observers = &mut self.fabric.observers;
        observers.retain_mut(Observer::end_round); // Watches may have been dropped since the last round.
        if observers.len() >= OBSERVERS_MAX {
            return Err(Error::TooManyRules(OBSERVERS_MAX));
        }
        for port in self.fabric.ports_mut() {
            observer.add_port(port.id, &port.name);
        }
        self.fabric.observers.push(observer);
        Ok(())
    }

    pub(super) fn take_capture(&mut self, is_it: impl Fn(&Capture) -> bool) -> Option<Capture> {
        let observers = &mut self.fabric.observers;
        let place = observers
            .iter()
            .position(|observer| observer.capture().is_some_and(&is_it))?;
        match observers.remove(place).sink {
            Sink::Capture(capture) => Some(capture),
            Sink::Watch(_) => None,
        }
    }

    /// Accepts all connections that wait.
    pub(super) fn accept_all(&mut self) {
        for number in (0..).take(self.listeners.len()) {
            while self.handle_connection(number) {}
        }
    }

    /// Accepts one connection; epoll comes back for the next. Says whether there was one.
    pub(super) fn handle_connection(&mut self, number: u32) -> bool {
        let Some(listener) = self.listeners.get(number as usize) else {
            return false;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = match rustix::net::accept_with(listener.socket(), flags) {
            Ok(connection) => connection,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                // The connection stays in the backlog; asking again at once would only burn the processor.
                self.fabric.totals.turned_away += 1;
                self.watch_listeners(EventFlags::empty());
                self.upkeep_at
                    .get_or_insert(Instant::now() + UPKEEP_INTERVAL);
                return false;
            }
            Err(_) => return false,
        };
        match listener {
            Listener::Vde(_) => self.begin_handshake(number, connection),
            Listener::Stream { path, .. } => {
                let name = sockets::name_of(path);
                let transport = Transport::Stream(Deframer::default());
                if self.add_port(name, connection, transport).is_err() {
                    self.fabric.totals.turned_away += 1;
                }
            }
            #[cfg(feature = "vhost-user")]
            Listener::VhostUser { path, .. } => {
                let name = sockets::name_of(path);
                if self.add_guest(name, connection.into()).is_err() {
                    self.fabric.totals.turned_away += 1;
                }
            }
        }
        true
    }

    /// Adds a port for a guest whose VMM is at the other end of a connection.
    #[cfg(feature = "vhost-user")]
    pub(super) fn add_guest(
        &mut self,
        name: String,
        stream: std::os::unix::net::UnixStream,
    ) -> Result<PortId, Error> {
        let port_error = |source| Error::Port {
            name: name.clone(),
            source,
        };
        let full = Error::Full(self.fabric.ports_max());
        let id = self.fabric.free_id(None).ok_or(full)?;
        let socket = stream.try_clone().map_err(port_error)?;
        let first_token = Token::Guest(id, 0).to_u64();
        let poller = hotbed_vhost_user::Poller::new(Arc::clone(&self.fabric.epoll), first_token);
        let guest = super::guest::Guest::new(stream, poller)?;
        let transport = Transport::Guest(Box::new(guest));
        self.fabric
            .add(Instant::now(), id, name, socket.into(), transport)
    }

    fn begin_handshake(&mut self, listener: u32, control: OwnedFd) {
        if self.handshakes.len() >= HANDSHAKES_MAX {
            self.handshakes.remove(0);
            self.fabric.totals.turned_away += 1;
        }
        let number = self.next_handshake;
        self.next_handshake = number.wrapping_add(1);
        let data = EventData::new_u64(Token::Handshake(number).to_u64());
        match epoll::add(self.fabric.epoll(), &control, data, EventFlags::IN) {
            Ok(()) => {
                self.handshakes.push(Handshake {
                    number,
                    listener,
                    control,
                    request: Vec::new(),
                });
            }
            Err(_) => self.fabric.totals.turned_away += 1,
        }
    }

    fn handle_handshake(&mut self, number: u32) {
        let Some(place) = self.handshakes.iter().position(|one| one.number == number) else {
            return;
        };
        let handshake = &mut self.handshakes[place];
        let mut bytes = [0; REQUEST_MAX];
        let room = &mut bytes[handshake.request.len().min(REQUEST_MAX)..];
        let len = match rustix::net::recv(&handshake.control, &mut *room, RecvFlags::DONTWAIT) {
            Ok((len, _)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => 0,
        };
        handshake.request.extend_from_slice(&room[..len]);
        match Request::parse(&handshake.request) {
            Err(BadRequest::Short) if len > 0 => {} // The rest is on its way.
            parsed => {
                let wanted = parsed.is_ok();
                let Handshake {
                    listener,
                    control,
                    request,
                    ..
                } = self.handshakes.remove(place);
                let done = wanted && self.admit(listener, control, &request).is_some();
                self.fabric.totals.turned_away += u64::from(!done);
            }
        }
    }

    /// Gives a VDE client a port; `None` if that is not possible, and then its connection is closed.
    fn admit(&mut self, listener: u32, control: OwnedFd, request: &[u8]) -> Option<()> {
        let Listener::Vde(directory) = self.listeners.get(listener as usize)? else {
            return None;
        };
        let request = Request::parse(request).ok()?;
        let id = self.fabric.free_id(request.port)?;
        let (socket, path) = directory.open_port(id, request.path).ok()?;
        let data = EventData::new_u64(Token::Control(id).to_u64());
        let watched = epoll::modify(self.fabric.epoll(), &control, data, EventFlags::IN);
        let answered = vde::answer(&control, &path);
        let transport = Transport::Vde { control, path };
        watched.ok()?;
        let id = self
            .fabric
            .add(
                Instant::now(),
                id,
                vde::name_of(&request),
                socket,
                transport,
            )
            .ok()?;
        if answered.is_err() {
            self.fabric.close(id);
            return None;
        }
        Some(())
    }

    /// A VDE client says nothing after its request, until it hangs up.
    fn handle_control(&mut self, id: PortId) {
        let Some(port) = self.fabric.port_mut(id) else {
            return;
        };
        let Transport::Vde { control, .. } = &port.transport else {
            return;
        };
        match rustix::net::recv(control, &mut [0_u8; REQUEST_MAX], RecvFlags::DONTWAIT) {
            Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => {
                self.fabric.close(id);
            }
        }
    }

    fn handle_upkeep(&mut self, now: Instant) {
        self.watch_listeners(EventFlags::IN);
        let mut dgram_ports = 0;
        for port in self.fabric.ports_mut() {
            if matches!(port.transport, Transport::Dgram { .. }) {
                dgram_ports += 1;
                port.find_peer(now);
            }
        }
        self.upkeep_at = (dgram_ports > 0).then(|| now + UPKEEP_INTERVAL);
    }

    fn watch_listeners(&self, flags: EventFlags) {
        for (number, listener) in (0..).zip(&self.listeners) {
            let data = EventData::new_u64(Token::Listener(number).to_u64());
            // It fails only for a descriptor that epoll does not have.
            let _ = epoll::modify(self.fabric.epoll(), listener.socket(), data, flags);
        }
    }
}

impl Listener {
    fn socket(&self) -> &OwnedFd {
        match self {
            Listener::Vde(directory) => &directory.listener,
            Listener::Stream { socket, .. } => socket,
            #[cfg(feature = "vhost-user")]
            Listener::VhostUser { socket, .. } => socket,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Listener::Vde(directory) => &directory.path,
            Listener::Stream { path, .. } => path,
            #[cfg(feature = "vhost-user")]
            Listener::VhostUser { path, .. } => path,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        match self {
            Listener::Vde(_) => {} // It removes its folder itself.
            Listener::Stream { path, .. } => sockets::unlink(path),
            #[cfg(feature = "vhost-user")]
            Listener::VhostUser { path, .. } => sockets::unlink(path),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    })
}
