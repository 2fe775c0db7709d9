//! What the compiler cannot check.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use kvm_bindings::{kvm_irqchip, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

/// Gives a guest its memory.
pub(crate) fn map(vm: &VmFd, memory: &GuestMemoryMmap<()>) -> Result<(), kvm_ioctls::Error> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let start = region.get_host_address(vm_memory::MemoryRegionAddress(0));
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: start.expect("regions are mapped") as u64,
        };
        // SAFETY: the guest may read and write the whole range of ours that the region names.
        // - The range is one mapping of `memory`, from its start and for its length.
        // - It stays mapped: `memory` is kept beside `vm` for as long as a vCPU runs.
        // - Nobody holds a reference to it: `vm-memory` has none but volatile access.
        unsafe { vm.set_user_memory_region(region) }?;
    }
    Ok(())
}

/// An eventfd as what the standard library calls a descriptor that is owned.
pub(crate) fn owned(event: EventFd) -> OwnedFd {
    // SAFETY: `from_raw_fd` needs an open descriptor that nobody else owns: `event` gave it up, and did not close it.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}

/// Has the first interrupt controller deliver every line, from this vector on, and forget it at once.
pub(crate) fn open_controller(chip: &mut kvm_irqchip, vector: u8) {
    // SAFETY: reading a union's field needs that it is the one that was written: the kernel wrote `pic`, as `chip_id` says.
    let controller = unsafe { &mut chip.chip.pic };
    controller.irq_base = vector;
    controller.imr = 0;
    controller.auto_eoi = 1;
    controller.init4 = 1;
}
