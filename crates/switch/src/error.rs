use std::io;
use std::path::PathBuf;

use crate::state::impair::BadImpairment;
use crate::state::tags::NoSegment;

/// Why the switch could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused a thread, a descriptor or memory.
    #[error("cannot start the switch `{name}`")]
    Start {
        /// Name of the switch.
        name: String,
        /// What the host said.
        source: io::Error,
    },
    /// A socket that others connect to could not be made.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// Where the socket should have been.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A port's socket could not be made or used.
    #[error("cannot add the port `{name}`")]
    Port {
        /// Name of the port.
        name: String,
        /// What the host said.
        source: io::Error,
    },
    /// Every port is taken ([`Config::ports_max`](crate::Config::ports_max)).
    #[error("all {0} ports of the switch are taken")]
    Full(usize),
    /// The port is gone, or never was.
    #[error("the switch has no port {0}")]
    NoPort(crate::PortId),
    /// An impairment cannot be.
    #[error("cannot impair frames {way}")]
    Impairment {
        /// The frames that were meant.
        way: String,
        /// What is wrong with it.
        source: BadImpairment,
    },
    /// A segment that there cannot be.
    #[error(transparent)]
    Segment(#[from] NoSegment),
    /// More was asked for than a switch keeps.
    #[error("more than {0} rules, impaired links, or captures and watches")]
    TooManyRules(usize),
    /// A capture file could not be made or written.
    #[error("cannot capture to {}", path.display())]
    Capture {
        /// The capture file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// One capture runs at a time.
    #[error("a capture to {} is running already", .0.display())]
    CaptureRunning(PathBuf),
    /// There is no capture to stop.
    #[error("no capture is running")]
    NoCapture,
    /// The front end of a guest, or its socket, is at fault.
    #[cfg(feature = "vhost-user")]
    #[error("the port's VMM")]
    FrontEnd(#[from] hotbed_vhost_user::Error),
    /// A guest's driver made its queues wrong.
    #[cfg(feature = "vhost-user")]
    #[error("the guest's queues")]
    Ring(#[from] hotbed_vhost_user::virtio_queue::Error),
    /// A guest's driver broke the rules.
    #[cfg(feature = "vhost-user")]
    #[error("the guest broke the rules: {0}")]
    Guest(&'static str),
    /// A guest's driver left something to do that cannot be done.
    #[cfg(feature = "vhost-user")]
    #[error("the guest's driver")]
    Offload(#[from] crate::wire::vnet::BadOffload),
    /// A guest's driver left a frame to be cut that cannot be.
    #[cfg(feature = "vhost-user")]
    #[error("the guest's driver")]
    Segments(#[from] crate::state::offload::BadSegments),
    /// The switch's thread is gone: a bug, for only dropping the handle ends it.
    #[error("the switch `{0}` has stopped")]
    Stopped(String),
}
