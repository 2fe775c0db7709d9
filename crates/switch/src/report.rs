//! What a switch tells about itself: ports, stations and counters.

use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::state::PortId;
use crate::wire::MacAddr;
use crate::wire::pcapng::Direction;
use crate::wire::summary::Summary;

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
    /// An interface of the host's kernel.
    Tap,
    /// The same LAN on other hosts.
    Vxlan,
    /// The program that runs the switch.
    Local,
    /// A guest that shares its memory: `qemu -netdev vhost-user`.
    VhostUser,
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
    /// Lost by an impaired link, as drawn.
    pub impaired: u64,
    /// Came to a link that was set down.
    pub link_down: u64,
    /// Found the queue of an impaired link full, or its rate used up.
    pub link_full: u64,
    /// Should have gone to a port on the other side of a partition.
    pub partitioned: u64,
    /// Came in with a tag, or without one, though the port takes no such frames; or from a stranger to a VXLAN network.
    pub foreign: u64,
}

/// Why a switch lost a frame that it had looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropCause {
    /// [`Drops::oversized`].
    #[error("longer than the port takes")]
    Oversized,
    /// [`Drops::queue_full`].
    #[error("the port's queue is full")]
    QueueFull,
    /// [`Drops::impaired`].
    #[error("lost by an impairment")]
    Impaired,
    /// [`Drops::link_down`].
    #[error("the link is down")]
    LinkDown,
    /// [`Drops::link_full`].
    #[error("the impaired link's queue is full")]
    LinkFull,
    /// [`Drops::partitioned`].
    #[error("parted")]
    Partitioned,
    /// [`Drops::foreign`].
    #[error("the port takes no such tag")]
    Foreign,
}

impl Drops {
    /// Counts a frame.
    pub(crate) fn count(&mut self, cause: DropCause) {
        *match cause {
            DropCause::Oversized => &mut self.oversized,
            DropCause::QueueFull => &mut self.queue_full,
            DropCause::Impaired => &mut self.impaired,
            DropCause::LinkDown => &mut self.link_down,
            DropCause::LinkFull => &mut self.link_full,
            DropCause::Partitioned => &mut self.partitioned,
            DropCause::Foreign => &mut self.foreign,
        } += 1;
    }

    /// Adds up all causes.
    pub fn total(&self) -> u64 {
        let Drops {
            runt,
            oversized,
            queue_full,
            no_peer,
            refused,
            impaired,
            link_down,
            link_full,
            partitioned,
            foreign,
        } = self;
        let here = runt + oversized + queue_full + no_peer + refused;
        here + impaired + link_down + link_full + partitioned + foreign
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

impl AddAssign for Drops {
    fn add_assign(&mut self, more: Drops) {
        self.runt += more.runt;
        self.oversized += more.oversized;
        self.queue_full += more.queue_full;
        self.no_peer += more.no_peer;
        self.refused += more.refused;
        self.impaired += more.impaired;
        self.link_down += more.link_down;
        self.link_full += more.link_full;
        self.partitioned += more.partitioned;
        self.foreign += more.foreign;
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, more: Counters) {
        self.frames_in += more.frames_in;
        self.bytes_in += more.bytes_in;
        self.frames_out += more.frames_out;
        self.bytes_out += more.bytes_out;
        self.drops += more.drops;
    }
}

/// An impaired link as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// The port that frames come in by; `None` if the link has those of all ports.
    pub from: Option<PortId>,
    /// The port that frames go out to; `None` if the link has those to all ports.
    pub to: Option<PortId>,
    /// What happened on it.
    pub counters: LinkCounters,
}

/// What happened on an impaired link since it was impaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Frames that came to it.
    pub frames: u64,
    /// Frames that were lost, as drawn.
    pub lost: u64,
    /// Frames that were lost because it was down.
    pub down: u64,
    /// Frames that were lost because its queue was full, or would have waited for too long.
    pub queue_full: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames of which a bit was turned over.
    pub corrupted: u64,
    /// Frames that were late.
    pub reordered: u64,
    /// Frames that are under way now.
    pub waiting: u64,
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

/// A port that was taken off because its peer broke the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostPort {
    /// What named the port.
    pub id: PortId,
    /// What the port was called.
    pub name: String,
    /// What its peer did.
    pub reason: String,
}

/// A station that the switch has heard of lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StationInfo {
    /// Its address.
    pub address: MacAddr,
    /// The segment that it was heard in; 0 for none, as always while the switch knows no tags.
    pub segment: u16,
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
    /// Frames that are in the file once more because they were lost on their way, with a comment that says why.
    pub drops: u64,
    /// Frames that went through the switch but not into the file, because the disk was too slow.
    pub frames_lost: u64,
}

/// A frame that passed a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sighting {
    /// The port.
    pub port: PortId,
    /// What it is called.
    pub port_name: Arc<str>,
    /// Whether it came in or went out there.
    pub direction: Direction,
    /// When.
    pub time: SystemTime,
    /// The frame, or its first bytes.
    pub frame: Vec<u8>,
    /// How many bytes it had.
    pub len: usize,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.direction {
            Direction::In => "from",
            Direction::Out => "to",
        };
        let (port, what) = (&self.port_name, Summary(&self.frame));
        write!(f, "{way} {port}: {what}, {} bytes", self.len)
    }
}
