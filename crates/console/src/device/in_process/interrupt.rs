//! How the guest is interrupted.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bit of virtio-mmio's `InterruptStatus` that says that a used ring has changed.
pub const STATUS_USED: u32 = 1;

/// The bit of virtio-mmio's `InterruptStatus` that says that the configuration space has changed.
pub const STATUS_CONFIG: u32 = 2;

/// How the guest is interrupted: eventfds, which with KVM are irqfds.
#[derive(Debug)]
pub struct Interrupt {
    kind: Kind,
    status: Arc<AtomicU32>,
}

#[derive(Debug)]
enum Kind {
    Line(OwnedFd),
    Vectors {
        queues: Vec<OwnedFd>,
        config: OwnedFd,
    },
}

impl Interrupt {
    /// One line for all, as virtio-mmio has it.
    #[must_use]
    pub fn line(irq: OwnedFd) -> Interrupt {
        Interrupt {
            kind: Kind::Line(irq),
            status: Arc::default(),
        }
    }

    /// A vector for each queue and one for the configuration space, as MSI-X has it. A queue without one raises none.
    #[must_use]
    pub fn vectors(queues: Vec<OwnedFd>, config: OwnedFd) -> Interrupt {
        Interrupt {
            kind: Kind::Vectors { queues, config },
            status: Arc::default(),
        }
    }

    /// The interrupt status, for the VMM's registers: the guest reads it, and clears bits by `InterruptACK`.
    #[must_use]
    pub fn status(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.status)
    }

    /// Tells the guest that a queue's used ring changed.
    ///
    /// # Errors
    ///
    /// Fails when the eventfd does.
    pub fn raise_used(&self, queue: usize) -> io::Result<()> {
        self.status.fetch_or(STATUS_USED, Ordering::SeqCst);
        match &self.kind {
            Kind::Line(irq) => signal(irq),
            Kind::Vectors { queues, .. } => queues.get(queue).map_or(Ok(()), signal),
        }
    }

    /// Tells the guest that the configuration space changed.
    ///
    /// # Errors
    ///
    /// Fails when the eventfd does.
    pub fn raise_config(&self) -> io::Result<()> {
        self.status.fetch_or(STATUS_CONFIG, Ordering::SeqCst);
        match &self.kind {
            Kind::Line(irq) => signal(irq),
            Kind::Vectors { config, .. } => signal(config),
        }
    }
}

/// Adds one to an eventfd.
fn signal(eventfd: &OwnedFd) -> io::Result<()> {
    match rustix::io::write(eventfd, &1_u64.to_ne_bytes()) {
        // A counter that is full is signalled already.
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
