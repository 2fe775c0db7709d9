//! The guest's memory, mapped from the files that the front end sends.

use std::os::fd::AsFd;
use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserLog, VhostUserMemoryRegion};
use vhost::vhost_user::{Error as Refused, Result};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
    GuestRegionMmap, MmapRegion,
};

use crate::dirty::{Dirty, Log};

/// The guest's memory. What is written to it is logged, if the front end asks for that.
///
/// The mapping stays as long as it is held, also when the front end replaces it; but nothing keeps a front end from
/// truncating the file, and then touching the memory kills the process. A guest cannot do that.
pub type Memory = GuestMemoryMmap<Dirty>;

#[expect(
    clippy::disallowed_types,
    reason = "the `vhost` crate passes descriptors as files"
)]
pub(crate) type File = std::fs::File;

/// The memory, and how the front end's addresses translate to the guest's.
#[derive(Debug)]
pub(crate) struct Table {
    memory: Arc<Memory>,
    windows: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    user: u64,
    guest: u64,
    len: u64,
}

impl Table {
    /// No memory at all, which is what there is at first.
    pub(crate) fn empty() -> Self {
        Self {
            memory: Arc::new(Memory::new()),
            windows: Vec::new(),
        }
    }

    /// Maps all regions.
    pub(crate) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self> {
        let mut mapped = Vec::new();
        let mut windows = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            check_len(&file, region.mmap_offset, region.memory_size)?;
            if region.memory_size == 0 {
                return Err(Refused::InvalidParam);
            }
            let guest = GuestAddress(region.guest_phys_addr);
            let mapping = region.mmap_region(file)?;
            let mapping = GuestRegionMmap::new(mapping, guest).ok_or(Refused::InvalidParam)?;
            mapped.push(mapping);
            windows.push(Window {
                user: region.user_addr,
                guest: region.guest_phys_addr,
                len: region.memory_size,
            });
        }
        mapped.sort_by_key(|region| region.start_addr());
        let memory = Memory::from_regions(mapped)
            .map_err(|_| Refused::InvalidOperation("regions of memory overlap"))?;
        Ok(Self {
            memory: Arc::new(memory),
            windows,
        })
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Where in the guest is what the front end has at this address of its own.
    pub(crate) fn translate(&self, user: u64) -> Result<u64> {
        let found = self.windows.iter().find_map(|window| {
            let offset = user.checked_sub(window.user)?;
            (offset < window.len).then(|| window.guest.checked_add(offset))?
        });
        found.ok_or(Refused::InvalidOperation(
            "an address lies outside of the memory",
        ))
    }

    /// Logs what is written from now on, or nothing.
    pub(crate) fn set_log(&self, log: Option<&Arc<Log>>) {
        for region in self.memory.iter() {
            MmapRegion::bitmap(region).set_log(region.start_addr().0, log);
        }
    }
}

/// Maps a log.
pub(crate) fn map_log(log: &VhostUserLog, file: File) -> Result<Log> {
    check_len(&file, log.mmap_offset, log.mmap_size)?;
    let len = usize::try_from(log.mmap_size).map_err(|_| Refused::InvalidParam)?;
    let bits = MmapRegion::from_file(FileOffset::new(file, log.mmap_offset), len)
        .map_err(|_| Refused::InvalidOperation("the log cannot be mapped"))?;
    Ok(Log::new(bits))
}

/// A mapping of more than there is would kill us where it ends.
fn check_len(file: &File, offset: u64, len: u64) -> Result<()> {
    let too_short = Refused::InvalidOperation("a file is shorter than what is to be mapped of it");
    let Ok(stat) = rustix::fs::fstat(file.as_fd()) else {
        return Err(too_short);
    };
    let end = offset.checked_add(len).ok_or(Refused::InvalidParam)?;
    match u64::try_from(stat.st_size) {
        Ok(size) if end <= size => Ok(()),
        _ => Err(too_short),
    }
}
