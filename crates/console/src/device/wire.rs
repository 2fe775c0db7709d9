//! What the guest reads and writes: the configuration space and the control messages.

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The device's number among virtio devices.
pub const DEVICE_ID: u32 = 3;

/// The driver can read the console's size.
pub const F_SIZE: u64 = 1 << 0;

/// There are several ports, and control queues.
pub const F_MULTIPORT: u64 = 1 << 1;

/// The driver can write single bytes without any queue.
pub const F_EMERG_WRITE: u64 = 1 << 2;

/// How long the configuration space is, in bytes.
pub const CONFIG_LEN: usize = 12;

/// Where in the configuration space the driver writes a byte in an emergency.
pub const EMERG_WR_OFFSET: u64 = 8;

/// How long a control message is, in bytes, but for what some have behind it.
pub const CONTROL_LEN: usize = 8;

/// The longest name of a port, in bytes.
pub const PORT_NAME_MAX: usize = 255;

/// The longest control message of the device.
pub const MESSAGE_MAX: usize = CONTROL_LEN + PORT_NAME_MAX;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const RESIZE: u16 = 5;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// A console's size, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// How many characters a row has.
    pub columns: u16,
    /// How many rows there are.
    pub rows: u16,
}

/// In which order a resize message has its two numbers.
///
/// The standard and Linux did not always agree: for many years, Linux read the rows first. A message does not tell which order
/// it has, and a kernel does not tell which one it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResizeOrder {
    /// Columns first, as virtio 1.2 says.
    #[default]
    Standard,
    /// Rows first.
    RowsFirst,
}

/// The configuration space, as the guest reads it.
#[must_use]
pub fn config_space(size: Size, ports: u32) -> [u8; CONFIG_LEN] {
    let mut bytes = [0; CONFIG_LEN];
    bytes[0..2].copy_from_slice(&size.columns.to_le_bytes());
    bytes[2..4].copy_from_slice(&size.rows.to_le_bytes());
    bytes[4..8].copy_from_slice(&ports.to_le_bytes());
    bytes
}

/// A control message of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromDriver {
    /// The driver can take ports; or it cannot.
    DeviceReady(bool),
    /// The driver has set up a port; or it cannot.
    PortReady(u32, bool),
    /// Somebody in the guest opened a port; or closed it.
    PortOpen(u32, bool),
}

impl FromDriver {
    /// Reads a message. What follows the first [`CONTROL_LEN`] bytes has no meaning.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<FromDriver, BadMessage> {
        let Some(bytes) = bytes.first_chunk::<CONTROL_LEN>() else {
            return Err(BadMessage::Short(bytes.len()));
        };
        let [i0, i1, i2, i3, e0, e1, v0, v1] = *bytes;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let (event, value) = (u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1]));
        let yes = match value {
            0 => false,
            1 => true,
            _ => return Err(BadMessage::Value { event, value }),
        };
        match event {
            DEVICE_READY => Ok(FromDriver::DeviceReady(yes)),
            PORT_READY => Ok(FromDriver::PortReady(id, yes)),
            PORT_OPEN => Ok(FromDriver::PortOpen(id, yes)),
            _ => Err(BadMessage::Event(event)),
        }
    }

    /// The message's bytes, as a driver would write them.
    #[must_use]
    pub fn encode(self) -> [u8; CONTROL_LEN] {
        match self {
            FromDriver::DeviceReady(yes) => control(0, DEVICE_READY, yes),
            FromDriver::PortReady(id, yes) => control(id, PORT_READY, yes),
            FromDriver::PortOpen(id, yes) => control(id, PORT_OPEN, yes),
        }
    }
}

/// Why a control message of the driver makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMessage {
    /// It ends too early.
    #[error("a control message of {0} bytes")]
    Short(usize),
    /// Its event is none that a driver may send.
    #[error("a control message with event {0}, which no driver may send")]
    Event(u16),
    /// Its value is neither 0 nor 1.
    #[error("a control message with event {event} and value {value}")]
    Value {
        /// Its event.
        event: u16,
        /// Its value.
        value: u16,
    },
    /// It names a port that does not exist.
    #[error("a control message for port {0}, which does not exist")]
    Port(u32),
    /// It comes before the driver said that it is ready.
    #[error("a control message for port {0} from a driver that is not ready")]
    Early(u32),
}

/// A control message of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromDevice<'a> {
    /// There is such a port.
    PortAdd(u32),
    /// This port is a console.
    ConsolePort(u32),
    /// This port's console has this size.
    Resize(u32, Size, ResizeOrder),
    /// The host opened a port; or closed it.
    PortOpen(u32, bool),
    /// A port's name, at most [`PORT_NAME_MAX`] bytes.
    PortName(u32, &'a str),
}

impl FromDevice<'_> {
    /// Writes the message, and says how many bytes it has. A name that is too long is cut.
    pub fn encode(self, bytes: &mut [u8; MESSAGE_MAX]) -> usize {
        let (head, tail) = bytes.split_at_mut(CONTROL_LEN);
        let (control, more) = match self {
            FromDevice::PortAdd(id) => (control(id, PORT_ADD, true), 0),
            FromDevice::ConsolePort(id) => (control(id, CONSOLE_PORT, true), 0),
            FromDevice::PortOpen(id, yes) => (control(id, PORT_OPEN, yes), 0),
            FromDevice::Resize(id, size, order) => {
                let (first, second) = match order {
                    ResizeOrder::Standard => (size.columns, size.rows),
                    ResizeOrder::RowsFirst => (size.rows, size.columns),
                };
                tail[0..2].copy_from_slice(&first.to_le_bytes());
                tail[2..4].copy_from_slice(&second.to_le_bytes());
                (control(id, RESIZE, true), 4)
            }
            FromDevice::PortName(id, name) => {
                let len = name.len().min(PORT_NAME_MAX);
                tail[..len].copy_from_slice(&name.as_bytes()[..len]);
                (control(id, PORT_NAME, true), len)
            }
        };
        head.copy_from_slice(&control);
        CONTROL_LEN + more
    }
}

/// The eight bytes that every control message begins with.
fn control(id: u32, event: u16, value: bool) -> [u8; CONTROL_LEN] {
    let [i0, i1, i2, i3] = id.to_le_bytes();
    let [e0, e1] = event.to_le_bytes();
    [i0, i1, i2, i3, e0, e1, u8::from(value), 0]
}
