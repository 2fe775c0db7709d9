//! DHCP for IPv4 (RFC 2131): each known machine has an address of its own; others get one of a pool, on loan.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::GatewayConfig;
use crate::wire::MacAddr;

/// How long an address is given for.
pub const LEASE: Duration = Duration::from_secs(3600);

/// How long an address that was offered is kept for whom it was offered to.
pub const OFFER: Duration = Duration::from_secs(60);

/// How long an address is left alone that somebody said is in use.
pub const DECLINED: Duration = Duration::from_secs(600);

/// Most addresses of a pool that are used.
pub const POOL_MAX: u32 = 4096;

const HOST_NAME: u8 = 12;
const CLIENT_ID: u8 = 61;

/// Bytes of a message at least: relays and old clients of BOOTP want as many (RFC 1542).
const MESSAGE_MIN: usize = 300;

/// Who has which address of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases(BTreeMap<Ipv4Addr, Lease>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    /// `None` if somebody said that the address is in use.
    client: Option<MacAddr>,
    until: Instant,
}

impl Leases {
    /// Addresses and their machines at `now`, by address; with those that are offered.
    pub fn at(&self, now: Instant) -> impl Iterator<Item = (Ipv4Addr, MacAddr)> {
        let fresh = self.0.iter().filter(move |(_, lease)| lease.until > now);
        fresh.filter_map(|(address, lease)| Some((*address, lease.client?)))
    }

    /// Has all of them last longer, for time that did not pass for those that have them.
    pub fn shift(&mut self, by: Duration) {
        for lease in self.0.values_mut() {
            lease.until += by;
        }
    }
}

/// A message, and where it goes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Vec<u8>,
    pub(super) station: MacAddr,
    pub(super) address: Ipv4Addr,
}

#[derive(Debug)]
pub(super) struct Dhcp {
    server: Ipv4Addr,
    mask: Ipv4Addr,
    known: BTreeMap<MacAddr, (Ipv4Addr, String)>,
    /// The first and the last.
    pool: [u32; 2],
    leases: Leases,
}

impl Dhcp {
    pub(super) fn new(config: &GatewayConfig) -> Dhcp {
        let [first, last] = config.pool.map(Ipv4Addr::to_bits);
        let known = config
            .machines
            .iter()
            .map(|known| (known.mac, (known.ipv4, known.name.clone())));
        Dhcp {
            server: config.ipv4,
            mask: config.mask,
            known: known.collect(),
            pool: [first, last.min(first.saturating_add(POOL_MAX - 1))],
            leases: Leases::default(),
        }
    }

    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(super) fn restore(&mut self, leases: Leases) {
        self.leases = leases;
    }

    /// Takes a client's message; says what to answer, if anything.
    pub(super) fn handle(&mut self, now: Instant, message: &[u8]) -> Option<Answer> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        let client = MacAddr(request.client_hardware_address.0);
        let is_relayed = !request.relay_agent_ip.is_unspecified();
        let is_for_another = request
            .server_identifier
            .is_some_and(|server| server != self.server);
        if client.is_group() || is_relayed {
            return None;
        }
        let (kind, address) = match request.message_type {
            DhcpMessageType::Discover => (
                DhcpMessageType::Offer,
                self.offer(now, client, request.requested_ip)?,
            ),
            DhcpMessageType::Request if is_for_another => {
                self.forget(client);
                return None;
            }
            DhcpMessageType::Request => {
                let wanted = request.requested_ip.unwrap_or(request.client_ip);
                match self.take(now, client, wanted) {
                    true => (DhcpMessageType::Ack, wanted),
                    false => (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED),
                }
            }
            DhcpMessageType::Inform => (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED),
            DhcpMessageType::Release if !is_for_another => {
                self.forget(client);
                return None;
            }
            DhcpMessageType::Decline if !is_for_another => {
                self.decline(now, client, request.requested_ip?);
                return None;
            }
            _ => return None,
        };
        let id = packet.options().find(|option| option.kind == CLIENT_ID);
        Some(self.answer(&request, kind, address, id))
    }

    /// The address of a client that asks for one: what it has, else what it wants, else the first one that is free.
    fn offer(
        &mut self,
        now: Instant,
        client: MacAddr,
        wanted: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        if let Some((address, _)) = self.known.get(&client) {
            return Some(*address);
        }
        let [first, last] = self.pool;
        let has = self
            .leases
            .0
            .iter()
            .find(|(_, lease)| lease.client == Some(client))
            .map(|(address, _)| *address);
        let mut free = (first..=last).map(Ipv4Addr::from_bits);
        let address = has
            .or(wanted)
            .filter(|address| self.is_free_for(now, client, *address))
            .or_else(|| free.find(|address| self.is_free_for(now, client, *address)))?;
        self.lend(address, client, now + OFFER);
        Some(address)
    }

    /// Gives a client an address, if it may have that.
    fn take(&mut self, now: Instant, client: MacAddr, address: Ipv4Addr) -> bool {
        if let Some((known, _)) = self.known.get(&client) {
            return *known == address;
        }
        let may = self.is_free_for(now, client, address);
        if may {
            self.lend(address, client, now + LEASE);
        }
        may
    }

    /// Notes a loan that does not end earlier than one that there is; a client has one address.
    fn lend(&mut self, address: Ipv4Addr, client: MacAddr, until: Instant) {
        let before = self
            .leases
            .0
            .get(&address)
            .filter(|lease| lease.client == Some(client));
        let until = before.map_or(until, |lease| lease.until.max(until));
        self.forget(client);
        self.leases.0.insert(
            address,
            Lease {
                client: Some(client),
                until,
            },
        );
    }

    fn is_free_for(&self, now: Instant, client: MacAddr, address: Ipv4Addr) -> bool {
        let [first, last] = self.pool;
        let lease = self.leases.0.get(&address);
        (first..=last).contains(&address.to_bits())
            && address != self.server
            && !self.known.values().any(|(known, _)| *known == address)
            && lease.is_none_or(|lease| lease.until <= now || lease.client == Some(client))
    }

    fn forget(&mut self, client: MacAddr) {
        self.leases
            .0
            .retain(|_, lease| lease.client != Some(client));
    }

    /// Leaves an address alone that its client found in use.
    fn decline(&mut self, now: Instant, client: MacAddr, address: Ipv4Addr) {
        if let Some(lease) = self.leases.0.get_mut(&address)
            && lease.client == Some(client)
        {
            *lease = Lease {
                client: None,
                until: now + DECLINED,
            };
        }
    }

    fn answer(
        &self,
        request: &DhcpRepr<'_>,
        kind: DhcpMessageType,
        address: Ipv4Addr,
        id: Option<DhcpOption<'_>>,
    ) -> Answer {
        let is_refused = kind == DhcpMessageType::Nak;
        let given = (!is_refused).then_some(());
        let name = given.and_then(|()| self.known.get(&MacAddr(request.client_hardware_address.0)));
        let name = name.map(|(_, name)| DhcpOption {
            kind: HOST_NAME,
            data: &name.as_bytes()[..name.len().min(255)],
        });
        let options: Vec<DhcpOption<'_>> = id.into_iter().chain(name).collect();
        let is_lent = !is_refused && !address.is_unspecified();
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: request.client_hardware_address,
            client_ip: if is_refused {
                Ipv4Addr::UNSPECIFIED
            } else {
                request.client_ip
            },
            your_ip: address,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: given.map(|()| self.server),
            subnet_mask: given.map(|()| self.mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.server),
            parameter_request_list: None,
            dns_servers: given.map(|()| [self.server].into_iter().collect()),
            max_size: None,
            lease_duration: is_lent.then_some(LEASE.as_secs() as u32),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &options,
        };
        let mut message = vec![0; reply.buffer_len().max(MESSAGE_MIN)];
        reply
            .emit(&mut DhcpPacket::new_unchecked(&mut message[..]))
            .expect("as long as it says it is");
        let has_address = !request.client_ip.is_unspecified() && !is_refused;
        let to_all = !has_address && (request.broadcast || is_refused);
        let EthernetAddress(station) = request.client_hardware_address;
        Answer {
            message,
            station: MacAddr(if to_all { [0xff; 6] } else { station }),
            address: match has_address {
                true => request.client_ip,
                false if to_all => Ipv4Addr::BROADCAST,
                false => address,
            },
        }
    }
}

/// What a fuzzer throws at DHCP: an answer is one to the client, and gives no address that is not the server's to give.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
pub fn fuzz(data: &[u8]) {
    let now = Instant::now();
    let config = super::fuzz_config();
    let mut dhcp = Dhcp::new(&config);
    for message in data.chunks(FUZZ_MESSAGE) {
        let Some(answer) = dhcp.handle(now, message) else {
            continue;
        };
        let packet = DhcpPacket::new_checked(&answer.message[..]).expect("a whole header");
        let reply = DhcpRepr::parse(&packet).expect("an answer");
        assert_eq!(
            packet.transaction_id().to_be_bytes(),
            message[4..8],
            "the client's number"
        );
        assert_eq!(reply.server_identifier, Some(config.ipv4));
        let given = reply.your_ip;
        let is_known = config.machines.iter().any(|known| known.ipv4 == given);
        assert!(
            given.is_unspecified()
                || is_known
                || (config.pool[0]..=config.pool[1]).contains(&given)
        );
    }
    assert!(
        dhcp.leases.0.len() <= 2,
        "no more loans than the pool has addresses"
    );
}

/// Bytes of each message that [`fuzz`] cuts its input into.
const FUZZ_MESSAGE: usize = 300;

#[cfg(test)]
mod tests;
