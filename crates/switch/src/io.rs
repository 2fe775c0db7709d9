//! Reads sockets, asks the state, writes sockets. The only part that may block.
//!
//! - [`Switch`]: the handle. What it is asked becomes a job for the switch's thread.
//! - `engine`: that thread: one epoll loop. `fabric` has the ports; `port` sends and queues.
//! - `forward`: the way of a frame. `rule`, `ruled`: that way where something was asked of ports and links.
//! - `vde`, `sockets`, `tap`, `vxlan`, `local`, `hosts`: how ports come to be. `observe`: who looks on;
//!   `watch`: the program; `record`, `capture`: a file, and the thread that writes it.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SocketType;

use self::engine::{Engine, Job, Listener};
use self::fabric::Fabric;
use self::local::Queues;
use self::port::{Peer, Transport};
use self::token::Token;
use self::vde::Directory;
use self::vxlan::Tunnel;
use crate::error::Error;
use crate::report::{LostPort, PortInfo, StationInfo, Totals};
use crate::state::delay::{DELAYED_BYTES_MAX, DELAYED_FRAMES_MAX};
use crate::state::queue::{QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX};
use crate::state::{PortId, STATION_TTL, STATIONS_MAX, Stations};
use crate::wire::stream::Deframer;

mod capture;
mod engine;
mod fabric;
mod forward;
mod freeze;
#[cfg(feature = "vhost-user")]
mod guest;
#[cfg(feature = "hosts")]
mod hosts;
mod local;
mod observe;
mod port;
mod record;
mod rule;
mod ruled;
mod settle;
mod sockets;
mod tap;
mod token;
mod vde;
mod vxlan;
mod watch;

#[cfg(feature = "hosts")]
pub use hosts::HostPort;
pub use local::{LocalPort, RecvError, SendError};
pub use observe::Selection;
pub use vxlan::Vxlan;
pub use watch::{OTHERS_MAX, SIGHTINGS_MAX, Watch};

/// Ports that a switch has at most, unless it is told otherwise.
pub const PORTS_MAX: usize = 1024;

/// What a switch is called, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the VLAN, for messages and for the thread: `vlan1`.
    pub name: String,
    /// Most ports at a time.
    pub ports_max: usize,
    /// Most stations in the table.
    pub stations_max: usize,
    /// How long a silent station is remembered.
    pub station_ttl: Duration,
    /// Most frames that wait for one slow port.
    pub queue_frames_max: usize,
    /// Most bytes that wait for one slow port.
    pub queue_bytes_max: usize,
    /// Most frames that are under way on impaired links.
    pub delayed_frames_max: usize,
    /// Most bytes that they take up.
    pub delayed_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "vlan".to_owned(),
            ports_max: PORTS_MAX,
            stations_max: STATIONS_MAX,
            station_ttl: STATION_TTL,
            queue_frames_max: QUEUE_FRAMES_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            delayed_frames_max: DELAYED_FRAMES_MAX,
            delayed_bytes_max: DELAYED_BYTES_MAX,
        }
    }
}

/// A running switch. Dropping it stops its thread and removes its sockets.
///
/// It can be used from many threads at once.
#[derive(Debug)]
pub struct Switch {
    name: String,
    jobs: Sender<Job>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch without ports.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] when the host has no thread or descriptor left.
    pub fn start(config: Config) -> Result<Switch, Error> {
        let name = config.name.clone();
        let start_error = |source| Error::Start {
            name: name.clone(),
            source,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| start_error(errno.into()))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| start_error(errno.into()))?;
        let wake_data = EventData::new_u64(Token::Wake.to_u64());
        epoll::add(&epoll, &wake, wake_data, EventFlags::IN)
            .map_err(|errno| start_error(errno.into()))?;
        let wake = Arc::new(wake);
        let (jobs, queue) = channel();
        let for_thread = Arc::clone(&wake);
        let thread = thread::Builder::new()
            .name(name.replace('\0', "?"))
            .spawn(move || {
                // Wake-ups for impaired frames are to come in time. If it is refused, they come 50 µs late.
                let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
                let (stations_max, ttl) = (config.stations_max, config.station_ttl);
                let stations = Stations::new(Instant::now(), stations_max, ttl, secret_seed());
                let fabric = Fabric::new(config, Arc::new(epoll), stations);
                Engine::new(fabric, queue, for_thread).run();
            });
        let thread = Some(thread.map_err(start_error)?);
        Ok(Switch {
            name,
            jobs,
            wake,
            thread,
        })
    }

    /// Takes VDE clients at `dir`, which is made if it is not there (mode 0700), as is `dir/ctl`.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when the socket cannot be made.
    pub fn listen_vde(&self, dir: &Path) -> Result<(), Error> {
        let listener = Directory::listen(dir).map_err(|source| Error::Listen {
            path: dir.to_owned(),
            source,
        })?;
        self.call(|engine| engine.add_listener(Listener::Vde(listener)))?
    }

    /// Takes connections of `qemu -netdev stream,server=off` at `path`: a port for each.
    ///
    /// A port is named after the file: `server` for `/run/server.sock`.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when the socket cannot be made.
    pub fn listen_stream(&self, path: &Path) -> Result<(), Error> {
        let path = path.to_owned();
        let socket = sockets::listen(&path).map_err(|source| Error::Listen {
            path: path.clone(),
            source,
        })?;
        self.call(|engine| engine.add_listener(Listener::Stream { socket, path }))?
    }

    /// Takes connections of vhost-user front ends at `path`: a port for each guest, which shares its memory.
    ///
    /// That is QEMU with `-chardev socket,id=c,path=… -netdev vhost-user,id=n,chardev=c`, User-mode Linux with
    /// `virtio_uml.device=…:1`, DPDK with `--vdev net_virtio_user0,path=…`. A port is named after the file.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when the socket cannot be made.
    #[cfg(feature = "vhost-user")]
    pub fn listen_vhost_user(&self, path: &Path) -> Result<(), Error> {
        let path = path.to_owned();
        let socket = sockets::listen(&path).map_err(|source| Error::Listen {
            path: path.clone(),
            source,
        })?;
        self.call(|engine| engine.add_listener(Listener::VhostUser { socket, path }))?
    }

    /// Adds a port for a guest that shares its memory, by the vhost-user front end at the other end of a stream.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the socket cannot be used.
    #[cfg(feature = "vhost-user")]
    pub fn add_vhost_user(&self, stream: UnixStream, name: &str) -> Result<PortId, Error> {
        let name = name.to_owned();
        self.call(|engine| engine.add_guest(name, stream))?
    }

    /// Adds a port that speaks `-netdev stream` over a connected socket.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the socket cannot be used.
    pub fn add_stream(&self, stream: UnixStream, name: &str) -> Result<PortId, Error> {
        let name = name.to_owned();
        let transport = Transport::Stream(Deframer::default());
        self.call(|engine| engine.add_port(name, stream.into(), transport))?
    }

    /// Adds a port that speaks `-netdev dgram`: it receives at `local` and sends to `remote`.
    ///
    /// `remote` need not exist yet, and may be made anew: the switch looks for it again and again.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the socket cannot be made.
    pub fn add_dgram(&self, local: &Path, remote: &Path, name: &str) -> Result<PortId, Error> {
        let name = name.to_owned();
        let port_error = |source| Error::Port {
            name: name.clone(),
            source,
        };
        let socket = sockets::datagram().map_err(port_error)?;
        sockets::bind(socket.as_fd(), local, SocketType::DGRAM).map_err(port_error)?;
        let (local, remote) = (local.to_owned(), remote.to_owned());
        let peer = Peer::Gone {
            look_again: Instant::now(),
        };
        let transport = Transport::Dgram {
            local,
            remote,
            peer,
        };
        self.call(|engine| engine.add_port(name, socket, transport))?
    }

    /// Adds a port that is an interface of the network namespace that the caller is in: a tap.
    ///
    /// The interface is made, and goes with the port; or it is there already, made with `ip tuntap add … mode tap`. The
    /// port has the name of the interface. With `%d` in it, the kernel puts a number there.
    ///
    /// Frames have no offloads: the kernel computes each checksum and cuts each segment itself.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`]: without `CAP_NET_ADMIN` in the namespace, for example.
    pub fn add_tap(&self, interface: &str) -> Result<PortId, Error> {
        let (tap, name) = tap::open(interface).map_err(|source| Error::Port {
            name: interface.to_owned(),
            source,
        })?;
        self.call(|engine| engine.add_port(name, tap, Transport::Tap))?
    }

    /// Adds a port that joins the same LAN on other hosts, over VXLAN (RFC 7348).
    ///
    /// The kernel's `vxlan` device can be at the other end. Each port needs a UDP port, or an address, of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the sockets cannot be made, or the network does not exist.
    pub fn add_vxlan(&self, config: &Vxlan, name: &str) -> Result<PortId, Error> {
        let name = name.to_owned();
        let tunnel = Tunnel::open(Instant::now(), config, secret_seed());
        let (socket, tunnel) = tunnel.map_err(|source| Error::Port {
            name: name.clone(),
            source,
        })?;
        let transport = Transport::Vxlan(Box::new(tunnel));
        self.call(|engine| engine.add_port(name, socket, transport))?
    }

    /// Adds a port that this program sends and receives by.
    ///
    /// ```
    /// use hotbed_switch::{Config, Switch};
    ///
    /// let switch = Switch::start(Config::default())?;
    /// let (a, b) = (switch.add_local("a")?, switch.add_local("b")?);
    /// let frame = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    /// let frame = [&frame[..], &[0x88, 0xb5], b"hello"].concat();
    /// a.send(&frame)?;
    /// let mut buffer = [0; 1514];
    /// let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    /// let len = b.recv_until(&mut buffer, until)?.expect("a frame, soon");
    /// assert_eq!(buffer[..len], frame);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the host has no descriptor left.
    pub fn add_local(&self, name: &str) -> Result<LocalPort, Error> {
        let name = name.to_owned();
        self.call(move |engine| {
            let port_error = |errno: Errno| Error::Port {
                name: name.clone(),
                source: errno.into(),
            };
            let (frames_max, bytes_max) = engine.fabric.queue_bounds();
            let queues = Queues::new(frames_max, bytes_max).map_err(port_error)?;
            let event = queues.switch_event().map_err(port_error)?;
            let queues = Arc::new(queues);
            let transport = Transport::Local(Arc::clone(&queues));
            let id = engine.add_port(name, event, transport)?;
            Ok(LocalPort::new(id, queues))
        })?
    }

    /// Takes a port off the switch.
    ///
    /// # Errors
    ///
    /// [`Error::NoPort`] when it is gone already.
    pub fn remove(&self, port: PortId) -> Result<(), Error> {
        let was_there = self.call(move |engine| engine.fabric.close(port))?;
        if was_there {
            Ok(())
        } else {
            Err(Error::NoPort(port))
        }
    }

    /// Lists the ports as they are now, by number.
    pub fn ports(&self) -> Vec<PortInfo> {
        self.call(|engine| engine.fabric.infos())
            .unwrap_or_default()
    }

    /// Lists the ports that were taken off because their peers broke the rules, the latest first. Some are remembered.
    pub fn lost_ports(&self) -> Vec<LostPort> {
        self.call(|engine| engine.fabric.lost.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Lists the stations that are known now, by address.
    pub fn stations(&self) -> Vec<StationInfo> {
        self.call(|engine| engine.fabric.stations.known(Instant::now()))
            .unwrap_or_default()
    }

    /// Says what the switch did so far.
    pub fn totals(&self) -> Totals {
        self.call(|engine| engine.fabric.totals())
            .unwrap_or_default()
    }

    /// Gives the name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has the switch's thread do something, and waits for what it says.
    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answers) = sync_channel(1);
        let job: Job = Box::new(move |engine| {
            let _ = answer.send(job(engine));
        });
        let stopped = || Error::Stopped(self.name.clone());
        self.jobs.send(job).map_err(|_| stopped())?;
        self.wake();
        answers.recv().map_err(|_| stopped())
    }

    fn wake(&self) {
        // It fails only when 2^64 calls were not seen yet; then the thread is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let stop: Job = Box::new(Engine::stop);
        if self.jobs.send(stop).is_ok() {
            self.wake();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic there was printed already.
        }
    }
}

/// Draws what places stations in their buckets.
fn secret_seed() -> [u64; 2] {
    [0_u64, 1].map(|number| RandomState::new().hash_one(number))
}
