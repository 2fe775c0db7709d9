//! The control queues: what driver and device say to each other about the ports.

use virtio_queue::QueueT;
use vm_memory::GuestMemory;

use super::chain::{Batch, Way};
use super::console::Console;
use super::error::{Error, Flaw};
use super::queue::Role;
use super::state::{PortEvent, PortFacts};
use super::wire::{CONTROL_LEN, F_SIZE, FromDriver, MESSAGE_MAX};

/// How many control messages are handled in one call.
const CONTROL_MAX: usize = 1024;

/// What came of [`Console::handle_control`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// What the guest did.
    pub events: Vec<PortEvent>,
    /// There was more than one call handles: call again.
    pub again: bool,
}

impl Console {
    /// Takes the driver's control messages and sends ours.
    ///
    /// Call it when either control queue was kicked, and after [`Console::open_port`], [`Console::close_port`] and
    /// [`Console::resize`]; then ask [`needs_interrupt`](super::needs_interrupt) for both queues.
    ///
    /// # Errors
    ///
    /// Fails when the guest broke the rules.
    pub fn handle_control<M: GuestMemory, Q: QueueT>(
        &mut self,
        memory: &M,
        receive: &mut Q,
        transmit: &mut Q,
    ) -> Result<Control, Error> {
        self.working()?;
        let mut control = Control::default();
        if !self.is_multiport() {
            return Ok(control);
        }
        let heard = self.hear(memory, transmit, &mut control);
        self.blame(heard, Role::ControlTransmit)?;
        let spoken = self.speak(memory, receive);
        self.blame(spoken, Role::ControlReceive)?;
        Ok(control)
    }

    /// Takes the driver's control messages.
    fn hear<M: GuestMemory, Q: QueueT>(
        &mut self,
        memory: &M,
        queue: &mut Q,
        control: &mut Control,
    ) -> Result<(), Flaw> {
        for _ in 0..CONTROL_MAX {
            let Some(batch) = Batch::take(memory, queue, Way::FromGuest, 0, 1)? else {
                return Ok(());
            };
            let mut bytes = [0; CONTROL_LEN];
            let mut len = 0;
            for slice in &batch.slices {
                len += slice.copy_to(&mut bytes[len..]);
            }
            let event = FromDriver::parse(&bytes[..len])
                .and_then(|message| self.handshake.handle_message(message))
                .map_err(Flaw::Message)?;
            control.events.extend(event);
            // A message that is longer than a batch is done with, too: but no driver sends one.
            batch.settle(memory, queue, Way::FromGuest, batch.bytes)?;
        }
        control.again = true;
        Ok(())
    }

    /// Sends our control messages, as far as the driver offers buffers.
    fn speak<M: GuestMemory, Q: QueueT>(&mut self, memory: &M, queue: &mut Q) -> Result<(), Flaw> {
        let Console {
            handshake, ports, ..
        } = self;
        let resize = (self.driver_features & F_SIZE != 0).then_some(self.resize_order);
        let facts = |index: usize| PortFacts {
            name: &ports[index].name,
            is_console: ports[index].is_console,
            resize,
        };
        while let Some(message) = handshake.poll_message(&facts) {
            let mut bytes = [0; MESSAGE_MAX];
            let len = message.encode(&mut bytes);
            let Some(batch) = Batch::take(memory, queue, Way::ToGuest, 0, 1)? else {
                return Ok(());
            };
            if batch.bytes < len {
                return Err(Flaw::Small {
                    head: batch.chains[0].head,
                    len: batch.bytes,
                    needed: len,
                });
            }
            let mut unsent = &bytes[..len];
            for slice in &batch.slices {
                let here = unsent.len().min(slice.len());
                slice.copy_from(&unsent[..here]);
                unsent = &unsent[here..];
            }
            batch.settle(memory, queue, Way::ToGuest, len)?;
            handshake.handle_sent(&facts);
        }
        Ok(())
    }
}
