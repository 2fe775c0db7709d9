//! A queue with the descriptors by which driver and device wake each other.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use vhost::vhost_user::{Error as Refused, Result};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{Bytes as _, GuestAddress};

use crate::batch::Batch;
use crate::io::Poller;
use crate::memory::{Memory, Table};

/// The driver wants no interrupt (`VRING_AVAIL_F_NO_INTERRUPT`).
const NO_INTERRUPT: u16 = 1;

/// One queue of a device.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    addresses: Option<Addresses>,
    kick: Option<Kick>,
    call: Option<OwnedFd>,
    /// How many chains were given back in batches since the driver was told.
    added: u16,
    /// The front end has given a descriptor for kicks, and has not asked for the ring's position since.
    is_started: bool,
    is_enabled: bool,
}

/// Where the front end has the queue, by its own addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

impl Ring {
    pub(crate) fn new(size_max: u16) -> std::result::Result<Self, virtio_queue::Error> {
        Ok(Self {
            queue: Queue::new(size_max)?,
            addresses: None,
            kick: None,
            call: None,
            added: 0,
            is_started: false,
            is_enabled: false,
        })
    }

    /// Whether the device may take from the queue and put into it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_enabled && self.queue.ready()
    }

    /// The queue. To be used while [it runs](Self::is_running) only.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Takes chains and gives them back, many in a row. To be used while [it runs](Self::is_running) only.
    ///
    /// # Errors
    ///
    /// When the queue does not lie in one piece of the guest's memory, or the driver offers more than it holds.
    pub fn batch<'r>(
        &'r mut self,
        memory: &'r Memory,
    ) -> std::result::Result<Batch<'r>, virtio_queue::Error> {
        Batch::new(&mut self.queue, &mut self.added, memory)
    }

    /// Interrupts the driver if it wants that for what was put into the queue. Says whether it did.
    ///
    /// # Errors
    ///
    /// When the queue does not lie in the guest's memory any longer.
    pub fn notify(&mut self, memory: &Memory) -> std::result::Result<bool, virtio_queue::Error> {
        let added = std::mem::take(&mut self.added);
        let wants = if self.queue.event_idx_enabled() {
            self.queue.needs_notification(memory)? || self.is_event_among(added, memory)
        } else {
            self.queue.needs_notification(memory)? && !self.is_silenced(memory)
        };
        if wants {
            self.interrupt();
        }
        Ok(wants)
    }

    /// Interrupts the driver, whether it wants that or not.
    pub fn interrupt(&self) {
        if let Some(call) = &self.call {
            // Full: it knows already. Broken: the front end has taken it back, and will say so.
            let _ = rustix::io::write(call, &1_u64.to_ne_bytes());
        }
    }

    /// Whether the driver waits for one of the `added` chains that were used last.
    fn is_event_among(&self, added: u16, memory: &Memory) -> bool {
        let at = 4 + 2 * u64::from(self.queue.size());
        let at = self.queue.avail_ring().saturating_add(at);
        let event = memory.read_obj::<u16>(GuestAddress(at));
        event.is_ok_and(|event| {
            let since = self.queue.next_used().wrapping_sub(u16::from_le(event));
            since.wrapping_sub(1) < added
        })
    }

    fn is_silenced(&self, memory: &Memory) -> bool {
        let flags = memory.read_obj::<u16>(GuestAddress(self.queue.avail_ring()));
        flags.is_ok_and(|flags| u16::from_le(flags) & NO_INTERRUPT != 0)
    }

    /// Takes a kick out of its descriptor. `false` when there was none.
    pub(crate) fn take_kick(&mut self) -> bool {
        let Some(kick) = &self.kick else {
            return false;
        };
        match rustix::io::read(&kick.descriptor, &mut [0_u8; 8]) {
            Ok(len) if len > 0 => true,
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The end of a pipe, or no eventfd at all: it would be readable for ever.
            _ => {
                self.kick = None;
                false
            }
        }
    }
}

/// What the front end's requests do.
impl Ring {
    pub(crate) fn set_size(&mut self, size: u32) -> Result<()> {
        self.check_stopped()?;
        let size = u16::try_from(size).map_err(|_| Refused::InvalidParam)?;
        self.queue
            .try_set_size(size)
            .map_err(|_| Refused::InvalidParam)
    }

    pub(crate) fn set_position(&mut self, position: u32) -> Result<()> {
        self.check_stopped()?;
        let position = u16::try_from(position).map_err(|_| Refused::InvalidParam)?;
        self.queue.set_next_avail(position);
        Ok(())
    }

    fn check_stopped(&self) -> Result<()> {
        if self.is_started {
            return Err(Refused::InvalidOperation("the ring is not stopped"));
        }
        Ok(())
    }

    pub(crate) fn set_addresses(&mut self, addresses: Addresses, table: &Table) -> Result<()> {
        self.addresses = Some(addresses);
        self.locate(table)?;
        self.start_if_complete(table)
    }

    /// Finds the queue in the memory (anew, when that was replaced).
    pub(crate) fn locate(&mut self, table: &Table) -> Result<()> {
        let Some(addresses) = self.addresses else {
            return Ok(());
        };
        let translate = |address| table.translate(address).map(GuestAddress);
        let bad = |_| Refused::InvalidParam;
        self.queue
            .try_set_desc_table_address(translate(addresses.descriptors)?)
            .map_err(bad)?;
        self.queue
            .try_set_avail_ring_address(translate(addresses.available)?)
            .map_err(bad)?;
        self.queue
            .try_set_used_ring_address(translate(addresses.used)?)
            .map_err(bad)?;
        if self.queue.ready() && !self.queue.is_valid(&**table.memory()) {
            return Err(Refused::InvalidOperation(
                "a running ring lies outside of the memory",
            ));
        }
        Ok(())
    }

    pub(crate) fn set_kick(
        &mut self,
        descriptor: Option<OwnedFd>,
        poller: &Poller,
        token: u64,
        table: &Table,
    ) -> Result<()> {
        self.kick = None; // Its place in epoll is free before the new one wants one.
        self.kick = match descriptor {
            Some(descriptor) => Some(Kick::new(descriptor, poller, token)?),
            None => None,
        };
        self.is_started = true;
        self.start_if_complete(table)
    }

    pub(crate) fn set_call(&mut self, descriptor: Option<OwnedFd>) -> Result<()> {
        if let Some(descriptor) = &descriptor {
            set_nonblocking(descriptor)?;
        }
        self.call = descriptor;
        Ok(())
    }

    /// Starts when kicks can come and the addresses are known. Buffers may be there already: nobody will kick for them.
    fn start_if_complete(&mut self, table: &Table) -> Result<()> {
        if !self.is_started || self.addresses.is_none() || self.queue.ready() {
            return Ok(());
        }
        let memory = &**table.memory();
        self.queue.set_ready(true);
        if !self.queue.is_valid(memory) {
            self.queue.set_ready(false);
            return Err(Refused::InvalidOperation(
                "the ring lies outside of the memory",
            ));
        }
        let used = self
            .queue
            .used_idx(memory, std::sync::atomic::Ordering::Acquire);
        let used = used.map_err(|_| Refused::InvalidOperation("the used ring is misaligned"))?;
        self.queue.set_next_used(used.0);
        Ok(())
    }

    /// Stops, and says where the device has got to.
    pub(crate) fn stop(&mut self) -> u16 {
        self.added = 0;
        self.queue.set_ready(false);
        self.is_started = false;
        self.kick = None;
        self.call = None;
        self.queue.next_avail()
    }

    pub(crate) fn set_enabled(&mut self, is_enabled: bool) {
        self.is_enabled = is_enabled;
    }

    pub(crate) fn set_event_index(&mut self, is_on: bool) {
        self.queue.set_event_idx(is_on);
    }

    /// Back to what it was before any request.
    pub(crate) fn reset(&mut self) {
        self.stop();
        self.queue.reset();
        self.addresses = None;
        self.is_enabled = false;
    }
}

/// A descriptor that is readable when the driver has put something into the queue.
///
/// The front end has it too, so that closing it here would leave it in epoll.
#[derive(Debug)]
struct Kick {
    descriptor: OwnedFd,
    poller: Poller,
}

impl Kick {
    fn new(descriptor: OwnedFd, poller: &Poller, token: u64) -> Result<Self> {
        set_nonblocking(&descriptor)?;
        epoll::add(
            poller.epoll(),
            &descriptor,
            EventData::new_u64(token),
            EventFlags::IN,
        )
        .map_err(|_| Refused::InvalidOperation("a kick descriptor cannot be waited for"))?;
        Ok(Self {
            descriptor,
            poller: poller.clone(),
        })
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        let _ = epoll::delete(self.poller.epoll(), &self.descriptor);
    }
}

/// Neither a full eventfd nor an empty one may make us wait.
fn set_nonblocking(descriptor: &OwnedFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor);
    flags
        .and_then(|flags| rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK))
        .map_err(|_| Refused::InvalidOperation("a descriptor cannot be made non-blocking"))
}
