//! The device.

use std::mem;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vm_memory::GuestMemory;

use super::chain::{Batch, CHAINS_MAX, Way};
use super::error::{Error, Flaw};
use super::queue::Role;
use super::received::Received;
use super::source::Source;
use super::state::Handshake;
use super::wire::{self, CONFIG_LEN, EMERG_WR_OFFSET, PORT_NAME_MAX, ResizeOrder, Size};

/// How many ports a device has at most: vhost-user numbers queues with a byte.
pub const PORTS_MAX: usize = 127;

/// How many bytes of emergency writes are kept.
pub const EMERGENCY_MAX: usize = 4096;

/// A port of a console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its name in the guest (`/dev/virtio-ports/…` in Linux); may be empty.
    pub name: String,
    /// It is a console (`/dev/hvc…` in Linux), with a size.
    pub is_console: bool,
    /// The host has it open from the beginning; else from [`Console::open_port`] on.
    pub is_open: bool,
}

/// What a device is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Its ports, at least one and at most [`PORTS_MAX`].
    pub ports: Vec<Port>,
    /// The size of its consoles in the beginning.
    pub size: Size,
    /// In which order the guest's driver reads a new size.
    pub resize_order: ResizeOrder,
}

/// What became of a [`Console::send_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How many bytes the guest has got.
    pub bytes: usize,
    /// Why it was not more.
    pub stop: Stop,
}

/// Why no more was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing stands in the way: call again.
    Filled,
    /// The source had no more.
    NoData,
    /// The guest offers no buffers. It kicks the port's receive queue when it does.
    NoBuffers,
    /// Nobody in the guest has the port open. [`PortEvent::Opened`](super::PortEvent::Opened) says when that changes.
    Closed,
}

/// A virtio-console device, but for its transport.
#[derive(Debug)]
pub struct Console {
    pub(super) ports: Vec<Port>,
    pub(super) resize_order: ResizeOrder,
    pub(super) driver_features: u64,
    pub(super) is_broken: bool,
    pub(super) handshake: Handshake,
    /// For each port, how many bytes were received of the chain that is next.
    pub(super) taken: Vec<usize>,
    pub(super) emergency: Vec<u8>,
    pub(super) emergency_lost: u64,
}

impl Console {
    /// Makes a device that no driver has seen.
    ///
    /// # Errors
    ///
    /// Fails when there is no port, too many, or one with a name that is too long or has a NUL.
    pub fn new(config: Config) -> Result<Console, Error> {
        if !(1..=PORTS_MAX).contains(&config.ports.len()) {
            return Err(Error::Config(format!("{} ports", config.ports.len())));
        }
        let is_bad = |port: &&Port| port.name.len() > PORT_NAME_MAX || port.name.contains('\0');
        if let Some(port) = config.ports.iter().find(is_bad) {
            return Err(Error::Config(format!("a port named {:?}", port.name)));
        }
        let mut handshake = Handshake::new(config.ports.len(), config.size);
        for (index, port) in config.ports.iter().enumerate() {
            handshake.set_host_open(index, port.is_open);
        }
        Ok(Console {
            taken: vec![0; config.ports.len()],
            ports: config.ports,
            resize_order: config.resize_order,
            driver_features: 0,
            is_broken: false,
            handshake,
            emergency: Vec::new(),
            emergency_lost: 0,
        })
    }

    /// How many queues it has. What each is for says [`Role::of`].
    #[must_use]
    pub fn queue_count(&self) -> usize {
        2 + 2 * self.ports.len()
    }

    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The features that it offers. What the transport adds is not its business.
    #[must_use]
    pub fn features(&self) -> u64 {
        wire::F_SIZE
            | wire::F_MULTIPORT
            | wire::F_EMERG_WRITE
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    /// Takes the features that the driver accepted. Those that were not offered are ignored.
    ///
    /// Whoever owns the queues gives them `VIRTIO_F_EVENT_IDX`: see [`Console::has_event_idx`].
    pub fn set_driver_features(&mut self, features: u64) {
        self.driver_features = features & self.features();
    }

    /// Whether the driver accepted `VIRTIO_F_EVENT_IDX`, so that [`QueueT::set_event_idx`] is to be called for each queue.
    #[must_use]
    pub fn has_event_idx(&self) -> bool {
        self.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0
    }

    /// Reads from the configuration space. What is not there is zero.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        let ports = u32::try_from(self.ports.len()).expect("at most PORTS_MAX");
        let space = wire::config_space(self.handshake.ports()[0].size, ports);
        let offset = usize::try_from(offset).unwrap_or(CONFIG_LEN);
        let there = space.get(offset..).unwrap_or_default();
        data.fill(0);
        let len = there.len().min(data.len());
        data[..len].copy_from_slice(&there[..len]);
    }

    /// Writes to the configuration space. Only emergency writes have an effect, and they have it before any handshake.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) {
        let (EMERG_WR_OFFSET, Some(byte)) = (offset, data.first()) else {
            return;
        };
        if self.emergency.len() < EMERGENCY_MAX {
            self.emergency.push(*byte);
        } else {
            self.emergency_lost += 1;
        }
    }

    /// Takes what the guest wrote in an emergency, and how many bytes of it were lost since there were more than
    /// [`EMERGENCY_MAX`].
    pub fn take_emergency(&mut self) -> (Vec<u8>, u64) {
        (
            mem::take(&mut self.emergency),
            mem::take(&mut self.emergency_lost),
        )
    }

    /// Forgets what the guest did, as when its driver resets the device. Reset the queues, too.
    pub fn reset(&mut self) {
        self.driver_features = 0;
        self.is_broken = false;
        self.handshake.reset();
        self.taken.fill(0);
    }

    /// Whether the guest broke the rules, and did not reset the device since: set `DEVICE_NEEDS_RESET`.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether somebody in the guest has this port open. Without [`wire::F_MULTIPORT`], port 0 always is.
    #[must_use]
    pub fn is_open(&self, port: u32) -> bool {
        match self.is_multiport() {
            true => self
                .handshake
                .ports()
                .get(port as usize)
                .is_some_and(|port| port.guest_open),
            false => port == 0,
        }
    }

    /// Opens a port: the guest is told with the next [`Console::handle_control`].
    ///
    /// # Errors
    ///
    /// Fails when there is no such port.
    pub fn open_port(&mut self, port: u32) -> Result<(), Error> {
        let index = self.index(port)?;
        self.handshake.set_host_open(index, true);
        Ok(())
    }

    /// Closes a port: the guest is told with the next [`Console::handle_control`].
    ///
    /// # Errors
    ///
    /// Fails when there is no such port.
    pub fn close_port(&mut self, port: u32) -> Result<(), Error> {
        let index = self.index(port)?;
        self.handshake.set_host_open(index, false);
        Ok(())
    }

    /// Gives a port's console another size: the guest is told with the next [`Console::handle_control`].
    ///
    /// Says whether the configuration space changed, so that the guest is to get an interrupt for that as well.
    ///
    /// # Errors
    ///
    /// Fails when there is no such port.
    pub fn resize(&mut self, port: u32, size: Size) -> Result<bool, Error> {
        let index = self.index(port)?;
        let changed = index == 0 && self.handshake.ports()[0].size != size;
        self.handshake.resize(index, size);
        Ok(changed && self.driver_features & wire::F_SIZE != 0)
    }

    /// Receives what the guest sent by a port; `None`: nothing more. Then the guest kicks the port's transmit queue when
    /// there is something.
    ///
    /// # Errors
    ///
    /// Fails when the guest broke the rules, or there is no such port.
    pub fn receive<'a, M: GuestMemory, Q: QueueT>(
        &'a mut self,
        port: u32,
        memory: &'a M,
        queue: &'a mut Q,
    ) -> Result<Option<Received<'a, M, Q>>, Error> {
        let index = self.index(port)?;
        self.working()?;
        let role = Role::Transmit(port);
        let taken = self.taken[index];
        let batch = Batch::take(memory, queue, Way::FromGuest, taken, CHAINS_MAX);
        let batch = self.blame(batch, role)?;
        Ok(batch.map(|batch| Received {
            done: batch.bytes,
            batch,
            memory,
            queue,
            role,
            taken: &mut self.taken[index],
            broken: &mut self.is_broken,
            is_settled: false,
        }))
    }

    /// Sends to a port what the source has, straight into the buffers that the guest offers, up to 16 MiB and 256 buffers.
    ///
    /// # Errors
    ///
    /// Fails when the source does, the guest broke the rules, or there is no such port.
    pub fn send_from<M: GuestMemory, Q: QueueT, S: Source>(
        &mut self,
        port: u32,
        memory: &M,
        queue: &mut Q,
        source: &mut S,
    ) -> Result<Sent, Error> {
        self.index(port)?;
        self.working()?;
        let sent = |bytes, stop| Ok(Sent { bytes, stop });
        if !self.is_open(port) {
            return sent(0, Stop::Closed);
        }
        let role = Role::Receive(port);
        let batch = Batch::take(memory, queue, Way::ToGuest, 0, CHAINS_MAX);
        let Some(batch) = self.blame(batch, role)? else {
            return sent(0, Stop::NoBuffers);
        };
        let (bytes, failure) = match source.fill(&batch.slices) {
            Ok(bytes) => (bytes.min(batch.bytes), None),
            Err(error) => (0, Some(error)),
        };
        let settled = batch.settle(memory, queue, Way::ToGuest, bytes);
        self.blame(settled, role)?;
        match failure {
            Some(error) => Err(Error::Source(error)),
            None if bytes == batch.bytes => sent(bytes, Stop::Filled),
            None => sent(bytes, Stop::NoData),
        }
    }

    pub(super) fn is_multiport(&self) -> bool {
        self.driver_features & wire::F_MULTIPORT != 0
    }

    pub(super) fn index(&self, port: u32) -> Result<usize, Error> {
        let index = usize::try_from(port).ok();
        index
            .filter(|index| *index < self.ports.len())
            .ok_or(Error::NoPort(port))
    }

    pub(super) fn working(&self) -> Result<(), Error> {
        match self.is_broken {
            true => Err(Error::Broken),
            false => Ok(()),
        }
    }

    /// Takes note that the guest broke the rules, if it did.
    pub(super) fn blame<T>(&mut self, result: Result<T, Flaw>, role: Role) -> Result<T, Error> {
        result.map_err(|flaw| {
            self.is_broken = true;
            flaw.at(role)
        })
    }
}
