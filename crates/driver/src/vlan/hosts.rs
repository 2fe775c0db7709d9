//! Hosts that are no machines: a gateway, and simulated hosts by the thousand.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hotbed_switch::hosts::gateway::{Gateway, GatewayConfig, Known, Leases};
use hotbed_switch::hosts::simulated::{Host, Profile, Simulated};
use hotbed_switch::{HostPort, MacAddr};

use super::Vlan;
use crate::Error;
use crate::config::network;

/// The gateway's number among the machines of a VLAN: it has the addresses of machine 254.
pub const GATEWAY_NUMBER: u8 = 254;

/// The port of the gateway, for impairments and captures.
pub const GATEWAY_PORT: &str = "gateway";

/// The first number whose address a machine may get that the gateway does not know, if so many machines are not there.
const POOL_FIRST: u8 = 100;

/// Most ports with simulated hosts on a VLAN.
const SIMULATIONS_MAX: usize = 16;

/// The hosts of a VLAN that run in this process.
#[derive(Debug, Default)]
pub(super) struct Hosted {
    /// With its number.
    gateway: Option<(u64, HostPort<Gateway>)>,
    simulations: Vec<(Simulation, HostPort<Simulated>)>,
    /// Count what was started; ports of simulations are named after it.
    gateways: u64,
    simulations_ever: u64,
}

/// Simulated hosts on a port of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    port: String,
    profile: Profile,
}

impl Simulation {
    /// The name of their port.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.profile.count
    }

    /// The host of that index, from 0 on.
    #[must_use]
    pub fn host(&self, index: u32) -> Option<Host> {
        self.profile.host(index)
    }

    fn range(&self) -> [Ipv4Addr; 2] {
        let first = self.profile.first.to_bits();
        [first, first.saturating_add(self.profile.count - 1)].map(Ipv4Addr::from_bits)
    }
}

/// What simulated hosts do beside answering ARP, neighbour solicitations and ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// TCP echo on port 7, and HTTP on port 80.
    Server,
    /// Nothing.
    Quiet,
}

/// IPv4 addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The address without the hosts' bits.
    pub address: Ipv4Addr,
    /// How many bits are the same.
    pub prefix_len: u8,
}

impl Network {
    /// Takes a network as `10.1.0.0/16`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Argument(format!(
                "a network is written as `10.1.0.0/16`, with zeros behind its prefix, not {text:?}"
            ))
        };
        let (address, prefix_len) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix_len = prefix_len.parse().map_err(|_| wrong())?;
        let is_network =
            (8..=30).contains(&prefix_len) && address.to_bits() & (u32::MAX >> prefix_len) == 0;
        is_network
            .then_some(Self {
                address,
                prefix_len,
            })
            .ok_or_else(wrong)
    }

    /// How many hosts fit in: all but the first and the last address.
    fn room(self) -> u32 {
        (u32::MAX >> self.prefix_len) - 1
    }
}

impl Vlan {
    /// Starts the gateway of this VLAN, with the addresses of machine 254: it gives machines their addresses (DHCP, router
    /// advertisements), and knows their names (DNS). Nothing is behind it. Gives its number, for [`Vlan::stop_gateway`].
    ///
    /// # Errors
    ///
    /// When there is one already, when its addresses are taken, or the VLAN is stopped.
    pub fn start_gateway(&self) -> Result<u64, Error> {
        let mut hosted = self.hosted();
        if hosted.gateway.is_some() {
            return Err(Error::Argument(format!(
                "VLAN {} has a gateway",
                self.number
            )));
        }
        self.check_free(
            "gateway",
            [self.gateway_address(); 2],
            self.machine_ranges(),
        )?;
        let simulations = hosted
            .simulations
            .iter()
            .map(|(simulation, _)| (simulation.port.clone(), simulation.range()));
        self.check_free("gateway", [self.gateway_address(); 2], simulations.clone())?;
        let config = self.gateway_config();
        self.check_free("gateway's pool", config.pool, simulations)?;
        let gateway = Gateway::new(Instant::now(), &config);
        let running = self.with_switch(|switch| switch.add_hosts(gateway, GATEWAY_PORT))?;
        hosted.gateways += 1;
        let number = hosted.gateways;
        hosted.gateway = Some((number, running));
        Ok(number)
    }

    /// Ends the gateway of that number, if it runs.
    pub fn stop_gateway(&self, number: u64) {
        let gateway = self
            .hosted()
            .gateway
            .take_if(|(running, _)| *running == number);
        drop(gateway);
    }

    /// The addresses of the gateway of this VLAN.
    #[must_use]
    pub fn gateway_addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        (
            self.gateway_address(),
            network::ipv6(self.number, GATEWAY_NUMBER),
        )
    }

    /// The addresses that the gateway has given to machines that it does not know, with their stations.
    #[must_use]
    pub fn gateway_leases(&self) -> Vec<(Ipv4Addr, MacAddr)> {
        let leases = self.leases();
        leases
            .map(|(leases, now)| leases.at(now).collect())
            .unwrap_or_default()
    }

    /// Starts simulated hosts: from the second address of a network on, `10.<VLAN>.0.0/16` if none is given. Their IPv6 addresses have
    /// the VLAN's prefix, and end with the IPv4 address.
    ///
    /// # Errors
    ///
    /// When there are more than addresses, when an address is somebody else's, or the VLAN is stopped.
    pub fn simulate(
        &self,
        count: u32,
        services: Services,
        network: Option<Network>,
    ) -> Result<Simulation, Error> {
        let network = network.unwrap_or(Network {
            address: Ipv4Addr::new(10, self.number, 0, 0),
            prefix_len: 16,
        });
        if !(1..=network.room()).contains(&count) {
            let (address, len, room) = (network.address, network.prefix_len, network.room());
            return Err(Error::Argument(format!(
                "{count} hosts in {address}/{len}: from 1 to {room} can be there"
            )));
        }
        let has_services = services == Services::Server;
        let profile = Profile {
            count,
            first: Ipv4Addr::from_bits(network.address.to_bits() + 1),
            prefix: network::ipv6(self.number, 0),
            echo: has_services,
            http: has_services,
        };
        let mut hosted = self.hosted();
        if hosted.simulations.len() == SIMULATIONS_MAX {
            return Err(Error::Argument(format!(
                "{SIMULATIONS_MAX} simulations run on VLAN {}",
                self.number
            )));
        }
        let port = format!("simulated{}", hosted.simulations_ever + 1);
        let simulation = Simulation {
            port: port.clone(),
            profile,
        };
        let others = hosted
            .simulations
            .iter()
            .map(|(other, _)| (other.port.clone(), other.range()));
        self.check_free("simulated hosts", simulation.range(), others)?;
        self.check_free("simulated hosts", simulation.range(), self.machine_ranges())?;
        if hosted.gateway.is_some() {
            let pool = ("the gateway's pool".to_owned(), self.gateway_config().pool);
            let own = ("the gateway".to_owned(), [self.gateway_address(); 2]);
            self.check_free("simulated hosts", simulation.range(), [own, pool])?;
        }
        let hosts = Simulated::new(Instant::now(), u64::from(self.number), &simulation.profile);
        let hosts = hosts.ok_or_else(|| {
            Error::Argument(format!(
                "{}: no addresses of hosts, or too many",
                network.address
            ))
        })?;
        let running = self.with_switch(|switch| switch.add_hosts(hosts, &port))?;
        hosted.simulations_ever += 1;
        hosted.simulations.push((simulation.clone(), running));
        Ok(simulation)
    }

    /// Ends simulated hosts, if they run.
    pub fn stop_simulation(&self, simulation: &Simulation) {
        let mut hosted = self.hosted();
        let at = hosted
            .simulations
            .iter()
            .position(|(other, _)| other == simulation);
        let ended = at.map(|at| hosted.simulations.remove(at));
        drop(hosted);
        drop(ended);
    }

    /// What the gateway has given away, and when it was asked that.
    pub(super) fn leases(&self) -> Option<(Leases, Instant)> {
        let hosted = self.hosted();
        let (_, gateway) = hosted.gateway.as_ref()?;
        Some((gateway.hosts().leases(), Instant::now()))
    }

    /// Goes back to what the gateway had given away, and to no connections with simulated hosts: none of them is what it was.
    pub(super) fn rewind_hosts(&self, leases: Option<&(Leases, Instant)>) {
        let hosted = self.hosted();
        if let Some((_, gateway)) = &hosted.gateway {
            let (mut leases, then) = leases
                .cloned()
                .unwrap_or((Leases::default(), Instant::now()));
            leases.shift(then.elapsed());
            gateway.hosts().restore_leases(leases);
        }
        for (_, simulated) in &hosted.simulations {
            simulated.hosts().forget_connections();
        }
    }

    fn hosted(&self) -> MutexGuard<'_, Hosted> {
        lock(&self.hosted)
    }

    fn gateway_address(&self) -> Ipv4Addr {
        network::ipv4(self.number, GATEWAY_NUMBER)
    }

    fn gateway_config(&self) -> GatewayConfig {
        let machines = self.machines.iter().map(|(name, number)| Known {
            name: name.clone(),
            mac: MacAddr(network::mac(self.number, *number)),
            ipv4: network::ipv4(self.number, *number),
            ipv6: network::ipv6(self.number, *number),
        });
        let last = self
            .machines
            .iter()
            .map(|(_, number)| *number)
            .max()
            .unwrap_or(0);
        let pool = [last.saturating_add(1).max(POOL_FIRST), GATEWAY_NUMBER - 1];
        GatewayConfig {
            mac: MacAddr(network::mac(self.number, GATEWAY_NUMBER)),
            ipv4: self.gateway_address(),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            ipv6: network::ipv6(self.number, GATEWAY_NUMBER),
            machines: machines.collect(),
            pool: pool.map(|number| network::ipv4(self.number, number)),
        }
    }

    fn machine_ranges(&self) -> impl Iterator<Item = (String, [Ipv4Addr; 2])> {
        let address = |number: u8| network::ipv4(self.number, number);
        self.machines
            .iter()
            .map(move |(name, number)| (name.clone(), [address(*number); 2]))
    }

    /// Refuses addresses that are somebody else's.
    fn check_free(
        &self,
        what: &str,
        [first, last]: [Ipv4Addr; 2],
        others: impl IntoIterator<Item = (String, [Ipv4Addr; 2])>,
    ) -> Result<(), Error> {
        let overlaps = |(_, [from, to]): &(String, [Ipv4Addr; 2])| *from <= last && first <= *to;
        match others.into_iter().find(overlaps) {
            Some((name, [from, to])) => Err(Error::Argument(format!(
                "VLAN {}: {what}: {first} to {last} is not free: {name} has {from} to {to}",
                self.number
            ))),
            None => Ok(()),
        }
    }
}

pub(super) fn lock(hosted: &Mutex<Hosted>) -> MutexGuard<'_, Hosted> {
    hosted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
