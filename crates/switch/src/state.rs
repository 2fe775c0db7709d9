//! Decides where a frame goes. No sockets, no clock, no threads.
//!
//! - [`Stations`]: who is behind which port.
//! - [`queue`]: what waits for a slow port.
//! - [`rules`]: what was asked of ports and links; [`tags`]: which frames a port takes by its rules.
//! - [`offload`]: what a network card does for a frame.
//! - [`impair`]: what an impaired link does to a frame, by [`random`] draws; [`delay`]: frames under way on such links.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::report::StationInfo;
use crate::wire::{Frame, MacAddr};

pub mod delay;
pub mod frozen;
pub mod impair;
pub mod offload;
pub mod queue;
pub mod random;
pub mod rules;
pub mod tags;

/// Stations that a switch remembers at most, unless it is told otherwise.
pub const STATIONS_MAX: usize = 16_384;

/// How long a silent station is remembered, unless it is told otherwise; IEEE 802.1D's value.
pub const STATION_TTL: Duration = Duration::from_secs(300);

/// Stations that share a bucket. Work per frame is bounded by it, whatever addresses someone makes up.
const BUCKET_LEN: usize = 8;

/// What time is counted in, in the table.
const TICK: Duration = Duration::from_millis(100);

/// Names a port of one switch.
///
/// It prints as the port's number. A number is given again when its port is gone, an id is not (before 65,536 ports
/// had the number).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId {
    generation: u16,
    number: u16,
}

impl PortId {
    /// Names the `generation`th port that has the number.
    pub fn new(number: u16, generation: u16) -> PortId {
        PortId { generation, number }
    }

    /// Gives the number: from 1, as the ports on a real switch.
    #[inline]
    pub fn number(self) -> u16 {
        self.number
    }

    /// Gives the id in the bits that [`PortId::from_u32`] takes.
    pub fn to_u32(self) -> u32 {
        u32::from(self.generation) << 16 | u32::from(self.number)
    }

    /// Takes an id from its bits.
    pub fn from_u32(bits: u32) -> PortId {
        let [generation, number] = [bits >> 16, bits & 0xffff].map(|half| half as u16);
        PortId { generation, number }
    }

    /// Gives the id of the next port with this number.
    pub fn next(self) -> PortId {
        PortId {
            generation: self.generation.wrapping_add(1),
            ..self
        }
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.generation)
    }
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Nowhere: its station is behind the port it came from.
    Drop,
    /// To one port.
    Unicast(PortId),
    /// To all ports but one.
    Flood {
        /// The port it came from.
        except: PortId,
    },
}

/// Learns which port each station is behind, and steers frames by it.
///
/// A table of buckets with eight places each. In a full bucket the station that was silent for longest makes
/// room for a new one: frames for it are flooded until it speaks again, and nobody is ever cut off. Which bucket an
/// address belongs to depends on a secret seed.
///
/// Time comes in as `now`, so a test can let an hour pass in no time.
#[derive(Debug)]
pub struct Stations {
    epoch: Instant,
    seed: [u64; 2],
    ttl_ticks: u32,
    buckets: Box<[[Station; BUCKET_LEN]]>,
    counters: StationCounters,
}

/// What happened in a table of stations so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StationCounters {
    /// Stations that were entered.
    pub learned: u64,
    /// Stations that turned up behind another port.
    pub moved: u64,
    /// Stations forgotten before their time, to make room.
    pub evicted: u64,
}

/// One place in the table; `key` 0 is a free one.
#[derive(Debug, Clone, Copy)]
struct Station {
    key: u64,
    port: PortId,
    heard: u32,
}

const FREE: Station = Station {
    key: 0,
    port: PortId {
        generation: 0,
        number: 0,
    },
    heard: 0,
};

/// Set in every key that stands for a station.
const TAKEN: u64 = 1 << 63;

impl Stations {
    /// Makes an empty table for about `capacity` stations: at least so many places, rounded up to a power of two.
    pub fn new(epoch: Instant, capacity: usize, ttl: Duration, seed: [u64; 2]) -> Stations {
        let buckets = capacity
            .div_ceil(BUCKET_LEN)
            .clamp(1, 1 << 24)
            .next_power_of_two();
        let ttl_ticks =
            u32::try_from(ttl.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX);
        let buckets = vec![[FREE; BUCKET_LEN]; buckets].into_boxed_slice();
        Stations {
            epoch,
            seed,
            ttl_ticks,
            buckets,
            counters: StationCounters::default(),
        }
    }

    /// Takes one frame that came in by `ingress` and says where it goes.
    #[inline]
    pub fn handle_frame(&mut self, now: Instant, ingress: PortId, frame: Frame<'_>) -> Egress {
        self.handle_frame_in(now, ingress, 0, frame)
    }

    /// Takes one frame of a segment. The same address may be behind different ports in different segments.
    #[inline]
    pub fn handle_frame_in(
        &mut self,
        now: Instant,
        ingress: PortId,
        segment: u16,
        frame: Frame<'_>,
    ) -> Egress {
        let tick = self.tick(now);
        self.learn(tick, ingress, segment, frame.source());
        match self.port_of(tick, segment, frame.target()) {
            Some(port) if port == ingress => Egress::Drop,
            Some(port) => Egress::Unicast(port),
            None => Egress::Flood { except: ingress },
        }
    }

    /// Notes that a station was heard at a port.
    pub fn hear(&mut self, now: Instant, port: PortId, station: MacAddr) {
        self.learn(self.tick(now), port, 0, station);
    }

    /// Notes that a station of a segment was heard at a port.
    pub fn hear_in(&mut self, now: Instant, port: PortId, segment: u16, station: MacAddr) {
        self.learn(self.tick(now), port, segment, station);
    }

    /// Forgets all stations.
    pub fn clear(&mut self) {
        self.buckets.as_flattened_mut().fill(FREE);
    }

    /// Gives the port that a station is behind.
    pub fn find(&self, now: Instant, station: MacAddr) -> Option<PortId> {
        self.port_of(self.tick(now), 0, station)
    }

    /// Forgets all stations behind a port that is gone.
    pub fn handle_port_gone(&mut self, port: PortId) {
        for station in self.buckets.as_flattened_mut() {
            if station.port == port {
                *station = FREE;
            }
        }
    }

    /// Lists the stations that are known at `now`, by address.
    pub fn known(&self, now: Instant) -> Vec<StationInfo> {
        let tick = self.tick(now);
        let known = self
            .buckets
            .as_flattened()
            .iter()
            .filter(|station| self.is_fresh(station, tick));
        let mut known: Vec<_> = known
            .map(|station| StationInfo {
                address: address_of(station.key),
                segment: segment_of(station.key),
                port: station.port,
                silent_for: TICK * tick.saturating_sub(station.heard),
            })
            .collect();
        known.sort_unstable_by_key(|station| (station.address, station.segment));
        known
    }

    /// Says what happened so far.
    pub fn counters(&self) -> StationCounters {
        self.counters
    }

    #[inline]
    fn learn(&mut self, tick: u32, port: PortId, segment: u16, address: MacAddr) {
        if address.is_group() {
            return; // Nobody sends as a group; whoever does is not to draw its frames.
        }
        let key = key_of(segment, address);
        let bucket = &mut self.buckets[bucket_of(key, self.seed, self.buckets.len())];
        if let Some(station) = bucket.iter_mut().find(|station| station.key == key) {
            station.heard = tick;
            if station.port != port {
                station.port = port;
                self.counters.moved += 1;
            }
            return;
        }
        self.enter(Station {
            key,
            port,
            heard: tick,
        });
    }

    /// Enters a station in the free place of its bucket, or in the one that was silent for longest.
    #[cold]
    fn enter(&mut self, new: Station) {
        let bucket = bucket_of(new.key, self.seed, self.buckets.len());
        let oldest = (0..BUCKET_LEN).min_by_key(|&place| {
            let station = self.buckets[bucket][place];
            (station.key != 0, station.heard)
        });
        let place = oldest.unwrap_or(0);
        if self.is_fresh(&self.buckets[bucket][place], new.heard) {
            self.counters.evicted += 1;
        }
        self.buckets[bucket][place] = new;
        self.counters.learned += 1;
    }

    #[inline]
    fn port_of(&self, tick: u32, segment: u16, address: MacAddr) -> Option<PortId> {
        if address.is_group() {
            return None;
        }
        let key = key_of(segment, address);
        let bucket = &self.buckets[bucket_of(key, self.seed, self.buckets.len())];
        let station = bucket.iter().find(|station| station.key == key)?;
        self.is_fresh(station, tick).then_some(station.port)
    }

    #[inline]
    fn is_fresh(&self, station: &Station, tick: u32) -> bool {
        station.key != 0 && tick.saturating_sub(station.heard) <= self.ttl_ticks
    }

    #[inline]
    fn tick(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.epoch);
        let ticks = since.as_secs() * 10 + u64::from(since.subsec_millis() / 100);
        u32::try_from(ticks).unwrap_or(u32::MAX) // After thirteen years nothing ages any more.
    }
}

#[inline]
fn key_of(segment: u16, address: MacAddr) -> u64 {
    let ([high, low], [a, b, c, d, e, f]) = (segment.to_be_bytes(), address.0);
    TAKEN | u64::from_be_bytes([high, low, a, b, c, d, e, f])
}

fn segment_of(key: u64) -> u16 {
    ((key & !TAKEN) >> 48) as u16
}

fn address_of(key: u64) -> MacAddr {
    let [_, _, a, b, c, d, e, f] = key.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

/// Folds the product of two secrets and the key, so that no one outside can aim at a bucket.
#[inline]
fn bucket_of(key: u64, seed: [u64; 2], buckets: usize) -> usize {
    let product = u128::from(key ^ seed[0]) * u128::from(seed[1] | 1);
    let folded = (product >> 64) as u64 ^ product as u64;
    folded as usize & (buckets - 1) // A power of two.
}

#[cfg(test)]
mod tests;
