//! One emulated Ethernet segment, and the switch behind it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hotbed_switch::hosts::gateway::Leases;
use hotbed_switch::{Config, Switch};

mod demands;
#[expect(clippy::disallowed_methods, reason = "hosts are told the time")]
mod hosts;
mod rules;

use crate::config::{MachineConfig, Net};
use crate::process::Owner;
use crate::testbed::directories::make_private;
use crate::{Error, Log};

pub use demands::Watch;
pub use hosts::{GATEWAY_NUMBER, GATEWAY_PORT, Network, Services, Simulation};
pub use hotbed_switch::hosts::simulated::Host;
pub use hotbed_switch::wire::pcapng::Direction;
pub use hotbed_switch::{
    BadImpairment, CaptureSummary, Distribution, Drops, End, Impairment, Jitter, LinkInfo, Loss,
    MacAddr, PortId, PortInfo, PortKind, Rate, Sighting, StationInfo,
};
pub use rules::{Before, Frames};

/// One emulated Ethernet segment. Its switch runs in this process and takes VDE clients and QEMU's stream sockets.
#[derive(Debug)]
pub struct Vlan {
    number: u8,
    socket_dir: PathBuf,
    stream_socket: PathBuf,
    /// The names and numbers of the machines on it.
    machines: Vec<(String, u8)>,
    /// Before the switch, so that their ports are not taken from under them.
    hosted: Mutex<hosts::Hosted>,
    switch: Mutex<Option<Switch>>,
    asked: Mutex<rules::Asked>,
    /// Frames that are forbidden.
    bans: Mutex<Vec<Arc<Watch>>>,
    owner: Owner,
}

/// A VLAN at one instant.
#[derive(Debug)]
pub(crate) struct Frozen {
    switch: hotbed_switch::Frozen,
    asked: rules::Asked,
    leases: Option<(Leases, Instant)>,
}

impl Frozen {
    /// Its form as bytes, for a later run.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.switch.to_bytes().map_err(bad_state)
    }

    /// Takes it from its form as bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let switch = hotbed_switch::Frozen::from_bytes(bytes).map_err(bad_state)?;
        let asked = rules::Asked::of(&switch);
        Ok(Self {
            switch,
            asked,
            // Whoever gave out addresses is a step of the script, which gives them out anew.
            leases: None,
        })
    }
}

fn bad_state(error: hotbed_switch::BadState) -> Error {
    Error::Machine(format!("the state of a VLAN: {error}"))
}

impl Vlan {
    /// Starts the switch of VLAN `number`, with its sockets in the testbed's directory: one for each of these machines, so that
    /// ports have their names, and one for anybody else.
    pub(crate) fn start(
        number: u8,
        machines: &[&MachineConfig],
        directory: &Path,
        log: &Log,
    ) -> Result<Self, Error> {
        log.info("start vlan");
        let socket_dir = directory.join(format!("vde{number}.ctl"));
        let stream_socket = directory.join(format!("vlan{number}"));
        let failed = |error: hotbed_switch::Error| {
            Error::Machine(format!("VLAN {number}: {}", chain(&error)))
        };
        let switch = Switch::start(Config {
            name: format!("vlan{number}"),
            ..Config::default()
        })
        .map_err(failed)?;
        switch.listen_vde(&socket_dir).map_err(failed)?;
        switch.listen_stream(&stream_socket).map_err(failed)?;
        if !machines.is_empty() {
            make_private(&ports_of(&stream_socket))?;
        }
        for machine in machines {
            let socket = socket_of(&stream_socket, &machine.name);
            match machine.net() {
                Net::Stream => switch.listen_stream(&socket).map_err(failed)?,
                Net::VhostUser => switch.listen_vhost_user(&socket).map_err(failed)?,
            }
        }
        if machines.iter().any(|one| one.net() == Net::VhostUser) {
            let shared = shared_socket_of(&stream_socket);
            switch.listen_vhost_user(&shared).map_err(failed)?;
        }
        log.info(&format!(
            "running vlan (pid {}; ctl {})",
            std::process::id(),
            socket_dir.display()
        ));
        Ok(Self {
            number,
            socket_dir,
            stream_socket,
            machines: machines
                .iter()
                .map(|machine| (machine.name.clone(), machine.number))
                .collect(),
            hosted: Mutex::default(),
            switch: Mutex::new(Some(switch)),
            asked: Mutex::default(),
            bans: Mutex::default(),
            owner: Owner::here(),
        })
    }

    /// Its number, from 1 to 255.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The VDE control directory, which `QEMU_VDE_SOCKET_<n>` names.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Where `qemu -netdev stream` connects to.
    #[must_use]
    pub fn stream_socket(&self) -> &Path {
        &self.stream_socket
    }

    /// The process in which the switch runs: this one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// The switch's ports with what they carried; none once it is stopped.
    #[must_use]
    pub fn ports(&self) -> Vec<PortInfo> {
        self.switch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Switch::ports)
            .unwrap_or_default()
    }

    /// Writes every frame from now on to a pcapng file.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, or a capture runs already.
    pub fn start_capture(&self, path: &Path) -> Result<(), Error> {
        self.with_switch(|switch| switch.start_capture(path))
    }

    /// Ends the capture; the file is whole then.
    ///
    /// # Errors
    ///
    /// When none runs, or the file could not be written.
    pub fn stop_capture(&self) -> Result<(), Error> {
        self.with_switch(|switch| switch.stop_capture().map(|_| ()))
    }

    /// Has the switch stand still, or go on.
    pub(crate) fn set_paused(&self, is_paused: bool) -> Result<(), Error> {
        self.with_switch(|switch| match is_paused {
            true => switch.pause(),
            false => switch.resume(),
        })
    }

    /// All that it holds while it stands still.
    pub(crate) fn freeze(&self) -> Result<Frozen, Error> {
        Ok(Frozen {
            switch: self.with_switch(Switch::freeze)?,
            asked: self.asked().clone(),
            leases: self.leases(),
        })
    }

    /// Lets go of all machines and frames.
    pub(crate) fn reset(&self) -> Result<(), Error> {
        self.with_switch(Switch::reset)
    }

    /// Goes back to what it held then; the machines have connected again. Gives how many frames are for machines that have not.
    pub(crate) fn thaw(&self, frozen: &Frozen) -> Result<usize, Error> {
        let lost = self.with_switch(|switch| switch.thaw(&frozen.switch))?;
        *self.asked() = frozen.asked.clone();
        self.rewind_hosts(frozen.leases.as_ref());
        Ok(lost)
    }

    fn with_switch<T>(
        &self,
        use_it: impl FnOnce(&Switch) -> Result<T, hotbed_switch::Error>,
    ) -> Result<T, Error> {
        let switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        let switch = switch
            .as_ref()
            .ok_or_else(|| Error::Machine(format!("VLAN {} is stopped", self.number)))?;
        use_it(switch)
            .map_err(|error| Error::Machine(format!("VLAN {}: {}", self.number, chain(&error))))
    }

    /// Stops the switch and removes its sockets.
    pub fn stop(&self, log: &Log) {
        drop(std::mem::take(&mut *hosts::lock(&self.hosted)));
        let switch = self
            .switch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(switch) = switch {
            log.info(&format!("kill vlan (pid {})", std::process::id()));
            drop(switch);
        }
    }
}

impl Drop for Vlan {
    fn drop(&mut self) {
        let switch = self
            .switch
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if !self.owner.is_here() {
            // The sockets are the parent's, and so are the threads that would have to end.
            std::mem::forget(switch);
            std::mem::forget(std::mem::take(&mut *hosts::lock(&self.hosted)));
        }
    }
}

/// Where the sockets of the machines are, beside the one for anybody.
fn ports_of(stream_socket: &Path) -> PathBuf {
    stream_socket.with_extension("ports")
}

/// Where one machine's QEMU connects to.
pub(crate) fn socket_of(stream_socket: &Path, machine: &str) -> PathBuf {
    ports_of(stream_socket).join(machine)
}

/// Where a QEMU connects to that shares its guest's memory, and is not known by a name yet.
pub(crate) fn shared_socket_of(stream_socket: &Path) -> PathBuf {
    stream_socket.with_extension("shared")
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
