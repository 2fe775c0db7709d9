//! The whole device, with the guest's side of the queues written by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::*;

mod batches;
pub(crate) mod guest;
mod handshake;
mod hostile;
mod streams;
mod zero_copy;

use guest::{END, Guest, INDIRECT, NEXT, Raw, SEAM, WRITE, memory};

/// Where the tests have data, behind all rings.
const DATA: u64 = 0x10_0000;

fn port(name: &str, is_console: bool) -> Port {
    Port {
        name: name.into(),
        is_console,
        is_open: true,
    }
}

/// A device whose driver knows of no ports but the first one.
fn plain_console() -> Console {
    let mut console = Console::new(Config {
        ports: vec![port("", true)],
        ..Config::default()
    })
    .unwrap();
    console.set_driver_features(console.features() & !wire::F_MULTIPORT);
    console
}

#[test]
fn what_the_guest_sent_is_received_and_its_buffers_go_back() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.write(DATA, b"hello, ");
    guest.write(DATA + 0x100, b"world");
    guest.offer(3, &[(DATA, 7), (DATA + 0x100, 5)], 0);

    let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    let mut bytes = [0; 32];
    assert_eq!(received.len(), 12);
    assert_eq!(received.copy_to(&mut bytes), 12);
    assert_eq!(&bytes[..12], b"hello, world");
    assert_eq!(guest.all_used(), [], "the slices are still borrowed");
    drop(received);
    assert_eq!(guest.all_used(), [(3, 0)]);
    assert!(console.receive(0, &memory, &mut queue).unwrap().is_none());
}

#[test]
fn what_is_sent_is_in_the_guests_buffers_with_the_right_lengths() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    let second = guest.offer(0, &[(DATA, 4), (DATA + 0x100, 4)], WRITE);
    guest.offer(second, &[(DATA + 0x200, 16)], WRITE);

    let mut source = Slices::new(&[b"abc", b"", b"defghij", b"k"]);
    let sent = console.send_from(0, &memory, &mut queue, &mut source);
    let (bytes, stop) = (11, Stop::NoData);
    assert_eq!(sent.unwrap(), Sent { bytes, stop });
    assert_eq!(source.remaining(), 0);
    assert_eq!(guest.all_used(), [(0, 8), (second, 3)]);
    assert_eq!(guest.read(DATA, 4), b"abcd");
    assert_eq!(guest.read(DATA + 0x100, 4), b"efgh");
    assert_eq!(guest.read(DATA + 0x200, 4), b"ijk\0");
}

#[test]
fn buffers_that_got_nothing_stay_available() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 4)], WRITE);
    guest.offer(1, &[(DATA + 4, 4)], WRITE);
    guest.offer(2, &[(DATA + 8, 4)], WRITE);
    let mut send = |mut bytes: &[u8]| {
        let sent = console.send_from(0, &memory, &mut queue, &mut bytes);
        let sent = sent.unwrap();
        (sent.bytes, sent.stop, bytes.len())
    };
    assert_eq!(send(b""), (0, Stop::NoData, 0));
    assert_eq!(send(b"ab"), (2, Stop::NoData, 0));
    assert_eq!(send(b"cdefghijkl"), (8, Stop::Filled, 2));
    assert_eq!(send(b"x"), (0, Stop::NoBuffers, 1));
    assert_eq!(guest.all_used(), [(0, 2), (1, 4), (2, 4)]);
    assert_eq!(guest.read(DATA, 12), b"ab\0\0cdefghij");
}

#[test]
fn buffers_without_room_do_not_stop_what_is_behind_them() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 0)], WRITE);
    guest.offer(1, &[(DATA, 4)], WRITE);
    let sent = console.send_from(0, &memory, &mut queue, &mut &b"abcd"[..]);
    assert_eq!(sent.unwrap().bytes, 4);
    assert_eq!(guest.all_used(), [(0, 0), (1, 4)]);

    let (mut guest, mut queue) = Guest::new(&memory, 0x1000, 8);
    guest.offer(0, &[(DATA, 0)], 0);
    let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    assert!(received.is_empty() && received.slices().is_empty());
    drop(received);
    assert_eq!(guest.all_used(), [(0, 0)]);
}

#[test]
fn failing_source_leaves_the_buffers_as_they_are() {
    struct Broken;
    impl Source for Broken {
        fn fill<B: vm_memory::bitmap::BitmapSlice>(
            &mut self,
            _: &[vm_memory::VolatileSlice<'_, B>],
        ) -> std::io::Result<usize> {
            Err(std::io::Error::other("no"))
        }
    }
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 4)], WRITE);
    let failed = console.send_from(0, &memory, &mut queue, &mut Broken);
    assert!(matches!(failed, Err(Error::Source(_))), "{failed:?}");
    assert!(!console.is_broken(), "it is not the guest's fault");
    let sent = console.send_from(0, &memory, &mut queue, &mut &b"abcd"[..]);
    assert_eq!(sent.unwrap().bytes, 4);
    assert_eq!(guest.all_used(), [(0, 4)]);
}

#[test]
fn guest_is_asked_to_kick_when_there_is_nothing() {
    for event_idx in [false, true] {
        let memory = memory();
        let (mut guest, mut queue) = Guest::new(&memory, 0, 4);
        queue.set_event_idx(event_idx);
        let mut console = plain_console();
        for round in 0..9 {
            assert!(console.receive(0, &memory, &mut queue).unwrap().is_none());
            guest.offer(0, &[(DATA, 1)], 0);
            assert!(guest.wants_kick(event_idx), "round {round}, {event_idx}");
            assert!(console.receive(0, &memory, &mut queue).unwrap().is_some());
        }
    }
}

#[test]
fn guest_is_interrupted_when_it_wants_to_be() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 4);
    let mut console = plain_console();
    let mut receive = |guest: &mut Guest<'_, GuestMemoryMmap>, queue: &mut Queue| {
        guest.offer(0, &[(DATA, 1)], 0);
        let received = console.receive(0, &memory, queue).unwrap().unwrap();
        received.finish().unwrap()
    };
    assert!(receive(&mut guest, &mut queue));
    guest.set_quiet(true);
    assert!(!receive(&mut guest, &mut queue));
    guest.set_quiet(false);
    queue.set_event_idx(true);
    guest.wake_after(4);
    assert!(!receive(&mut guest, &mut queue), "the third");
    assert!(receive(&mut guest, &mut queue), "the fourth");
    assert!(!receive(&mut guest, &mut queue), "the fifth");
}

#[test]
fn what_is_not_used_comes_again() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.write(DATA, b"abcdefghij");
    let second = guest.offer(0, &[(DATA, 3), (DATA + 3, 3)], 0);
    guest.offer(second, &[(DATA + 6, 4)], 0);
    let mut receive = |used: usize| {
        let mut received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        let mut bytes = vec![0; received.len()];
        received.copy_to(&mut bytes);
        received.keep_after(used);
        drop(received);
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(receive(0), "abcdefghij");
    assert_eq!(receive(2), "abcdefghij");
    assert_eq!(receive(2), "cdefghij");
    assert_eq!(guest.all_used(), []);
    assert_eq!(receive(3), "efghij");
    assert_eq!(guest.all_used(), [(0, 0)]);
    assert_eq!(receive(usize::MAX), "hij");
    assert_eq!(guest.all_used(), [(second, 0)]);
}

#[test]
fn data_go_between_guest_and_socket() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    guest.write(DATA, b"to the host");
    guest.offer(0, &[(DATA, 7), (DATA + 7, 4)], 0);
    let mut received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    assert_eq!(received.write_to(&ours).unwrap(), 11);
    drop(received);
    let mut bytes = [0; 11];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"to the host");
    assert_eq!(guest.all_used(), [(0, 0)]);

    let (mut guest, mut queue) = Guest::new(&memory, 0x1000, 8);
    guest.offer(0, &[(DATA, 4), (SEAM - 2, 4)], WRITE);
    guest.offer(2, &[(DATA + 0x100, 100)], WRITE);
    let mut source = Descriptor::new(&ours);
    let mut send = || {
        let sent = console.send_from(0, &memory, &mut queue, &mut source);
        (sent.unwrap(), source.is_at_end())
    };
    let sent = |bytes| Sent {
        bytes,
        stop: Stop::NoData,
    };
    assert_eq!(send(), (sent(0), false), "nothing to read is no failure");
    theirs.write_all(b"to the guest").unwrap();
    assert_eq!(send(), (sent(12), false));
    assert_eq!(guest.all_used(), [(0, 8), (2, 4)]);
    assert_eq!(guest.read(DATA, 4), b"to t");
    assert_eq!(guest.read(SEAM - 2, 4), b"he g");
    assert_eq!(guest.read(DATA + 0x100, 4), b"uest");
    drop(theirs);
    guest.offer(0, &[(DATA, 4)], WRITE);
    assert_eq!(send(), (sent(0), true));
}

#[test]
fn socket_that_is_full_keeps_the_rest() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let pattern: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
    guest.write(DATA, &pattern);
    guest.offer(0, &[(DATA, 1_000_000)], 0);
    theirs.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut was_full = false;
    while let Some(mut received) = console.receive(0, &memory, &mut queue).unwrap() {
        was_full |= received.write_to(&ours).unwrap() == 0;
        drop(received);
        let mut buffer = [0; 10_000];
        if let Ok(read) = theirs.read(&mut buffer) {
            heard.extend(&buffer[..read]);
        }
    }
    theirs.read_to_end(&mut heard).unwrap_err(); // There would be more, one day.
    assert!(was_full, "the socket is too large for this test");
    assert!(
        heard == pattern,
        "{} of {} bytes",
        heard.len(),
        pattern.len()
    );
    assert_eq!(guest.all_used(), [(0, 0)]);
}

#[test]
fn impossible_devices_are_refused() {
    let with = |ports: Vec<Port>| {
        Console::new(Config {
            ports,
            ..Config::default()
        })
    };
    assert!(matches!(with(vec![]), Err(Error::Config(_))));
    assert!(with(vec![port("", false); PORTS_MAX]).is_ok());
    assert!(with(vec![port("", false); PORTS_MAX + 1]).is_err());
    assert!(with(vec![port(&"n".repeat(255), false)]).is_ok());
    assert!(with(vec![port(&"n".repeat(256), false)]).is_err());
    assert!(with(vec![port("a\0b", false)]).is_err());
    let mut console = with(vec![port("", false); 3]).unwrap();
    assert_eq!(console.queue_count(), 8);
    assert!(matches!(console.open_port(3), Err(Error::NoPort(3))));
}

#[test]
fn queues_have_the_places_of_the_standard() {
    let roles = [
        Role::Receive(0),
        Role::Transmit(0),
        Role::ControlReceive,
        Role::ControlTransmit,
        Role::Receive(1),
        Role::Transmit(1),
        Role::Receive(2),
    ];
    for (index, role) in roles.into_iter().enumerate() {
        assert_eq!((Role::of(index), role.index()), (role, index));
    }
    for index in 0..1000 {
        assert_eq!(Role::of(index).index(), index);
    }
}

#[test]
fn configuration_space_is_read_in_any_pieces() {
    let mut console = Console::new(Config {
        ports: vec![port("", true); 5],
        size: Size {
            columns: 0x1234,
            rows: 0x56,
        },
        ..Config::default()
    })
    .unwrap();
    let whole = [0x34, 0x12, 0x56, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    for offset in 0..20_usize {
        for len in 0..20 {
            let mut data = vec![0xff; len];
            console.read_config(offset as u64, &mut data);
            let expected: Vec<u8> = (offset..offset + len)
                .map(|at| whole.get(at).copied().unwrap_or(0))
                .collect();
            assert_eq!(data, expected, "{len} bytes at {offset}");
        }
    }
    console.read_config(u64::MAX, &mut [0; 4]);
    console.write_config(0, &[9; 4]);
    let mut byte = [0];
    console.read_config(0, &mut byte);
    assert_eq!(byte, [0x34], "the size is not the guest's to write");
}

#[test]
fn emergency_writes_are_kept_up_to_a_bound() {
    let mut console = plain_console();
    console.write_config(8, b"H\0\0\0");
    console.write_config(8, b"i");
    console.write_config(8, b"");
    console.write_config(9, b"x");
    assert_eq!(console.take_emergency(), (b"Hi".to_vec(), 0));
    for _ in 0..EMERGENCY_MAX + 3 {
        console.write_config(8, b"!\0\0\0");
    }
    assert_eq!(console.take_emergency(), (vec![b'!'; EMERGENCY_MAX], 3));
    assert_eq!(console.take_emergency(), (vec![], 0));
}

#[test]
fn used_device_is_as_new_after_a_reset() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    let fresh = {
        console.reset();
        console.save()
    };
    console.set_driver_features(console.features() & !wire::F_MULTIPORT);
    guest.offer(0, &[(DATA, 10)], 0);
    let mut received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    received.keep_after(3);
    drop(received);
    guest.offer(1, &[(END, 10)], 0);
    assert!(console.receive(0, &memory, &mut queue).is_err());
    assert!(console.is_broken());
    console.reset();
    assert_eq!(console.save(), fresh);
}

/// The corpus of the fuzz target, and all its beginnings up to a page.
#[test]
fn fuzz_corpus_does_no_harm() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/console_device"
    );
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        fuzz(&input);
        for len in (0..input.len()).step_by(509) {
            fuzz(&input[..len]);
        }
        inputs += 1;
    }
    assert!(inputs >= 8, "{inputs} inputs: where is the corpus?");
}

proptest::proptest! {
    #[test]
    fn random_memory_does_no_harm(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0x1800),
        calls in proptest::collection::vec(proptest::num::u8::ANY, 0..128),
    ) {
        let mut input = bytes;
        input.resize(0x4000, 0);
        input.extend(calls);
        fuzz(&input);
    }
}
