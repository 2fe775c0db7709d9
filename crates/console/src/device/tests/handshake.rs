//! The control queues, as a driver with several ports uses them.

use super::wire::{FromDriver, ResizeOrder};
use super::*;

/// Where control messages of the driver lie.
const MESSAGE: u64 = DATA - 0x1000;

/// A driver that only speaks about ports.
struct Control<'m> {
    receive: (Guest<'m, GuestMemoryMmap>, Queue),
    transmit: (Guest<'m, GuestMemoryMmap>, Queue),
    memory: &'m GuestMemoryMmap,
}

impl<'m> Control<'m> {
    fn new(memory: &'m GuestMemoryMmap, buffers: u16) -> Control<'m> {
        let mut control = Control {
            receive: Guest::new(memory, 0x8000, 64),
            transmit: Guest::new(memory, 0xc000, 64),
            memory,
        };
        control.offer(buffers);
        control
    }

    /// Offers buffers for messages of the device, of a page each.
    fn offer(&mut self, buffers: u16) {
        for index in 0..buffers {
            let page = DATA + 0x1000 * u64::from(index);
            self.receive.0.offer(index, &[(page, 0x1000)], WRITE);
        }
    }

    fn run(&mut self, console: &mut Console) -> Result<Vec<PortEvent>, Error> {
        let control =
            console.handle_control(self.memory, &mut self.receive.1, &mut self.transmit.1)?;
        assert!(!control.again);
        Ok(control.events)
    }

    fn say(&mut self, console: &mut Console, message: FromDriver) -> Vec<PortEvent> {
        self.say_bytes(console, &message.encode()).unwrap()
    }

    fn say_bytes(&mut self, console: &mut Console, bytes: &[u8]) -> Result<Vec<PortEvent>, Error> {
        let (guest, _) = &mut self.transmit;
        guest.write(MESSAGE, bytes);
        guest.offer(0, &[(MESSAGE, u32::try_from(bytes.len()).unwrap())], 0);
        let events = self.run(console)?;
        assert_eq!(self.transmit.0.all_used(), [(0, 0)]);
        Ok(events)
    }

    /// The device's messages, taken from the buffers in which they are.
    fn heard(&mut self) -> Vec<Vec<u8>> {
        let (guest, _) = &mut self.receive;
        let used = guest.all_used();
        used.iter()
            .map(|(head, len)| guest.read(DATA + 0x1000 * u64::from(*head), *len as usize))
            .collect()
    }
}

fn message(id: u8, event: u8, value: u8, more: &[u8]) -> Vec<u8> {
    [&[id, 0, 0, 0, event, 0, value, 0], more].concat()
}

fn console_of_three() -> Console {
    let mut console = Console::new(Config {
        ports: vec![port("", true), port("org.hotbed.agent", false), {
            Port {
                is_open: false,
                ..port("closed", true)
            }
        }],
        size: Size {
            columns: 80,
            rows: 25,
        },
        ..Config::default()
    })
    .unwrap();
    console.set_driver_features(console.features());
    console
}

#[test]
fn driver_learns_all_about_each_port() {
    let memory = memory();
    let mut control = Control::new(&memory, 32);
    let mut console = console_of_three();
    assert_eq!(control.run(&mut console).unwrap(), []);
    assert_eq!(control.heard(), [[0; 0]; 0], "the driver begins");
    let ready = control.say(&mut console, FromDriver::DeviceReady(true));
    assert_eq!(ready, [PortEvent::DriverReady]);
    let add = [0, 1, 2].map(|id| message(id, 1, 1, &[]));
    assert_eq!(control.heard(), add);

    let ready = control.say(&mut console, FromDriver::PortReady(0, true));
    assert_eq!(ready, [PortEvent::Ready(0)]);
    let size = [80, 0, 25, 0];
    let expected = [
        message(0, 4, 1, &[]),
        message(0, 5, 1, &size),
        message(0, 6, 1, &[]),
    ];
    assert_eq!(control.heard(), expected);
    control.say(&mut console, FromDriver::PortReady(1, true));
    let expected = [message(1, 7, 1, b"org.hotbed.agent"), message(1, 6, 1, &[])];
    assert_eq!(control.heard(), expected);
    control.say(&mut console, FromDriver::PortReady(2, true));
    let expected = [
        message(2, 4, 1, &[]),
        message(2, 7, 1, b"closed"),
        message(2, 5, 1, &size),
    ];
    assert_eq!(control.heard(), expected);
}

#[test]
fn ports_open_and_close_on_either_side() {
    let memory = memory();
    let mut control = Control::new(&memory, 32);
    let mut console = console_of_three();
    control.say(&mut console, FromDriver::DeviceReady(true));
    control.say(&mut console, FromDriver::PortReady(1, true));
    control.heard();
    assert!(!console.is_open(1));
    let (mut guest, mut queue) = Guest::new(&memory, 0, 4);
    guest.offer(0, &[(MESSAGE + 0x100, 4)], WRITE);
    let mut send = |console: &mut Console| {
        let sent = console.send_from(1, &memory, &mut queue, &mut &b"abc"[..]);
        sent.unwrap()
    };
    assert_eq!(send(&mut console).stop, Stop::Closed);
    let opened = control.say(&mut console, FromDriver::PortOpen(1, true));
    assert_eq!(opened, [PortEvent::Opened(1)]);
    let again = control.say(&mut console, FromDriver::PortOpen(1, true));
    assert_eq!(again, [], "that is no news");
    assert!(console.is_open(1));
    assert_eq!(send(&mut console).bytes, 3);
    let closed = control.say(&mut console, FromDriver::PortOpen(1, false));
    assert_eq!(closed, [PortEvent::Closed(1)]);

    console.close_port(1).unwrap();
    console.open_port(1).unwrap();
    console.close_port(1).unwrap();
    control.run(&mut console).unwrap();
    let expected = [message(1, 6, 0, &[])];
    assert_eq!(control.heard(), expected, "only the last one counts");
    console.open_port(2).unwrap();
    control.run(&mut console).unwrap();
    assert_eq!(control.heard(), [[0; 0]; 0], "port 2 is not set up");
    control.say(&mut console, FromDriver::PortReady(2, true));
    assert_eq!(control.heard().last(), Some(&message(2, 6, 1, &[])));
}

#[test]
fn console_is_told_of_its_new_size() {
    let memory = memory();
    let size = Size {
        columns: 300,
        rows: 2,
    };
    for (order, bytes) in [
        (ResizeOrder::Standard, [44, 1, 2, 0]),
        (ResizeOrder::RowsFirst, [2, 0, 44, 1]),
    ] {
        let mut control = Control::new(&memory, 32);
        let mut console = Console::new(Config {
            ports: vec![port("", true), port("", false)],
            resize_order: order,
            ..Config::default()
        })
        .unwrap();
        assert!(
            !console.resize(0, Size::default()).unwrap(),
            "nothing changed"
        );
        console.set_driver_features(console.features());
        control.say(&mut console, FromDriver::DeviceReady(true));
        for port in [0, 1] {
            control.say(&mut console, FromDriver::PortReady(port, true));
        }
        control.heard();
        assert!(console.resize(0, size).unwrap());
        assert!(!console.resize(0, size).unwrap(), "it has that size");
        assert!(!console.resize(1, size).unwrap(), "it is no console");
        control.run(&mut console).unwrap();
        assert_eq!(control.heard(), [message(0, 5, 1, &bytes)]);

        console.set_driver_features(console.features() & !wire::F_SIZE);
        assert!(!console.resize(0, Size::default()).unwrap());
        control.run(&mut console).unwrap();
        assert_eq!(control.heard(), [[0; 0]; 0]);
    }
}

#[test]
fn messages_wait_for_buffers_and_do_not_pile_up() {
    let memory = memory();
    let mut control = Control::new(&memory, 2);
    let mut console = console_of_three();
    control.say(&mut console, FromDriver::DeviceReady(true));
    control.say(&mut console, FromDriver::PortReady(0, true));
    assert_eq!(control.heard().len(), 2);
    for columns in 0..1000 {
        console.resize(0, Size { columns, rows: 1 }).unwrap();
        console.close_port(0).unwrap();
        console.open_port(0).unwrap();
        control.run(&mut console).unwrap();
    }
    control.offer(32);
    control.run(&mut console).unwrap();
    let expected = [
        message(0, 4, 1, &[]),
        message(0, 5, 1, &[231, 3, 1, 0]),
        message(0, 6, 1, &[]),
        message(2, 1, 1, &[]),
    ];
    assert_eq!(control.heard(), expected);
}

#[test]
fn message_may_lie_in_several_buffers() {
    let memory = memory();
    let mut control = Control::new(&memory, 0);
    let mut console = console_of_three();
    let (guest, _) = &mut control.receive;
    let first = [(DATA, 3), (DATA + 0x10, 1), (DATA + 0x20, 9)];
    let next = guest.offer(0, &first, WRITE);
    let (guest, _) = &mut control.transmit;
    guest.write(MESSAGE, &FromDriver::DeviceReady(true).encode());
    guest.offer(0, &[(MESSAGE, 1), (MESSAGE + 1, 7)], 0);
    control.run(&mut console).unwrap();
    let (guest, _) = &mut control.receive;
    assert_eq!(guest.all_used(), [(0, 8)]);
    let bytes = [
        guest.read(DATA, 3),
        guest.read(DATA + 0x10, 1),
        guest.read(DATA + 0x20, 4),
    ];
    assert_eq!(bytes.concat(), message(0, 1, 1, &[]));
    guest.offer(next, &[(DATA, 7)], WRITE);
    let small = control.run(&mut console).unwrap_err();
    let expected = "the guest broke its console: queue 2 holds a chain with head 3 and 7 bytes for a control message of 8";
    assert_eq!(small.to_string(), expected);
}

#[test]
fn driver_that_cannot_is_not_told_more() {
    let memory = memory();
    let mut control = Control::new(&memory, 32);
    let mut console = console_of_three();
    let failed = control.say(&mut console, FromDriver::DeviceReady(false));
    assert_eq!(failed, [PortEvent::DriverFailed]);
    control.say(&mut console, FromDriver::DeviceReady(true));
    control.heard();
    let failed = control.say(&mut console, FromDriver::PortReady(1, false));
    assert_eq!(failed, [PortEvent::Failed(1)]);
    console.close_port(1).unwrap();
    control.run(&mut console).unwrap();
    assert_eq!(control.heard(), [[0; 0]; 0]);
}

#[test]
fn garbage_breaks_the_device() {
    let early = FromDriver::PortReady(0, true).encode();
    let cases: [(&[u8], bool, &str); 7] = [
        (b"", true, "a control message of 0 bytes"),
        (&[0; 7], true, "a control message of 7 bytes"),
        (
            &early,
            false,
            "a control message for port 0 from a driver that is not ready",
        ),
        (
            &[3, 0, 0, 0, 3, 0, 1, 0],
            true,
            "a control message for port 3, which does not exist",
        ),
        (
            &[255, 255, 255, 255, 6, 0, 1, 0],
            true,
            "a control message for port 4294967295, which does not exist",
        ),
        (
            &[0, 0, 0, 0, 1, 0, 1, 0],
            true,
            "a control message with event 1, which no driver may send",
        ),
        (
            &[0, 0, 0, 0, 6, 0, 2, 0],
            true,
            "a control message with event 6 and value 2",
        ),
    ];
    for (bytes, is_ready, flaw) in cases {
        let memory = memory();
        let mut control = Control::new(&memory, 32);
        let mut console = console_of_three();
        if is_ready {
            control.say(&mut console, FromDriver::DeviceReady(true));
        }
        let error = control.say_bytes(&mut console, bytes).unwrap_err();
        let expected = format!("the guest broke its console: queue 3 holds {flaw}");
        assert_eq!(error.to_string(), expected);
        let error = control.run(&mut console).unwrap_err();
        assert!(matches!(error, Error::Broken), "{error}");
    }
}

#[test]
fn flood_of_messages_is_cut_into_calls() {
    let memory = memory();
    let mut control = Control::new(&memory, 0);
    let mut console = console_of_three();
    let (guest, queue) = Guest::new(&memory, 0x1_0000, 4096);
    control.transmit = (guest, queue);
    let (guest, _) = &mut control.transmit;
    guest.write(MESSAGE, &FromDriver::DeviceReady(true).encode());
    for _ in 0..2000 {
        guest.offer(0, &[(MESSAGE, 8)], 0);
    }
    let mut call = || {
        let control =
            console.handle_control(&memory, &mut control.receive.1, &mut control.transmit.1);
        let control = control.unwrap();
        (control.events.len(), control.again)
    };
    assert_eq!(call(), (1024, true));
    assert_eq!(call(), (976, false));
}

#[test]
fn driver_without_several_ports_has_none_but_the_first() {
    let memory = memory();
    let mut control = Control::new(&memory, 32);
    let mut console = console_of_three();
    console.set_driver_features(console.features() & !wire::F_MULTIPORT);
    let (guest, _) = &mut control.transmit;
    guest.write(MESSAGE, &FromDriver::DeviceReady(true).encode());
    guest.offer(0, &[(MESSAGE, 8)], 0);
    assert_eq!(control.run(&mut console).unwrap(), []);
    assert_eq!(control.transmit.0.all_used(), []);
    assert!(console.is_open(0) && !console.is_open(1));
}
