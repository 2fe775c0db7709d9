//! TCP of all simulated hosts: one smoltcp interface that takes packets for any address, and a socket for each connection.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration as Span, Instant as Time};
use smoltcp::wire::{
    EthernetProtocol, HardwareAddress, IpEndpoint, IpListenEndpoint, IpVersion, Ipv4Packet,
    Ipv6Packet, TcpPacket,
};

use super::{Owners, Profile};
use crate::hosts::packet::{Outbox, Packet, Stations};
use crate::wire::MacAddr;

/// Where hosts give back what they get (RFC 862).
pub const ECHO_PORT: u16 = 7;

/// Where hosts say their address.
pub const HTTP_PORT: u16 = 80;

/// Most connections of all hosts of a port. Who asks for one more gets no answer, and asks again.
pub const CONNECTIONS_MAX: usize = 512;

/// Most bytes that wait in a connection, each way. It is also the most of a request's head.
const BUFFER_LEN: usize = 4096;

/// Payload of a frame of these hosts, at most.
const MTU: usize = 1500;

/// How long a peer may leave something unacknowledged.
const PEER_GONE: Span = Span::from_secs(60);

/// How often a silent peer is asked whether it is there.
const KEEP_ALIVE: Span = Span::from_secs(30);

pub(super) struct Tcp {
    epoch: Instant,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    services: Vec<u16>,
}

#[derive(Debug)]
struct Connection {
    handle: SocketHandle,
    /// Who began it, and from and to where.
    station: MacAddr,
    local: IpEndpoint,
    remote: IpEndpoint,
    /// What has come of an HTTP request.
    request: Vec<u8>,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Tcp {
    pub(super) fn new(now: Instant, seed: u64, profile: &Profile) -> Tcp {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut wire = Wire::default();
        let mut interface = Interface::new(config, &mut wire, Time::ZERO);
        interface.set_any_ip(true);
        let echo = profile.echo.then_some(ECHO_PORT);
        Tcp {
            epoch: now,
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            services: echo
                .into_iter()
                .chain(profile.http.then_some(HTTP_PORT))
                .collect(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn forget(&mut self) {
        for connection in self.connections.drain(..) {
            self.sockets.remove(connection.handle);
        }
    }

    /// Takes a packet for one of the hosts.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        owners: &Profile,
        out: &mut Outbox,
    ) {
        let Ok(segment) = TcpPacket::new_checked(packet.payload) else {
            return;
        };
        let local = IpEndpoint::new(packet.ip.dst_addr(), segment.dst_port());
        let remote = IpEndpoint::new(packet.ip.src_addr(), segment.src_port());
        let is_known =
            |connection: &Connection| (connection.local, connection.remote) == (local, remote);
        let is_new = segment.syn() && !segment.ack() && !self.connections.iter().any(is_known);
        if is_new && remote.port != 0 && self.services.contains(&local.port) {
            if self.connections.len() == CONNECTIONS_MAX {
                return;
            }
            if let Some(handle) = self.listen(local) {
                let (station, request) = (packet.stations.source, Vec::new());
                self.connections.push(Connection {
                    handle,
                    station,
                    local,
                    remote,
                    request,
                });
            }
        }
        self.wire.incoming = Some(packet.whole.to_vec());
        self.work(now);
        self.send(owners, Some(packet), out);
        self.reap();
    }

    /// Sends what is due.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        owners: &Profile,
        out: &mut Outbox,
    ) -> Option<Instant> {
        if self.connections.is_empty() {
            return None;
        }
        self.work(now);
        self.send(owners, None, out);
        self.reap();
        let due = self.interface.poll_at(self.time(now), &self.sockets)?;
        Some(self.epoch + Duration::from_micros(u64::try_from(due.total_micros()).unwrap_or(0)))
    }

    fn time(&self, now: Instant) -> Time {
        let since = now.saturating_duration_since(self.epoch).as_micros();
        Time::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }

    fn listen(&mut self, local: IpEndpoint) -> Option<SocketHandle> {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_LEN]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_timeout(Some(PEER_GONE));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        // The last acknowledgement is to be out before the connection is forgotten.
        socket.set_ack_delay(None);
        socket.listen(IpListenEndpoint::from(local)).ok()?;
        Some(self.sockets.add(socket))
    }

    fn work(&mut self, now: Instant) {
        let time = self.time(now);
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut::<Socket<'_>>(connection.handle);
            match connection.local.port {
                ECHO_PORT => echo(socket),
                _ => connection.serve(socket),
            }
        }
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
    }

    /// Puts what smoltcp sends into frames. A packet for nobody that is known answers the one that has just come.
    fn send(&mut self, owners: &Profile, cause: Option<&Packet<'_>>, out: &mut Outbox) {
        for packet in self.wire.outgoing.drain(..) {
            let Some((ethertype, source, target)) = addresses(&packet) else {
                continue;
            };
            let cause = cause.filter(|cause| cause.source() == target);
            let known = || {
                self.connections
                    .iter()
                    .find(|known| IpAddr::from(known.remote.addr) == target)
                    .map(|known| known.station)
            };
            let station = cause.map(|cause| cause.stations.source).or_else(known);
            if let (Some(source), Some(target)) = (owners.owner(source), station) {
                let stations = Stations { source, target };
                out.push(stations, ethertype, packet.len(), |bytes| {
                    bytes.copy_from_slice(&packet)
                });
            }
        }
    }

    /// Forgets connections that are over, or did not come about.
    fn reap(&mut self) {
        let sockets = &mut self.sockets;
        self.connections.retain(|connection| {
            let state = sockets.get::<Socket<'_>>(connection.handle).state();
            let is_over = matches!(state, State::Closed | State::Listen | State::TimeWait);
            if is_over {
                sockets.remove(connection.handle);
            }
            !is_over
        });
    }
}

/// Gives back what has come, as far as there is room for it.
fn echo(socket: &mut Socket<'_>) {
    let mut bytes = [0; BUFFER_LEN];
    let room = socket.send_capacity() - socket.send_queue();
    if socket.can_recv() && socket.may_send() {
        let len = socket
            .recv_slice(&mut bytes[..room.min(BUFFER_LEN)])
            .unwrap_or(0);
        // There is room for it.
        let _ = socket.send_slice(&bytes[..len]);
    }
    if socket.state() == State::CloseWait && !socket.can_recv() {
        socket.close();
    }
}

impl Connection {
    /// Says the host's address to whoever asks by HTTP.
    fn serve(&mut self, socket: &mut Socket<'_>) {
        if !socket.may_send() {
            return;
        }
        let mut bytes = [0; BUFFER_LEN];
        while let Ok(len @ 1..) = socket.recv_slice(&mut bytes) {
            let room = BUFFER_LEN - self.request.len();
            self.request.extend_from_slice(&bytes[..len.min(room)]);
        }
        let is_whole = [&b"\r\n\r\n"[..], b"\n\n"]
            .iter()
            .any(|end| self.request.windows(end.len()).any(|bytes| bytes == *end));
        if is_whole || self.request.len() == BUFFER_LEN {
            let (status, body, is_sent) = match &self.request[..] {
                _ if !is_whole => ("431 Request Header Fields Too Large", String::new(), true),
                [b'G', b'E', b'T', b' ', ..] => ("200 OK", format!("{}\n", self.local.addr), true),
                [b'H', b'E', b'A', b'D', b' ', ..] => {
                    ("200 OK", format!("{}\n", self.local.addr), false)
                }
                _ => ("501 Not Implemented", String::new(), true),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // An empty buffer has room for it.
            let _ = socket.send_slice(head.as_bytes());
            let _ = socket.send_slice(if is_sent { body.as_bytes() } else { &[] });
            socket.close();
        } else if socket.state() == State::CloseWait {
            socket.close();
        }
    }
}

/// The type of an IP packet, and where it is from and for.
fn addresses(packet: &[u8]) -> Option<(EthernetProtocol, IpAddr, IpAddr)> {
    let ip = IpVersion::of_packet(packet).ok()?;
    Some(match ip {
        IpVersion::Ipv4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            (
                EthernetProtocol::Ipv4,
                packet.src_addr().into(),
                packet.dst_addr().into(),
            )
        }
        IpVersion::Ipv6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            (
                EthernetProtocol::Ipv6,
                packet.src_addr().into(),
                packet.dst_addr().into(),
            )
        }
    })
}

/// What is between smoltcp and us: one packet in, and those that go out.
#[derive(Debug, Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Incoming(Vec<u8>);

struct Outgoing<'w>(&'w mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Time) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Time) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut packet = vec![0; len];
        let filled = fill(&mut packet);
        self.0.push_back(packet);
        filled
    }
}
