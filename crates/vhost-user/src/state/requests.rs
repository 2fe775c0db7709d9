//! The `vhost` crate's names for what a request does.

use std::os::fd::OwnedFd;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Backend, Error as Refused, GpuBackend, Result, VhostUserBackendReqHandlerMut as Requests,
};

use super::Core;
use crate::Device;
use crate::memory::File;
use crate::ring::Addresses;

/// Where a [`Core`] lies while the `vhost` crate handles a request; else it is the connection's alone, without a lock.
#[derive(Debug)]
pub(crate) struct Slot<D> {
    core: Option<Box<Core<D>>>,
}

impl<D: Device> Slot<D> {
    pub(crate) fn empty() -> Self {
        Self { core: None }
    }

    pub(crate) fn put(&mut self, core: Box<Core<D>>) {
        self.core = Some(core);
    }

    pub(crate) fn take(&mut self) -> Option<Box<Core<D>>> {
        self.core.take()
    }

    fn core(&mut self) -> Result<&mut Core<D>> {
        self.core
            .as_deref_mut()
            .ok_or(Refused::BackendInternalError)
    }
}

/// What is not offered, and so may not be asked for.
const NOT_OFFERED: Refused = Refused::InvalidOperation("it is not offered");

impl<D: Device> Requests for Slot<D> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    /// Old front ends mean "disable all rings".
    fn reset_owner(&mut self) -> Result<()> {
        self.core()?.disable_rings();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.core()?.reset_device();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.core()?.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.core()?.set_features(features)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.core()?.set_memory(regions, files)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.core()?.set_ring_size(index, num)
    }

    /// The used ring lies in the guest's memory, so that it is in the log with the rest.
    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let addresses = Addresses {
            descriptors,
            available,
            used,
        };
        self.core()?.set_ring_addresses(index, addresses)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.core()?.set_ring_position(index, base)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let position = self.core()?.stop_ring(index)?;
        Ok(VhostUserVringState::new(index, position.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.core()?
            .set_ring_kick(index.into(), fd.map(OwnedFd::from))
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.core()?
            .set_ring_call(index.into(), fd.map(OwnedFd::from))
    }

    /// Errors end the connection, which says more than an eventfd.
    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.core()?.ring(index.into()).map(drop)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(self.core()?.offered_protocol())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        self.core()?.set_protocol_features(features)
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.core()?.rings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.core()?.enable_ring(index, enable)
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        self.core()?.read_config(offset, size)
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.core()?.device.write_config(offset, data);
        Ok(())
    }

    fn set_backend_req_fd(&mut self, backend: Backend) {
        if let Ok(core) = self.core() {
            core.set_requests(backend);
        }
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(NOT_OFFERED)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(NOT_OFFERED)
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        direction: VhostTransferStateDirection,
        phase: VhostTransferStatePhase,
        channel: File,
    ) -> Result<Option<File>> {
        if phase != VhostTransferStatePhase::STOPPED {
            return Err(NOT_OFFERED);
        }
        self.core()?.begin_transfer(direction, channel.into())?;
        Ok(None)
    }

    fn check_device_state(&mut self) -> Result<()> {
        self.core()?.end_transfer()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        self.core()?.set_log(log, file)
    }
}
