//! The device under a guest that runs on a vCPU: real kicks, real interrupts, and memory that the guest really shares.

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hotbed_console::device::in_process::{Ports, Streams};
use hotbed_console::device::wire::FromDriver;
use hotbed_console::device::{Config, Port, PortEvent, Received, Size, Source};
use virtio_queue::Queue;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, VolatileSlice};

#[path = "../../examples/kvm/vmm/mod.rs"]
mod vmm;

use vmm::guest::{DEVICE, NEXT, Script, WRITE, register};
use vmm::{Report, Vmm};

const PATIENCE: Duration = Duration::from_secs(20);

const F_SIZE: u64 = 1;
const F_MULTIPORT: u64 = 2;
const F_EMERG_WRITE: u64 = 4;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

/// Where the guest has messages, and buffers.
const MESSAGES: u32 = 0x20_0000;
const BUFFERS: u32 = 0x30_0000;

/// Where bulk data are, and where they arrive.
const PATTERN: u32 = 0x80_0000;
const ARRIVED: u32 = 0x100_0000;
const BULK: u32 = 1 << 20;
const CHUNK: u32 = 64 << 10;

/// Whether a vCPU runs here. If not, says why.
fn can_run(test: &str) -> bool {
    let mut script = Script::default();
    script.end();
    let config = Config {
        ports: vec![Port::default()],
        ..Config::default()
    };
    let ran = Vmm::start(config, Streams::new(vec![]), &script, |_| {})
        .and_then(|vmm| vmm.wait(PATIENCE));
    if let Err(reason) = &ran {
        // To the terminal itself: the harness keeps what a passing test prints.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: no vCPU runs here: {reason}"
        );
    }
    ran.is_ok()
}

fn write(memory: &GuestMemoryMmap<()>, address: u32, bytes: &[u8]) {
    memory
        .write_slice(bytes, GuestAddress(address.into()))
        .unwrap();
}

fn port(name: &str, is_console: bool) -> Port {
    Port {
        name: name.into(),
        is_console,
        is_open: true,
    }
}

/// Ports in our own memory: they check what comes, and have as much to say as they are asked for.
#[derive(Clone, Default)]
struct Bulk {
    /// What comes, and goes, over and over.
    pattern: Arc<Vec<u8>>,
    received: Arc<AtomicUsize>,
    /// How many bytes are still to be sent.
    to_send: Arc<AtomicUsize>,
    heard: Arc<Mutex<(Vec<PortEvent>, Vec<u8>)>>,
}

impl Ports for Bulk {
    fn handle_received<M: GuestMemory>(&mut self, _: u32, received: &mut Received<'_, M, Queue>) {
        let mut buffer = vec![0; CHUNK as usize];
        for slice in received.slices() {
            let mut done = 0;
            while done < slice.len() {
                let start = self.received.load(Ordering::SeqCst) % self.pattern.len();
                let expected = &self.pattern[start..];
                let len = expected.len().min(buffer.len()).min(slice.len() - done);
                slice
                    .subslice(done, len)
                    .unwrap()
                    .copy_to(&mut buffer[..len]);
                assert!(buffer[..len] == expected[..len], "at {start}");
                self.received.fetch_add(len, Ordering::SeqCst);
                done += len;
            }
        }
    }

    fn poll_source<B: BitmapSlice>(
        &mut self,
        _: u32,
        buffers: &[VolatileSlice<'_, B>],
    ) -> std::io::Result<usize> {
        let left = self.to_send.load(Ordering::SeqCst);
        let start = (usize::MAX - left).wrapping_add(1) % self.pattern.len();
        let mut bytes = &self.pattern[start..];
        bytes = &bytes[..bytes.len().min(left)];
        let sent = bytes.fill(buffers)?;
        self.to_send.fetch_sub(sent, Ordering::SeqCst);
        Ok(sent)
    }

    fn descriptor(&self, _: u32) -> Option<BorrowedFd<'_>> {
        None
    }

    fn handle_event(&mut self, event: PortEvent) {
        self.heard.lock().unwrap().0.push(event);
    }

    fn handle_emergency(&mut self, bytes: &[u8], _: u64) {
        self.heard.lock().unwrap().1.extend(bytes);
    }
}

/// The driver's message, in the guest's memory from the start, and sent by the control queue.
fn say(script: &mut Script, place: u16, messages: &mut Vec<[u8; 8]>, message: FromDriver) {
    let address = MESSAGES + 8 * u32::try_from(messages.len()).unwrap();
    messages.push(message.encode());
    script.offer(3, place, (address, 8), 0);
    script.kick(3);
    script.wait_used(3, 1, place, 0);
}

/// Two ports, of which the second one echoes: the guest's part, and its control messages.
fn echo_script(event_idx: u64) -> (Script, Vec<[u8; 8]>) {
    let mut script = Script::default();
    let mut messages = Vec::new();
    let features = F_SIZE | F_MULTIPORT | F_EMERG_WRITE | F_VERSION_1 | event_idx;
    script.store32(DEVICE + register::CONFIG + 8, u32::from(b'!'));
    script.set_up(features, 6);
    script.expect(DEVICE + register::CONFIG, 80 | 25 << 16, u32::MAX);
    script.expect(DEVICE + register::CONFIG + 4, 2, u32::MAX);
    for index in 0..8 {
        script.offer(2, index, (BUFFERS + 64 * u32::from(index), 64), WRITE);
    }
    script.kick(2);
    // What the device says about its ports: which, that it is a console, its size, that it is open; its name, …
    let hear = |script: &mut Script, first: u16, messages: &[&[u32]]| {
        let last = messages.last().map_or(0, |words| 4 * words.len());
        let count = u16::try_from(messages.len()).unwrap();
        let (place, len) = (first + count - 1, u32::try_from(last).unwrap());
        script.wait_used(2, count, place, len);
        for (place, words) in (u32::from(first)..).zip(messages) {
            for (index, word) in (0..).zip(*words) {
                script.expect(BUFFERS + 64 * place + 4 * index, *word, u32::MAX);
            }
        }
    };
    let event = |event: u32| event | 1 << 16;
    let ready = FromDriver::DeviceReady(true);
    say(&mut script, 0, &mut messages, ready);
    hear(&mut script, 0, &[&[0, event(1)], &[1, event(1)]]);
    let ready = FromDriver::PortReady(0, true);
    say(&mut script, 1, &mut messages, ready);
    let size = 80 | 25 << 16;
    let expected: [&[u32]; 3] = [&[0, event(4)], &[0, event(5), size], &[0, event(6)]];
    hear(&mut script, 2, &expected);
    let ready = FromDriver::PortReady(1, true);
    say(&mut script, 2, &mut messages, ready);
    let name = u32::from_le_bytes(*b"echo");
    hear(&mut script, 5, &[&[1, event(7), name], &[1, event(6)]]);
    say(&mut script, 3, &mut messages, FromDriver::PortOpen(1, true));
    // Port 1 has the queues 4 and 5. What comes by 4 goes back by 5, a hundred times, through every slot of the rings.
    let (heard, said) = (BUFFERS + 0x1000, BUFFERS + 0x2000);
    for round in 0..100 {
        let place = round % 64;
        script.offer(4, place, (heard, 16), WRITE);
        script.kick(4);
        script.wait_used(4, 1, place, 16);
        script.acknowledge();
        script.copy(said, heard, 16);
        script.offer(5, place, (said, 16), 0);
        script.kick(5);
        script.wait_used(5, 1, place, 0);
    }
    script.store32(DEVICE + register::CONFIG + 8, u32::from(b'?'));
    script.end();
    (script, messages)
}

#[test]
fn guest_with_two_ports_shakes_hands_and_echoes() {
    if !can_run("guest_with_two_ports_shakes_hands_and_echoes") {
        return;
    }
    for event_idx in [0, F_EVENT_IDX] {
        let (script, messages) = echo_script(event_idx);
        let (mut peer, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let config = Config {
            ports: vec![port("", true), port("echo", false)],
            size: Size {
                columns: 80,
                rows: 25,
            },
            ..Config::default()
        };
        let streams = Streams::new(vec![None, Some(ours.into())]);
        let vmm = Vmm::start(config, streams, &script, |memory| {
            write(memory, MESSAGES, messages.as_flattened());
        });
        let vmm = vmm.unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let echoed = (0..100).try_for_each(|round: u32| {
            let sent = format!("echo of round {round:02}").into_bytes();
            let mut heard = [0; 16];
            peer.write_all(&sent)?;
            peer.read_exact(&mut heard)?;
            assert_eq!(heard, sent[..]);
            std::io::Result::Ok(())
        });
        let report = vmm.wait(PATIENCE).unwrap();
        echoed.unwrap();
        assert_eq!(report.errors, [""; 0]);
    }
}

#[test]
fn bulk_goes_both_ways() {
    if !can_run("bulk_goes_both_ways") {
        return;
    }
    const ROUNDS: u32 = 16;
    let chunks = u16::try_from(BULK / CHUNK).unwrap();
    let mut script = Script::default();
    script.set_up(F_VERSION_1 | F_EVENT_IDX, 4);
    for _ in 0..ROUNDS {
        for index in 0..chunks {
            let offset = CHUNK * u32::from(index);
            script.offer(1, index, (PATTERN + offset, CHUNK), 0);
        }
        script.kick(1);
        script.wait_used(1, chunks, chunks - 1, 0);
    }
    for _ in 0..ROUNDS {
        for index in 0..chunks {
            let offset = CHUNK * u32::from(index);
            script.offer(0, index, (ARRIVED + offset, CHUNK), WRITE);
        }
        script.kick(0);
        script.wait_used(0, chunks, chunks - 1, CHUNK);
        // A part, as the guest is slow at this; and the next round must not find what this one left.
        script.compare(ARRIVED + CHUNK - 64, PATTERN + CHUNK - 64, 128);
        script.copy(ARRIVED + CHUNK - 64, ARRIVED, 128);
    }
    script.end();
    let pattern: Vec<u8> = (0..BULK)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect();
    let total = (ROUNDS * BULK) as usize;
    let ports = Bulk {
        pattern: Arc::new(pattern.clone()),
        to_send: Arc::new(AtomicUsize::new(total)),
        ..Bulk::default()
    };
    let config = Config {
        ports: vec![port("", true)],
        ..Config::default()
    };
    let start = Instant::now();
    let vmm = Vmm::start(config, ports.clone(), &script, |memory| {
        write(memory, PATTERN, &pattern);
    });
    let vmm = vmm.unwrap();
    let memory = Arc::clone(&vmm.memory);
    let report = vmm.wait(PATIENCE).unwrap();
    println!(
        "{total} bytes each way in {:?}, {} exits",
        start.elapsed(),
        report.exits
    );
    assert_eq!(ports.received.load(Ordering::SeqCst), total);
    assert_eq!(ports.to_send.load(Ordering::SeqCst), 0);
    assert_eq!(report.errors, [""; 0]);
    assert!(report.exits < 60, "data cost no exits");
    let mut arrived = vec![0; (BULK - CHUNK) as usize];
    memory
        .read_slice(&mut arrived, GuestAddress((ARRIVED + CHUNK).into()))
        .unwrap();
    assert!(arrived[64..] == pattern[CHUNK as usize + 64..]);
}

/// Runs a guest that breaks the rules by this, sees that it is told so, resets its device and finds it working.
fn broken_by(breaks: impl Fn(&mut Script)) -> Report {
    let mut script = Script::default();
    script.set_up(F_VERSION_1, 4);
    breaks(&mut script);
    script.wait_for(DEVICE + register::STATUS, 0x40, 0x40);
    script.expect(DEVICE + register::INTERRUPT_STATUS, 2, 2);
    script.set_up(F_VERSION_1, 4);
    script.offer(1, 0, (PATTERN, 64), 0);
    script.kick(1);
    script.wait_used(1, 1, 0, 0);
    script.end();
    let ports = Bulk {
        pattern: Arc::new(vec![0; 64]),
        ..Bulk::default()
    };
    let config = Config {
        ports: vec![port("", true)],
        ..Config::default()
    };
    let vmm = Vmm::start(config, ports.clone(), &script, |_| {}).unwrap();
    let report = vmm.wait(PATIENCE).unwrap();
    assert_eq!(ports.received.load(Ordering::SeqCst), 64);
    report
}

#[test]
fn guest_that_breaks_the_rules_is_told_and_may_reset() {
    if !can_run("guest_that_breaks_the_rules_is_told_and_may_reset") {
        return;
    }
    type Breaks = fn(&mut Script);
    let cases: [(Breaks, &str); 5] = [
        (
            |script| {
                script.describe(1, 0, (BUFFERS, 16), NEXT, 1);
                script.describe(1, 1, (BUFFERS, 16), NEXT, 0);
                script.publish(1, 0);
                script.kick(1);
            },
            "queue 1 holds a chain with head 0 without an end",
        ),
        (
            |script| {
                script.offer(1, 3, (0xd000_0000, 16), 0);
                script.kick(1);
            },
            "queue 1 holds a chain with head 3 and a buffer of 16 bytes at 0xd0000000, where no memory is",
        ),
        (
            |script| {
                script.offer(1, 0, (BUFFERS, u32::MAX), 0);
                script.kick(1);
            },
            "queue 1 holds a chain with head 0 and a buffer of 4294967295 bytes at 0x300000, where no memory is",
        ),
        (
            |script| {
                script.offer(1, 7, (BUFFERS, 16), WRITE);
                script.kick(1);
            },
            "queue 1 holds a chain with head 7 and a buffer that is only to be written to",
        ),
        (
            |script| {
                script.publish_all(1, &[0; 65]);
                script.kick(1);
            },
            "queue 1 holds 65 available chains, more than it has room for",
        ),
    ];
    for (breaks, flaw) in cases {
        let report = broken_by(breaks);
        assert_eq!(
            report.errors,
            [format!("the guest broke its console: {flaw}")]
        );
    }
}

#[test]
fn guest_that_waits_for_nothing_is_ended() {
    if !can_run("guest_that_waits_for_nothing_is_ended") {
        return;
    }
    let mut script = Script::default();
    script.set_up(F_VERSION_1, 4);
    script.wait_for(BUFFERS, 1, 1);
    script.end();
    let config = Config {
        ports: vec![port("", true)],
        ..Config::default()
    };
    let vmm = Vmm::start(config, Streams::new(vec![]), &script, |_| {}).unwrap();
    let ended = vmm.wait(Duration::from_millis(300)).unwrap_err();
    assert!(
        ended.to_string().contains("the guest failed at step"),
        "{ended}"
    );
}
