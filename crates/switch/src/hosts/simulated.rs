//! Simulated hosts: as many as a big network has, at the cost of few.
//!
//! Addresses are counted up from a first one, so that no table holds the hosts: who has an address, and what its station is, is
//! computed. What a host keeps is its TCP connections, in `tcp`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use smoltcp::wire::IpProtocol;

use self::tcp::Tcp;
use super::answer::{Owners, answer, is_for_owner};
use super::{Hosts, Outbox};
use crate::wire::MacAddr;

mod tcp;

pub use tcp::{CONNECTIONS_MAX, ECHO_PORT, HTTP_PORT};

/// Most hosts on a port: a /16 of IPv4 without its first and its last address.
pub const HOSTS_MAX: u32 = 65_534;

/// The start of the stations of simulated hosts: locally administered. The host's IPv4 address follows.
pub const MAC_PREFIX: [u8; 2] = [0x02, 0x48];

/// What simulated hosts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// How many there are: at least one, and at most [`HOSTS_MAX`].
    pub count: u32,
    /// The address of the first one; the others follow.
    pub first: Ipv4Addr,
    /// The first 96 bits of their IPv6 addresses; the last 32 bits are their IPv4 address.
    pub prefix: Ipv6Addr,
    /// Whether they give back what is sent to TCP port 7.
    pub echo: bool,
    /// Whether they say their address on TCP port 80.
    pub http: bool,
}

/// A simulated host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its station.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
}

impl Profile {
    /// The host of that index, from 0 on.
    #[must_use]
    pub fn host(&self, index: u32) -> Option<Host> {
        let number = self.first.to_bits().checked_add(index)?;
        (index < self.count).then(|| self.host_of(number))
    }

    fn host_of(&self, number: u32) -> Host {
        let [a, b, c, d] = number.to_be_bytes();
        let [x, y] = MAC_PREFIX;
        Host {
            mac: MacAddr([x, y, a, b, c, d]),
            ipv4: Ipv4Addr::from_bits(number),
            ipv6: with_low_bits(self.prefix, number),
        }
    }

    /// Tells whether the hosts' number and addresses can be.
    fn is_possible(&self) -> bool {
        let is_unicast = |address: Ipv4Addr| {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        };
        let last = self.count.checked_sub(1).and_then(|index| self.host(index));
        self.count <= HOSTS_MAX
            && is_unicast(self.first)
            && last.is_some_and(|last| is_unicast(last.ipv4))
            && !self.prefix.is_multicast()
    }
}

impl Owners for Profile {
    fn owner(&self, address: IpAddr) -> Option<MacAddr> {
        let number = match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => {
                let number = (address.to_bits() & u128::from(u32::MAX)) as u32;
                let is_ours = address == with_low_bits(self.prefix, number)
                    || address == with_low_bits(LINK_LOCAL, number);
                is_ours.then_some(number)?
            }
        };
        let index = number.checked_sub(self.first.to_bits())?;
        self.host(index).map(|host| host.mac)
    }
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

fn with_low_bits(prefix: Ipv6Addr, number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() & !u128::from(u32::MAX) | u128::from(number))
}

/// Hosts that answer ARP, neighbour solicitations and ping, and have TCP services.
#[derive(Debug)]
pub struct Simulated {
    profile: Profile,
    tcp: Tcp,
}

impl Simulated {
    /// Makes the hosts; `None` if there is none, there are too many, or an address is not for one host alone.
    #[must_use]
    pub fn new(now: Instant, seed: u64, profile: &Profile) -> Option<Simulated> {
        profile.is_possible().then(|| Simulated {
            tcp: Tcp::new(now, seed, profile),
            profile: profile.clone(),
        })
    }

    /// What the hosts are.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How many TCP connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tcp.connections()
    }

    /// Forgets all connections; their peers are told so when they send again.
    pub fn forget_connections(&mut self) {
        self.tcp.forget();
    }
}

impl Hosts for Simulated {
    fn handle_frame(&mut self, now: Instant, frame: &[u8], out: &mut Outbox) {
        let Some(packet) = answer(&self.profile, frame, out) else {
            return;
        };
        if packet.ip.next_header() == IpProtocol::Tcp && is_for_owner(&self.profile, &packet) {
            self.tcp.handle_packet(now, &packet, &self.profile, out);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant> {
        self.tcp.poll(now, &self.profile, out)
    }
}

#[cfg(test)]
pub(super) mod tests;
