//! The handshake: who has said what about each port, and what is to be said next.
//!
//! What is to be said is kept as one bit per port and kind of message, so there is never more of it than that, however
//! often things change before the guest listens.

use serde::{Deserialize, Serialize};

use super::wire::{BadMessage, FromDevice, FromDriver, ResizeOrder, Size};

/// What a guest did that its host may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortEvent {
    /// The driver is there, and is told about the ports next.
    DriverReady,
    /// The driver cannot work with this device.
    DriverFailed,
    /// The driver has set up this port.
    Ready(u32),
    /// The driver cannot set up this port.
    Failed(u32),
    /// Somebody in the guest opened this port.
    Opened(u32),
    /// Nobody in the guest has this port open any longer.
    Closed(u32),
}

/// A kind of message that the device has to send about a port, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add,
    Console,
    Name,
    Resize,
    Open,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Add,
        Kind::Console,
        Kind::Name,
        Kind::Resize,
        Kind::Open,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What was said about one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortState {
    /// The driver has set it up.
    pub ready: bool,
    /// Somebody in the guest has it open.
    pub guest_open: bool,
    /// The host has it open.
    pub host_open: bool,
    /// Its console's size.
    pub size: Size,
    /// What is still to be sent about it.
    unsaid: u8,
}

/// What does not change about one port.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts<'a> {
    /// Its name; empty: it has none.
    pub name: &'a str,
    /// It is a console.
    pub is_console: bool,
    /// How its console is told of another size; `None`: the driver does not want to know.
    pub resize: Option<ResizeOrder>,
}

/// Who has said what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    driver_ready: bool,
    ports: Vec<PortState>,
}

impl Handshake {
    /// A handshake that did not begin, about this many ports, with consoles of this size.
    #[must_use]
    pub fn new(ports: usize, size: Size) -> Handshake {
        let port = PortState {
            size,
            ..PortState::default()
        };
        Handshake {
            driver_ready: false,
            ports: vec![port; ports],
        }
    }

    /// What was said about each port.
    #[must_use]
    pub fn ports(&self) -> &[PortState] {
        &self.ports
    }

    /// Forgets what the guest said, as a reset of the device does. What the host said stays.
    pub fn reset(&mut self) {
        self.driver_ready = false;
        for port in &mut self.ports {
            *port = PortState {
                host_open: port.host_open,
                size: port.size,
                ..PortState::default()
            };
        }
    }

    /// Takes a message of the driver, and says what it means, if it is news.
    ///
    /// # Errors
    ///
    /// Fails when the message makes no sense now.
    pub fn handle_message(&mut self, message: FromDriver) -> Result<Option<PortEvent>, BadMessage> {
        match message {
            FromDriver::DeviceReady(yes) => Ok(Some(self.handle_driver(yes))),
            FromDriver::PortReady(id, yes) => {
                let port = self.known(id)?;
                port.ready = yes;
                port.unsaid = 0;
                if !yes {
                    return Ok(Some(PortEvent::Failed(id)));
                }
                for kind in [Kind::Console, Kind::Name, Kind::Resize] {
                    port.say(kind);
                }
                if port.host_open {
                    port.say(Kind::Open);
                }
                Ok(Some(PortEvent::Ready(id)))
            }
            FromDriver::PortOpen(id, yes) => {
                let port = self.known(id)?;
                let before = std::mem::replace(&mut port.guest_open, yes);
                Ok((before != yes).then_some(match yes {
                    true => PortEvent::Opened(id),
                    false => PortEvent::Closed(id),
                }))
            }
        }
    }

    /// Has the host open a port, or close it.
    pub fn set_host_open(&mut self, port: usize, open: bool) {
        let Some(port) = self.ports.get_mut(port) else {
            return;
        };
        if port.host_open != open {
            port.host_open = open;
            if port.ready {
                port.say(Kind::Open);
            }
        }
    }

    /// Gives a port's console another size.
    pub fn resize(&mut self, port: usize, size: Size) {
        let Some(port) = self.ports.get_mut(port) else {
            return;
        };
        if port.size != size {
            port.size = size;
            if port.ready {
                port.say(Kind::Resize);
            }
        }
    }

    /// What is to be sent next. It stays the next one until [`Handshake::handle_sent`].
    pub fn poll_message<'a>(
        &self,
        facts: &dyn Fn(usize) -> PortFacts<'a>,
    ) -> Option<FromDevice<'a>> {
        self.next_unsaid(facts).map(|(_, _, message)| message)
    }

    /// Takes note that what was to be sent next was sent.
    pub fn handle_sent<'a>(&mut self, facts: &dyn Fn(usize) -> PortFacts<'a>) {
        if let Some((port, kind, _)) = self.next_unsaid(facts) {
            self.ports[port].unsaid &= !kind.bit();
        }
    }

    fn next_unsaid<'a>(
        &self,
        facts: &dyn Fn(usize) -> PortFacts<'a>,
    ) -> Option<(usize, Kind, FromDevice<'a>)> {
        (0..self.ports.len()).find_map(|index| {
            let port = &self.ports[index];
            if port.unsaid == 0 {
                return None;
            }
            let facts = facts(index);
            Kind::ALL
                .into_iter()
                .filter(|kind| port.unsaid & kind.bit() != 0)
                .find_map(|kind| Some((index, kind, port.message(index as u32, kind, facts)?)))
        })
    }

    fn handle_driver(&mut self, ready: bool) -> PortEvent {
        self.driver_ready = ready;
        for port in &mut self.ports {
            port.ready = false;
            port.guest_open = false;
            port.unsaid = 0;
            if ready {
                port.say(Kind::Add);
            }
        }
        match ready {
            true => PortEvent::DriverReady,
            false => PortEvent::DriverFailed,
        }
    }

    /// The port with this number, if the driver may speak of it.
    fn known(&mut self, id: u32) -> Result<&mut PortState, BadMessage> {
        if !self.driver_ready {
            return Err(BadMessage::Early(id));
        }
        usize::try_from(id)
            .ok()
            .and_then(|id| self.ports.get_mut(id))
            .ok_or(BadMessage::Port(id))
    }
}

impl PortState {
    fn say(&mut self, kind: Kind) {
        self.unsaid |= kind.bit();
    }

    /// The message of this kind, if there is one for such a port.
    fn message<'a>(&self, id: u32, kind: Kind, facts: PortFacts<'a>) -> Option<FromDevice<'a>> {
        match kind {
            Kind::Add => Some(FromDevice::PortAdd(id)),
            Kind::Console => facts.is_console.then_some(FromDevice::ConsolePort(id)),
            Kind::Name => (!facts.name.is_empty()).then_some(FromDevice::PortName(id, facts.name)),
            Kind::Resize => facts
                .resize
                .filter(|_| facts.is_console && self.size != Size::default())
                .map(|order| FromDevice::Resize(id, self.size, order)),
            Kind::Open => Some(FromDevice::PortOpen(id, self.host_open)),
        }
    }
}
