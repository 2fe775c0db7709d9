//! Moves data between a port's queues and where they are wanted.

use std::os::fd::AsFd;

use hotbed_vhost_user::virtio_queue::{Queue, QueueT as _};
use hotbed_vhost_user::{Memory, Parts, Ring};

use super::Error;
use super::bridge::Bridge;
use super::unit::Unit;
use crate::device::console::{Sent, Stop};
use crate::device::queue::{Role, needs_interrupt};
use crate::device::received::Received;
use crate::device::source::Source;

/// How often in a row a port's data are moved one way before the others have their turn.
const ROUNDS_MAX: usize = 16;

/// Moves what the guest sent to a port's stream. Says whether there is more, and room for it.
pub(super) fn pump_from_guest(
    parts: &mut Parts<'_, Unit>,
    port: u32,
    bridge: &mut Bridge,
) -> Result<bool, Error> {
    for _ in 0..ROUNDS_MAX {
        if !bridge.can_write {
            return Ok(false);
        }
        let stream = bridge.descriptor().as_fd();
        let moved = receive(parts, port, |received| {
            let wanted = received.len();
            received.write_to(stream).map(|moved| (moved, wanted))
        })?;
        match moved {
            None => return Ok(false),
            Some(Ok((moved, wanted))) => bridge.can_write = moved > 0 || wanted == 0,
            Some(Err(_)) => bridge.break_off(),
        }
    }
    Ok(true)
}

/// Moves what comes from a port's stream to the guest. Says whether there is more, and room for it.
pub(super) fn pump_to_guest(
    parts: &mut Parts<'_, Unit>,
    port: u32,
    bridge: &mut Bridge,
) -> Result<bool, Error> {
    for _ in 0..ROUNDS_MAX {
        if !bridge.can_read {
            return Ok(false);
        }
        match send(parts, port, &mut bridge.stream) {
            Ok(sent) => match sent.stop {
                Stop::Filled => {}
                // Until nothing comes at all: the end, too, is announced but once.
                Stop::NoData => bridge.can_read = sent.bytes > 0,
                Stop::NoBuffers | Stop::Closed => return Ok(false),
            },
            Err(Error::Device(crate::device::Error::Source(_))) => bridge.break_off(),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

pub(super) fn receive<T>(
    parts: &mut Parts<'_, Unit>,
    port: u32,
    take: impl FnOnce(&mut Received<'_, Memory, Queue>) -> T,
) -> Result<Option<T>, Error> {
    let ring = parts.rings.get_mut(Role::Transmit(port).index());
    let Some(ring) = ring.filter(|ring| ring.is_running()) else {
        return Ok(None);
    };
    let memory: &Memory = parts.memory;
    let console = &mut parts.device.console;
    let (taken, interrupts) = match console.receive(port, memory, ring.queue())? {
        Some(mut received) => (take(&mut received), received.finish()?),
        None => return Ok(None),
    };
    if interrupts {
        ring.interrupt();
    }
    Ok(Some(taken))
}

pub(super) fn send<S: Source>(
    parts: &mut Parts<'_, Unit>,
    port: u32,
    source: &mut S,
) -> Result<Sent, Error> {
    let role = Role::Receive(port);
    let ring = parts.rings.get_mut(role.index());
    let Some(ring) = ring.filter(|ring| ring.is_running()) else {
        let stop = Stop::Closed;
        return Ok(Sent { bytes: 0, stop });
    };
    let memory: &Memory = parts.memory;
    let before = ring.queue().next_used();
    let console = &mut parts.device.console;
    let sent = console.send_from(port, memory, ring.queue(), source)?;
    notify(ring, role, memory, before)?;
    Ok(sent)
}

/// Interrupts the guest if something was put into the queue, and it wants to know.
pub(super) fn notify(
    ring: &mut Ring,
    role: Role,
    memory: &Memory,
    before: u16,
) -> Result<(), Error> {
    if needs_interrupt(memory, ring.queue(), before).map_err(|flaw| flaw.at(role))? {
        ring.interrupt();
    }
    Ok(())
}
