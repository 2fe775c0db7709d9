//! What a connection knows, and what each request does to it. It waits for nothing.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Backend as Requests, Error as Refused, Result};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use crate::device::{CONFIG_MAX, QUEUES_MAX, STATE_MAX};
use crate::dirty::Log;
use crate::io::Poller;
use crate::memory::{self, File, Table};
use crate::ring::{Addresses, Ring};
use crate::{Device, Error};

mod requests;

pub(crate) use requests::Slot;

/// Features that are the connection's, not the device's.
const CONNECTION_FEATURES: u64 =
    VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | VhostUserVirtioFeatures::LOG_ALL.bits();

/// All that belongs to one front end, and the device.
pub(crate) struct Core<D> {
    pub(crate) device: D,
    pub(crate) rings: Vec<Ring>,
    pub(crate) table: Table,
    poller: Poller,
    /// What the driver chose.
    features: u64,
    protocol: VhostUserProtocolFeatures,
    log: Option<Arc<Log>>,
    /// Where we could ask the front end for something. We do not, but User-mode Linux has no interrupts without it.
    requests: Option<Requests>,
    /// Where a state to load comes from, or how it went to save one.
    transfer: Transfer,
    /// What the device knows of its queues.
    is_running: Vec<bool>,
    /// Something has changed that concerns the data path.
    has_changed: bool,
}

#[derive(Debug)]
enum Transfer {
    Idle,
    Failed,
    Loading(OwnedFd),
}

impl<D: fmt::Debug> fmt::Debug for Core<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("device", &self.device)
            .field("rings", &self.rings)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl<D: Device> Core<D> {
    pub(crate) fn new(device: D, poller: Poller) -> std::result::Result<Self, Error> {
        let (queues, size) = (device.queue_count(), device.queue_size_max());
        let refused = Error::Device { queues, size };
        if queues == 0 || queues > QUEUES_MAX {
            return Err(refused);
        }
        let Ok(rings) = (0..queues).map(|_| Ring::new(size)).collect() else {
            return Err(refused);
        };
        Ok(Self {
            device,
            rings,
            table: Table::empty(),
            poller,
            features: 0,
            protocol: VhostUserProtocolFeatures::empty(),
            log: None,
            requests: None,
            transfer: Transfer::Idle,
            is_running: vec![false; queues],
            has_changed: false,
        })
    }

    /// Whether something has changed that concerns the data path, since it was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Whether QEMU may send `SET_VRING_ENABLE` although no driver has chosen the feature for it.
    pub(crate) fn is_enable_early(&self) -> bool {
        self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0
    }

    /// Whether a request that has no answer by itself gets one if it wants one.
    pub(crate) fn acknowledges(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    /// Stops all queues: the front end is gone.
    pub(crate) fn hang_up(&mut self) {
        for ring in &mut self.rings {
            ring.reset();
        }
        self.settle();
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        let index = usize::try_from(index).map_err(|_| Refused::InvalidParam)?;
        self.rings
            .get_mut(index)
            .ok_or(Refused::InvalidOperation("there is no such queue"))
    }

    /// Tells the device which queues run.
    fn settle(&mut self) {
        for (index, ring) in self.rings.iter().enumerate() {
            if self.is_running[index] != ring.is_running() {
                self.is_running[index] = ring.is_running();
                self.has_changed = true;
                self.device.queue_changed(index, ring.is_running());
            }
        }
    }

    /// Marks what is written from now on, if there is a log and the front end wants one.
    fn settle_log(&mut self) {
        let is_wanted = self.features & VhostUserVirtioFeatures::LOG_ALL.bits() != 0;
        self.table.set_log(self.log.as_ref().filter(|_| is_wanted));
    }
}

/// Requests.
impl<D: Device> Core<D> {
    fn offered(&self) -> u64 {
        self.device.features() | CONNECTION_FEATURES
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered() != 0 {
            return Err(Refused::InvalidOperation("a feature was not offered"));
        }
        self.features = features;
        let event_index = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for ring in &mut self.rings {
            ring.set_event_index(event_index);
            if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
                ring.set_enabled(true); // Such a front end cannot enable queues.
            }
        }
        self.device
            .set_driver_features(features & self.device.features());
        self.settle_log();
        self.settle();
        Ok(())
    }

    fn offered_protocol(&self) -> VhostUserProtocolFeatures {
        let mut offered = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::LOG_SHMFD;
        if self.device.has_config() {
            offered |= VhostUserProtocolFeatures::CONFIG;
        }
        if self.device.has_state() {
            offered |= VhostUserProtocolFeatures::DEVICE_STATE;
        }
        offered
    }

    fn set_protocol_features(&mut self, bits: u64) -> Result<()> {
        let chosen = VhostUserProtocolFeatures::from_bits(bits)
            .filter(|chosen| self.offered_protocol().contains(*chosen));
        self.protocol = chosen.ok_or(Refused::InvalidOperation("a feature was not offered"))?;
        Ok(())
    }

    pub(crate) fn set_memory(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> Result<()> {
        self.table = Table::map(regions, files)?;
        self.settle_log();
        self.has_changed = true;
        for ring in &mut self.rings {
            ring.locate(&self.table)?;
        }
        Ok(())
    }

    fn set_ring_size(&mut self, index: u32, size: u32) -> Result<()> {
        self.ring(index)?.set_size(size)
    }

    fn set_ring_position(&mut self, index: u32, position: u32) -> Result<()> {
        self.ring(index)?.set_position(position)
    }

    fn set_ring_addresses(&mut self, index: u32, addresses: Addresses) -> Result<()> {
        self.ring(index)?; // Whether there is one.
        self.rings[index as usize].set_addresses(addresses, &self.table)?;
        self.settle();
        Ok(())
    }

    fn set_ring_kick(&mut self, index: u32, kick: Option<OwnedFd>) -> Result<()> {
        self.ring(index)?; // Whether there is one.
        let token = self.poller.token_of_ring(index);
        self.rings[index as usize].set_kick(kick, &self.poller, token, &self.table)?;
        self.settle();
        Ok(())
    }

    fn set_ring_call(&mut self, index: u32, call: Option<OwnedFd>) -> Result<()> {
        self.ring(index)?.set_call(call)
    }

    pub(crate) fn enable_ring(&mut self, index: u32, is_on: bool) -> Result<()> {
        self.ring(index)?.set_enabled(is_on);
        self.settle();
        Ok(())
    }

    fn stop_ring(&mut self, index: u32) -> Result<u16> {
        let position = self.ring(index)?.stop();
        self.settle();
        Ok(position)
    }

    fn disable_rings(&mut self) {
        for ring in &mut self.rings {
            ring.set_enabled(false);
        }
        self.settle();
    }

    fn reset_device(&mut self) {
        for ring in &mut self.rings {
            ring.reset();
        }
        self.settle();
        self.features = 0;
        self.settle_log();
        self.device.reset();
    }

    fn set_requests(&mut self, requests: Requests) {
        self.requests = Some(requests);
    }

    fn read_config(&self, offset: u32, size: u32) -> Result<Vec<u8>> {
        let size = usize::try_from(size).map_err(|_| Refused::InvalidParam)?;
        if size > CONFIG_MAX {
            return Err(Refused::InvalidParam);
        }
        let mut data = vec![0; size];
        self.device.read_config(offset, &mut data);
        Ok(data)
    }

    fn set_log(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        self.log = Some(Arc::new(memory::map_log(log, file)?));
        self.settle_log();
        Ok(())
    }

    /// Begins to save or load: saves at once, and loads when the front end says that it has written everything.
    fn begin_transfer(
        &mut self,
        direction: VhostTransferStateDirection,
        channel: OwnedFd,
    ) -> Result<()> {
        self.transfer = Transfer::Failed;
        if !self
            .protocol
            .contains(VhostUserProtocolFeatures::DEVICE_STATE)
        {
            return Err(Refused::InactiveOperation(
                VhostUserProtocolFeatures::DEVICE_STATE,
            ));
        }
        if self.rings.iter().any(Ring::is_running) {
            return Err(Refused::InvalidOperation("a queue still runs"));
        }
        let flags = rustix::fs::fcntl_getfl(&channel);
        flags
            .and_then(|flags| rustix::fs::fcntl_setfl(&channel, flags | OFlags::NONBLOCK))
            .map_err(|_| Refused::InvalidParam)?;
        self.transfer = match direction {
            VhostTransferStateDirection::SAVE => {
                self.save(&channel)?;
                Transfer::Idle
            }
            VhostTransferStateDirection::LOAD => Transfer::Loading(channel),
        };
        Ok(())
    }

    fn save(&mut self, channel: &OwnedFd) -> Result<()> {
        let state = self.device.save().map_err(Refused::ReqHandlerError)?;
        if state.len() > STATE_MAX {
            return Err(Refused::OversizedMsg);
        }
        let mut rest = state.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(channel, rest) {
                Ok(len) => rest = &rest[len..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Refused::ReqHandlerError(errno.into())),
            }
        }
        Ok(())
    }

    /// Ends saving or loading, and says whether it went well.
    fn end_transfer(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.transfer, Transfer::Idle) {
            Transfer::Idle => Ok(()),
            Transfer::Failed => Err(Refused::BackendInternalError),
            Transfer::Loading(channel) => {
                let state = read_all(&channel)?;
                self.device.load(&state).map_err(Refused::ReqHandlerError)
            }
        }
    }
}

/// Reads what was written before the other end was closed.
fn read_all(channel: &OwnedFd) -> Result<Vec<u8>> {
    let mut state = vec![0; STATE_MAX + 1];
    let mut len = 0;
    loop {
        match rustix::io::read(channel, &mut state[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Refused::ReqHandlerError(errno.into())),
        }
        if len > STATE_MAX {
            return Err(Refused::OversizedMsg);
        }
    }
    state.truncate(len);
    Ok(state)
}
