//! A learning Ethernet switch in user space, for VDE and QEMU sockets.

mod error;
#[expect(clippy::disallowed_types, reason = "the I/O shell")]
pub mod io;
pub mod report;
pub mod state;
pub mod wire;

pub use error::Error;
pub use io::{Config, Switch};
pub use report::{CaptureSummary, Counters, Drops, PortInfo, PortKind, StationInfo, Totals};
pub use state::PortId;
pub use wire::MacAddr;
