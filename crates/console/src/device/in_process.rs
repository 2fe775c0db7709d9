//! For a VMM that links this crate: kicks come by ioeventfd, interrupts go by irqfd, data by whatever [`Ports`] are.
//!
//! The VMM keeps the device's registers. When the driver has set up its queues, it makes a [`Service`] and either runs it on
//! a thread of its own ([`Service::run`]), or watches its descriptor ([`Service::as_fd`]) in a loop that is there already
//! and calls [`Service::handle_ready`].
//!
//! ```no_run
//! use std::os::fd::{AsFd, OwnedFd};
//! use hotbed_console::device::in_process::{Interrupt, Kicked, Service, Streams};
//! use hotbed_console::device::{Console, Error};
//! use vm_memory::GuestAddressSpace;
//!
//! # fn f<M: GuestAddressSpace>(console: Console, memory: M, queues: Vec<Kicked>, irq: OwnedFd,
//! #     streams: Vec<Option<OwnedFd>>, stop: OwnedFd) -> Result<(), Error> where M::M: Sized {
//! let mut service = Service::new(console, memory, queues, Interrupt::line(irq), Streams::new(streams))?;
//! service.run(stop.as_fd())
//! # }
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemory};

use super::console::{Console, Stop};
use super::error::Error;
use super::queue::{Role, needs_interrupt};
use super::wire::Size;

mod interrupt;
mod ports;
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "tests send through sockets")]
mod tests;

pub use interrupt::{Interrupt, STATUS_CONFIG, STATUS_USED};
use ports::FromPort;
pub use ports::{Ports, Streams};

/// How many batches go one way by a port before another port has its turn.
const ROUNDS_MAX: usize = 16;

/// How many events are taken at once.
const EVENTS_MAX: usize = 64;

/// Marks what an event is about: a queue's kick, or a port's descriptor.
const PORT_EVENT: u64 = 1 << 32;

/// Marks the event that ends [`Service::run`].
const STOP_EVENT: u64 = 1 << 33;

/// A queue that the driver has set up, and the eventfd that is signalled when it kicks.
#[derive(Debug)]
pub struct Kicked {
    /// The queue.
    pub queue: Queue,
    /// The eventfd, non-blocking. With KVM, it is registered as an ioeventfd of the notify register.
    pub kick: OwnedFd,
}

/// A device at work.
#[derive(Debug)]
pub struct Service<M, P> {
    console: Console,
    memory: M,
    queues: Vec<Kicked>,
    interrupt: Interrupt,
    ports: P,
    epoll: OwnedFd,
    states: Vec<PortState>,
}

/// What a port waits for.
#[derive(Clone, Copy, Debug, Default)]
struct PortState {
    /// There may be more from the guest, which was not offered to the host yet.
    from_guest: bool,
    /// There may be more for the guest, and room.
    to_guest: bool,
    /// The host took only a part.
    host_is_full: bool,
    /// The guest has no buffers, or does not have the port open.
    guest_is_full: bool,
    /// What the port's descriptor is watched for.
    watched: Option<EventFlags>,
    /// The port had a descriptor when it was looked at last.
    has_descriptor: bool,
}

impl<M, P> Service<M, P>
where
    M: GuestAddressSpace,
    M::M: Sized,
    P: Ports,
{
    /// Begins to serve a device whose driver is there (`DRIVER_OK`). The queues are in the order of their numbers; those
    /// that the driver did not set up are not ready.
    ///
    /// # Errors
    ///
    /// Fails when there are too few queues, or the kernel refuses to watch a descriptor.
    pub fn new(
        console: Console,
        memory: M,
        mut queues: Vec<Kicked>,
        interrupt: Interrupt,
        ports: P,
    ) -> Result<Service<M, P>, Error> {
        if queues.len() != console.queue_count() {
            return Err(Error::Config(format!("{} queues", queues.len())));
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        for (index, queue) in (0..).zip(&mut queues) {
            queue.queue.set_event_idx(console.has_event_idx());
            epoll::add(
                &epoll,
                &queue.kick,
                EventData::new_u64(index),
                EventFlags::IN,
            )
            .map_err(system)?;
        }
        let state = PortState {
            from_guest: true,
            to_guest: true,
            ..PortState::default()
        };
        let mut service = Service {
            states: vec![state; console.ports().len()],
            console,
            memory,
            queues,
            interrupt,
            ports,
            epoll,
        };
        service.watch_ports()?;
        Ok(service)
    }

    /// Serves the device on this thread until `stop` is readable.
    ///
    /// # Errors
    ///
    /// Fails when the guest broke its device ([`Error::Guest`]: set `DEVICE_NEEDS_RESET`), or a descriptor fails.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> Result<(), Error> {
        epoll::add(
            &self.epoll,
            stop,
            EventData::new_u64(STOP_EVENT),
            EventFlags::IN,
        )
        .map_err(system)?;
        let ended = loop {
            match self.handle(None) {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let _ = epoll::delete(&self.epoll, stop);
        ended
    }

    /// Does what can be done now, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Service::run`].
    pub fn handle_ready(&mut self) -> Result<(), Error> {
        self.handle(Some(Duration::ZERO)).map(|_| ())
    }

    /// The device. After a change ([`Console::open_port`], …) call [`Service::handle_change`].
    pub fn console_mut(&mut self) -> &mut Console {
        &mut self.console
    }

    /// What is at the host's end.
    pub fn ports_mut(&mut self) -> &mut P {
        &mut self.ports
    }

    /// Tells the guest what changed, and looks again at every port: also when [`Ports`] without a descriptor have something.
    ///
    /// # Errors
    ///
    /// As [`Service::run`].
    pub fn handle_change(&mut self) -> Result<(), Error> {
        self.control()?;
        for state in &mut self.states {
            (state.host_is_full, state.guest_is_full) = (false, false);
            (state.from_guest, state.to_guest) = (true, true);
        }
        self.handle_ready()
    }

    /// Gives a port's console another size.
    ///
    /// # Errors
    ///
    /// As [`Service::run`].
    pub fn resize(&mut self, port: u32, size: Size) -> Result<(), Error> {
        if self.console.resize(port, size)? {
            self.interrupt.raise_config().map_err(Error::Descriptor)?;
        }
        self.control()
    }

    /// Gives back what it was made of, for example to save it.
    pub fn into_parts(self) -> (Console, Vec<Kicked>, P) {
        (self.console, self.queues, self.ports)
    }

    /// Waits for events, at most so long, and handles them. Says whether it is to stop.
    fn handle(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        let is_busy = self.states.iter().any(PortState::is_busy);
        let timeout = match is_busy {
            true => Some(Duration::ZERO),
            false => timeout,
        };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; EVENTS_MAX];
        let count = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(system(error)),
        };
        let mut is_to_stop = false;
        for event in &events[..count] {
            let (data, flags) = (event.data.u64(), event.flags);
            match data {
                STOP_EVENT => is_to_stop = true,
                _ if data >= PORT_EVENT => self.port_event((data - PORT_EVENT) as usize, flags),
                _ => self.kicked(data as usize)?,
            }
        }
        for port in 0..self.states.len() {
            self.move_data(port)?;
        }
        let (bytes, lost) = self.console.take_emergency();
        if !bytes.is_empty() {
            self.ports.handle_emergency(&bytes, lost);
        }
        self.watch_ports()?;
        Ok(is_to_stop)
    }

    fn port_event(&mut self, port: usize, flags: EventFlags) {
        let state = &mut self.states[port];
        let is_over = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if is_over || flags.contains(EventFlags::IN) {
            state.to_guest = true;
        }
        if is_over || flags.contains(EventFlags::OUT) {
            (state.from_guest, state.host_is_full) = (true, false);
        }
    }

    fn kicked(&mut self, index: usize) -> Result<(), Error> {
        // The count says nothing; that there is none is no failure.
        let _ = rustix::io::read(&self.queues[index].kick, &mut [0; 8]);
        match Role::of(index) {
            Role::ControlReceive | Role::ControlTransmit => self.control()?,
            Role::Receive(port) => {
                let state = &mut self.states[port as usize];
                (state.to_guest, state.guest_is_full) = (true, false);
            }
            Role::Transmit(port) => self.states[port as usize].from_guest = true,
        }
        Ok(())
    }

    /// Handles the control queues until neither side has more to say.
    fn control(&mut self) -> Result<(), Error> {
        let memory = self.memory.memory();
        let memory = &*memory;
        loop {
            let [_, _, receive, transmit, ..] = &mut self.queues[..] else {
                return Ok(());
            };
            let (receive, transmit) = (&mut receive.queue, &mut transmit.queue);
            let roles = [Role::ControlReceive, Role::ControlTransmit];
            let before = [receive.next_used(), transmit.next_used()];
            let control = self.console.handle_control(memory, receive, transmit)?;
            for (role, before) in roles.into_iter().zip(before) {
                let queue = &self.queues[role.index()].queue;
                raise(memory, queue, role, before, &self.interrupt)?;
            }
            for event in control.events {
                if let super::PortEvent::Opened(port) = event {
                    let state = &mut self.states[port as usize];
                    (state.to_guest, state.guest_is_full) = (true, false);
                }
                self.ports.handle_event(event);
            }
            if !control.again {
                return Ok(());
            }
        }
    }

    /// Moves what can be moved by a port, either way, up to a bound.
    fn move_data(&mut self, port: usize) -> Result<(), Error> {
        let memory = self.memory.memory();
        let id = u32::try_from(port).expect("at most PORTS_MAX");
        for _ in 0..ROUNDS_MAX {
            let state = &mut self.states[port];
            if !state.from_guest || state.host_is_full {
                break;
            }
            let role = Role::Transmit(id);
            let queue = &mut self.queues[role.index()].queue;
            let Some(mut received) = self.console.receive(id, &*memory, queue)? else {
                state.from_guest = false;
                break;
            };
            self.ports.handle_received(id, &mut received);
            state.host_is_full = received.kept() > 0;
            if received.finish()? {
                self.interrupt
                    .raise_used(role.index())
                    .map_err(Error::Descriptor)?;
            }
        }
        for _ in 0..ROUNDS_MAX {
            let state = &mut self.states[port];
            if !state.to_guest || state.guest_is_full {
                break;
            }
            let role = Role::Receive(id);
            let queue = &mut self.queues[role.index()].queue;
            let before = queue.next_used();
            let mut source = FromPort(&mut self.ports, id);
            let sent = self.console.send_from(id, &*memory, queue, &mut source)?;
            match sent.stop {
                Stop::Filled => {}
                Stop::NoData => state.to_guest = false,
                Stop::NoBuffers | Stop::Closed => state.guest_is_full = true,
            }
            raise(&*memory, queue, role, before, &self.interrupt)?;
        }
        Ok(())
    }

    /// Has the kernel watch the ports' descriptors for what they are needed for, and closes the ports that lost theirs.
    fn watch_ports(&mut self) -> Result<(), Error> {
        let mut has_closed = false;
        for (port, state) in (0_u32..).zip(&mut self.states) {
            let Some(descriptor) = self.ports.descriptor(port) else {
                // The kernel forgets a descriptor that was closed.
                state.watched = None;
                if std::mem::take(&mut state.has_descriptor) {
                    self.console.close_port(port)?;
                    has_closed = true;
                }
                continue;
            };
            state.has_descriptor = true;
            let waits_for_data =
                !state.guest_is_full && !state.to_guest && !self.ports.is_at_end(port);
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, waits_for_data);
            flags.set(EventFlags::OUT, state.host_is_full);
            let wanted = (!flags.is_empty()).then_some(flags);
            let data = EventData::new_u64(PORT_EVENT + u64::from(port));
            let changed = match (state.watched, wanted) {
                (Some(watched), Some(wanted)) if watched != wanted => {
                    epoll::modify(&self.epoll, descriptor, data, wanted)
                }
                (None, Some(wanted)) => epoll::add(&self.epoll, descriptor, data, wanted),
                (Some(_), None) => epoll::delete(&self.epoll, descriptor),
                _ => Ok(()),
            };
            changed.map_err(system)?;
            state.watched = wanted;
        }
        match has_closed {
            true => self.control(),
            false => Ok(()),
        }
    }
}

impl<M, P> AsFd for Service<M, P> {
    /// Readable when [`Service::handle_ready`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl PortState {
    /// The last round ended at its bound.
    fn is_busy(&self) -> bool {
        self.from_guest && !self.host_is_full || self.to_guest && !self.guest_is_full
    }
}

/// Interrupts the guest for what was put into a queue, if it wants that.
fn raise<M: GuestMemory>(
    memory: &M,
    queue: &Queue,
    role: Role,
    before: u16,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    if needs_interrupt(memory, queue, before).map_err(|flaw| flaw.at(role))? {
        interrupt
            .raise_used(role.index())
            .map_err(Error::Descriptor)?;
    }
    Ok(())
}

fn system(error: rustix::io::Errno) -> Error {
    Error::Descriptor(io::Error::from(error))
}
