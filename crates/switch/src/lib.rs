//! A learning Ethernet switch in user space: one per virtual LAN, for VDE and QEMU sockets, taps, VXLAN and the program
//! itself. It loses, delays and damages frames if it is asked to.
//!
//! A frame comes in from one socket and goes out to others, through three parts:
//!
//! - [`wire`]: bytes to values; every length check is here.
//! - [`state`]: [`Stations`](state::Stations) decides where a frame goes. No sockets, no clock, no threads.
//! - [`io`]: reads sockets, asks the state, writes sockets. The only part that may block.
//!
//! Frames go through in batches: what one `recvmmsg` brings is sorted by the port it goes to, and each of those gets
//! one `sendmmsg` that points into the receive buffers. Nothing is allocated or copied for a frame, unless its port is
//! slow; then it waits in that port's own bounded queue, and nobody else waits for it.
//!
//! Guests that share their memory (feature `vhost-user`) are sent to without a stop: a frame is copied once, from the buffers of
//! one into those of the other, and what its sender leaves to do for it is left to the receiver, if that does it. Where
//! somebody looks on (a capture, an impaired link) or the frame is for many, such a frame goes the way of all others.
//!
//! What passes can be recorded ([`Switch::start_capture`]) and watched ([`Switch::watch`]), all of it or a [`Selection`]: that of
//! some ports, or that which an expression means ([`wire::filter`]).
//!
//! What is asked of ports and links ([`Switch::impair`], [`Switch::partition`], [`Switch::set_port`]) costs the ports that
//! it is about: their frames pass a queue of copies when they must wait or be changed. All others go the short way.
//!
//! Invariants: a frame never goes back out of the port it came in by, and never waits for another port. Frames are
//! never changed unless that was asked for: an 802.1Q tag goes through untouched.
//!
//! ```
//! use hotbed_switch::{Config, Switch};
//!
//! let dir = tempfile::tempdir().unwrap();
//! let switch = Switch::start(Config { name: "vlan1".to_owned(), ..Config::default() })?;
//! switch.listen_vde(&dir.path().join("vde1.ctl"))?; // qemu -netdev vde,sock=…/vde1.ctl
//! assert!(switch.ports().is_empty(), "nobody has connected yet");
//! # Ok::<(), hotbed_switch::Error>(())
//! ```

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

mod error;
#[cfg(feature = "hosts")]
pub mod hosts;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
pub mod io;
pub mod report;
pub mod state;
#[expect(
    unsafe_code,
    reason = "recvmmsg and sendmmsg with headers that are made once, and a tap's ioctls"
)]
mod sys;
pub mod wire;

pub use error::Error;
#[cfg(feature = "hosts")]
pub use io::HostPort;
pub use io::{
    Config, LocalPort, OTHERS_MAX, PORTS_MAX, RecvError, SIGHTINGS_MAX, Selection, SendError,
    Switch, Vxlan, Watch,
};
pub use report::{
    CaptureSummary, Counters, DropCause, Drops, LinkCounters, LinkInfo, LostPort, PortInfo,
    PortKind, Sighting, StationInfo, Totals,
};
pub use state::frozen::{BadState, FROZEN_BYTES_MAX, Frozen};
pub use state::impair::{BadImpairment, Distribution, Impairment, Jitter, Loss, Rate};
pub use state::queue::Overflow;
pub use state::rules::{End, MTU_MAX, PortSettings, Way};
pub use state::tags::{NoSegment, Segments, Tags};
pub use state::{PortId, STATION_TTL, STATIONS_MAX};
pub use wire::MacAddr;
