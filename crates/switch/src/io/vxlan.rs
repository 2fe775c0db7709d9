//! VXLAN tunnels: the same LAN on other hosts.
//!
//! All tunnel ends at the far side are behind one port of ours, so that what comes from one of them is never sent to
//! another: they are expected to know each other. Which station is behind which end is learned, as RFC 7348 says.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::report::Counters;
use crate::state::{PortId, STATION_TTL, STATIONS_MAX, Stations};
use crate::sys::{self, BATCH, RecvBatch};
use crate::wire::vxlan::{self, HEADER_LEN};
use crate::wire::{Frame, Span};

/// Tunnel ends at the far side at most.
pub(super) const REMOTES_MAX: usize = 256;

/// A VXLAN network that a port is part of.
///
/// Mind a kernel's `vxlan` device that sends through a veth pair: it leaves the checksums of TCP in the tunnel to a network
/// card that never sees them. `ethtool --offload VETH tx off` on its side makes them whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// Where datagrams come in; the usual port is [`wire::vxlan::PORT`](crate::wire::vxlan::PORT).
    pub local: SocketAddr,
    /// Where datagrams go: the other hosts. What comes from anywhere else is dropped; its UDP port does not matter.
    pub remotes: Vec<SocketAddr>,
    /// The network's identifier (VNI), of 24 bits.
    pub network: u32,
}

/// The sending side of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    header: [u8; HEADER_LEN],
    network: u32,
    remotes: Vec<Remote>,
    /// Who is behind which remote; its place, and not a port, is in the ids.
    stations: Stations,
}

#[derive(Debug)]
struct Remote {
    address: SocketAddr,
    /// Connected, so that what it cannot reach is told.
    socket: OwnedFd,
}

impl Tunnel {
    /// Makes the sockets: the one that receives, and those that send.
    pub(super) fn open(
        now: Instant,
        config: &Vxlan,
        seed: [u64; 2],
    ) -> io::Result<(OwnedFd, Tunnel)> {
        let are_alike = |remote: &SocketAddr| remote.is_ipv4() == config.local.is_ipv4();
        if config.network > vxlan::NETWORK_MAX
            || config.remotes.len() > REMOTES_MAX
            || !config.remotes.iter().all(are_alike)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let receiver = udp_socket(config.local)?;
        let open_remote = |address: &SocketAddr| {
            let mut from = config.local;
            from.set_port(0);
            let socket = udp_socket(from)?;
            rustix::net::connect(&socket, address)?;
            let address = *address;
            Ok(Remote { address, socket })
        };
        let remotes = config.remotes.iter().map(open_remote);
        let tunnel = Tunnel {
            header: vxlan::header(config.network),
            network: config.network,
            remotes: remotes.collect::<io::Result<_>>()?,
            stations: Stations::new(now, STATIONS_MAX, STATION_TTL, seed),
        };
        Ok((receiver, tunnel))
    }

    /// Takes the datagrams of this network; gives how many. A frame lies [`HEADER_LEN`] bytes behind the start of each.
    pub(super) fn recv(
        &mut self,
        now: Instant,
        socket: &OwnedFd,
        batch: &mut RecvBatch,
        counters: &mut Counters,
    ) -> usize {
        let mut budget = BATCH; // Of datagrams, whether they are for us or not.
        batch.fill(|room| {
            while budget > 0 {
                budget -= 1;
                let (len, from) =
                    match rustix::net::recvfrom(socket, &mut *room, RecvFlags::DONTWAIT) {
                        Ok((len, _, from)) => (len, from),
                        Err(Errno::INTR) => continue,
                        Err(_) => return None,
                    };
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                let is_from = |remote: &Remote| Some(remote.address.ip()) == from.map(|a| a.ip());
                let remote = self.remotes.iter().position(is_from);
                let datagram = room.get(..len).unwrap_or_default();
                match (remote, vxlan::network_of(datagram)) {
                    (Some(remote), Some(network)) if network == self.network => {
                        if let Some(frame) = Frame::parse(&datagram[HEADER_LEN..]) {
                            self.stations.hear(now, id_of(remote), frame.source());
                        }
                        return Some(len);
                    }
                    _ => counters.drops.foreign += 1,
                }
            }
            None
        })
    }

    /// Sends frames to the remotes that they are for. The kernel takes them or loses them: nothing waits.
    pub(super) fn send(
        &mut self,
        now: Instant,
        bytes: &[u8],
        frames: &[Span],
        counters: &mut Counters,
    ) {
        let (stations, header) = (&self.stations, &self.header);
        for (place, remote) in self.remotes.iter().enumerate() {
            let is_for = |span: &&Span| {
                let target = Frame::parse(span.of(bytes)).map(|frame| frame.target());
                let behind = target.and_then(|target| stations.find(now, target));
                behind.is_none_or(|id| id == id_of(place))
            };
            let mut done = 0;
            let count = frames.iter().filter(is_for).count();
            let mut retried = false;
            while done < count {
                let rest = frames.iter().filter(is_for).skip(done);
                let datagrams = rest.clone().map(|span| [&header[..], span.of(bytes)]);
                match sys::send_batch(remote.socket.as_fd(), datagrams) {
                    Ok(0) => break,
                    Ok(sent) => {
                        for span in rest.take(sent) {
                            counters.frames_out += 1;
                            counters.bytes_out += span.len() as u64;
                        }
                        done += sent;
                    }
                    // What an earlier datagram met is told to a later one, which was not sent then.
                    Err(error) if is_unreachable(&error) && !retried => retried = true,
                    Err(error) => {
                        count_refused(counters, &error);
                        done += 1;
                    }
                }
            }
        }
    }
}

fn is_unreachable(error: &io::Error) -> bool {
    let unreachable = [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH];
    Errno::from_io_error(error).is_some_and(|errno| unreachable.contains(&errno))
}

fn count_refused(counters: &mut Counters, error: &io::Error) {
    let drops = &mut counters.drops;
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOBUFS) => drops.queue_full += 1,
        Some(Errno::MSGSIZE) => drops.oversized += 1,
        _ if is_unreachable(error) => drops.no_peer += 1,
        _ => drops.refused += 1,
    }
}

/// Stands for a remote in the table of stations.
fn id_of(place: usize) -> PortId {
    PortId::new(place as u16, 0) // Below REMOTES_MAX.
}

fn udp_socket(local: SocketAddr) -> io::Result<OwnedFd> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &local)?;
    Ok(socket)
}
