//! Reads sockets, asks the state, writes sockets.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::report::{CaptureSummary, PortInfo, StationInfo, Totals};
use crate::state::PortId;

/// What a switch is called, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the VLAN, for messages and for the thread: `vlan1`.
    pub name: String,
    /// Most ports at a time.
    pub ports_max: usize,
    /// Most stations in the table.
    pub stations_max: usize,
    /// How long a silent station is remembered.
    pub station_ttl: Duration,
    /// Most frames that wait for one slow port.
    pub queue_frames_max: usize,
    /// Most bytes that wait for one slow port.
    pub queue_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "vlan".to_owned(),
            ports_max: 1024,
            stations_max: 16_384,
            station_ttl: Duration::from_secs(300),
            queue_frames_max: 1024,
            queue_bytes_max: 1 << 20,
        }
    }
}

/// A running switch. Dropping it stops its thread and removes its sockets.
#[derive(Debug)]
pub struct Switch {
    config: Config,
}

impl Switch {
    /// Starts a switch without ports.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] when the host has no thread or descriptor left.
    pub fn start(config: Config) -> Result<Switch, Error> {
        Ok(Switch { config })
    }

    /// Takes VDE clients at `dir`, which is made if it is not there (mode 0700), as is `dir/ctl`.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when the socket cannot be made.
    pub fn listen_vde(&self, _dir: &Path) -> Result<(), Error> {
        Err(self.stopped())
    }

    /// Takes connections of `qemu -netdev stream,server=off` at `path`: a port for each.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] when the socket cannot be made.
    pub fn listen_stream(&self, _path: &Path) -> Result<(), Error> {
        Err(self.stopped())
    }

    /// Adds a port that speaks `-netdev stream` over a connected socket.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the socket cannot be used.
    pub fn add_stream(&self, _stream: UnixStream, _name: &str) -> Result<PortId, Error> {
        Err(self.stopped())
    }

    /// Adds a port that speaks `-netdev dgram`: it receives at `local` and sends to `remote`.
    ///
    /// `remote` need not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the socket cannot be made.
    pub fn add_dgram(&self, _local: &Path, _remote: &Path, _name: &str) -> Result<PortId, Error> {
        Err(self.stopped())
    }

    /// Takes a port off the switch.
    ///
    /// # Errors
    ///
    /// [`Error::NoPort`] when it is gone already.
    pub fn remove(&self, port: PortId) -> Result<(), Error> {
        Err(Error::NoPort(port))
    }

    /// Lists the ports as they are now, by number.
    pub fn ports(&self) -> Vec<PortInfo> {
        Vec::new()
    }

    /// Lists the stations that are known now, by address.
    pub fn stations(&self) -> Vec<StationInfo> {
        Vec::new()
    }

    /// Says what the switch did so far.
    pub fn totals(&self) -> Totals {
        Totals::default()
    }

    /// Writes every frame that comes in from now on to a pcapng file.
    ///
    /// # Errors
    ///
    /// [`Error::CaptureRunning`], or [`Error::Capture`] when the file cannot be made.
    pub fn start_capture(&self, _path: &Path) -> Result<(), Error> {
        Err(self.stopped())
    }

    /// Ends the capture; when it returns, the file is whole.
    ///
    /// # Errors
    ///
    /// [`Error::NoCapture`], or [`Error::Capture`] when the file could not be written.
    pub fn stop_capture(&self) -> Result<CaptureSummary, Error> {
        Err(Error::NoCapture)
    }

    /// Gives the name it was started with.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    fn stopped(&self) -> Error {
        Error::Stopped(self.config.name.clone())
    }
}
