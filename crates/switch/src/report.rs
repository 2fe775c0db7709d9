//! What a switch tells about itself: ports, stations and counters.

use std::time::Duration;

use crate::state::PortId;
use crate::wire::MacAddr;

/// What is at the other end of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortKind {
    /// A VDE client: `vde_plug`, `qemu -netdev vde`.
    Vde,
    /// A stream of frames, each behind its length: `qemu -netdev stream`.
    Stream,
    /// A datagram for each frame: `qemu -netdev dgram`.
    Dgram,
}

/// Frames that the switch lost at a port, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// Came in with less than an Ethernet header.
    pub runt: u64,
    /// Came in, or should have gone out, with more than the transport can carry.
    pub oversized: u64,
    /// Should have gone out, but the port's queue was full: its peer is slow.
    pub queue_full: u64,
    /// Should have gone out, but nobody was at the other end.
    pub no_peer: u64,
    /// Should have gone out, but the host refused (out of memory, say).
    pub refused: u64,
}

impl Drops {
    /// Adds up all causes.
    pub fn total(&self) -> u64 {
        self.runt + self.oversized + self.queue_full + self.no_peer + self.refused
    }
}

/// What went through a port since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Frames from the peer, dropped ones not counted.
    pub frames_in: u64,
    /// Bytes of those frames, headers included.
    pub bytes_in: u64,
    /// Frames that the peer's socket took.
    pub frames_out: u64,
    /// Bytes of those frames, headers included.
    pub bytes_out: u64,
    /// Frames lost, by cause.
    pub drops: Drops,
}

/// A port as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// Names the port for as long as it lives; never used again for another.
    pub id: PortId,
    /// What the peer, or whoever added the port, calls it.
    pub name: String,
    /// The transport.
    pub kind: PortKind,
    /// Frames that wait for a slow peer.
    pub queued: usize,
    /// What went through.
    pub counters: Counters,
}

/// A station that the switch has heard of lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StationInfo {
    /// Its address.
    pub address: MacAddr,
    /// The port it is behind.
    pub port: PortId,
    /// How long ago it last sent something, in whole seconds.
    pub silent_for: Duration,
}

/// What a switch did since it was started, closed ports included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Sum over all ports that ever were.
    pub counters: Counters,
    /// Frames for a known station, sent to its port alone.
    pub unicast: u64,
    /// Frames sent to all ports but their own: broadcast, multicast, or for an unknown station.
    pub flooded: u64,
    /// Frames for a station behind the port they came from: sent nowhere.
    pub filtered: u64,
    /// Stations that were entered in the table.
    pub learned: u64,
    /// Stations that turned up behind another port.
    pub moved: u64,
    /// Stations forgotten before their time because the table was full.
    pub evicted: u64,
    /// Connections that were turned away: a bad request, no port free, no descriptor left.
    pub turned_away: u64,
}

/// What a capture holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureSummary {
    /// Frames in the file.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Frames that went through the switch but not into the file, because the disk was too slow.
    pub frames_lost: u64,
}
