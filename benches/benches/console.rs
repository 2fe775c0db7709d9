//! The console's device core: bulk and small messages through guest memory, in this process, beside `memcpy` of as much.
//!
//! `console/to_host/…/device`: the guest offers a chain, the device hands out its memory, the host copies it out: that copy is
//! the only one. `console/lend/…` is the same without it. `console/to_guest/…/device`: the device copies the host's bytes into
//! the buffers of a chain. What the guest itself would do is one store per chain. `…/memcpy`, right before each, copies as
//! much between two buffers of ours; `…/memcpy_in_pieces` does it a buffer at a time, which is as fast as any device can be
//! that copies into buffers of this size. A case is the bytes of a batch and the buffers that they lie in, and in how many chains
//! those are if it is not one: Linux offers its buffers for what it receives as chains of one page each.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_console::device::{Config, Console, Port, Stop, wire};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const CASES: [Case; 9] = [
    Case::new(16, 1, 1),
    Case::new(4096, 1, 1),
    Case::new(64 << 10, 1, 1),
    Case::new(64 << 10, 16, 1),
    Case::new(64 << 10, 16, 16),
    Case::new(256 << 10, 4, 1),
    Case::new(1 << 20, 1, 1),
    Case::new(1 << 20, 256, 1),
    Case::new(1 << 20, 256, 256),
];

/// Descriptors of a queue.
const RING: u16 = 256;

/// Where the queue's parts and the data are.
const TABLE: u64 = 0;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const DATA: u64 = 0x10_0000;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

criterion_group!(benches, to_host, lend, to_guest);
criterion_main!(benches);

/// Bytes of a batch, the buffers that they lie in, and the chains of these.
#[derive(Clone, Copy)]
struct Case {
    len: usize,
    buffers: usize,
    chains: usize,
}

impl Case {
    const fn new(len: usize, buffers: usize, chains: usize) -> Case {
        Case {
            len,
            buffers,
            chains,
        }
    }

    fn name(&self) -> String {
        let Case {
            len,
            buffers,
            chains,
        } = self;
        match chains {
            1 => format!("{len}_in_{buffers}"),
            _ => format!("{len}_in_{buffers}_of_{chains}_chains"),
        }
    }
}

/// A queue whose slots offer the same chains again and again.
struct Guest {
    memory: GuestMemoryMmap<()>,
    queue: Queue,
    chains: u16,
    offered: u16,
}

impl Guest {
    fn new(case: Case, flags: u16) -> Guest {
        let Case {
            len,
            buffers,
            chains,
        } = case;
        let links = buffers / chains;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]);
        let memory = memory.expect("4 MiB");
        let mut queue = Queue::new(RING).expect("a power of two");
        queue.set_desc_table_address(Some(TABLE as u32), None);
        queue.set_avail_ring_address(Some(AVAIL as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_event_idx(true);
        queue.set_ready(true);
        for index in 0..buffers {
            let address = DATA + (index * len / buffers) as u64;
            let more = if (index + 1) % links == 0 { 0 } else { NEXT };
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&address.to_le_bytes());
            raw[8..12].copy_from_slice(&((len / buffers) as u32).to_le_bytes());
            raw[12..14].copy_from_slice(&(flags | more).to_le_bytes());
            raw[14..].copy_from_slice(&(index as u16 + 1).to_le_bytes());
            let place = GuestAddress(TABLE + 16 * index as u64);
            memory.write_slice(&raw, place).expect("it is in memory");
        }
        for slot in 0..u64::from(RING) {
            let head = (slot as usize % chains * links) as u16;
            let place = GuestAddress(AVAIL + 4 + 2 * slot);
            memory.write_obj(head, place).expect("it is in memory");
        }
        Guest {
            memory,
            queue,
            chains: chains as u16,
            offered: 0,
        }
    }

    /// The next slots of the ring are offered, too.
    fn offer(&mut self) {
        self.offered = self.offered.wrapping_add(self.chains);
        let index = GuestAddress(AVAIL + 2);
        let stored = self.memory.store(self.offered, index, Ordering::Release);
        stored.expect("it is in memory");
    }

    /// Whether all that was offered came back.
    fn has_all_back(&self) -> bool {
        let index = GuestAddress(USED + 2);
        let used: u16 = self.memory.load(index, Ordering::Acquire).unwrap_or(0);
        used == self.offered
    }
}

fn console() -> Console {
    let config = Config {
        ports: vec![Port::default()],
        ..Config::default()
    };
    let mut console = Console::new(config).expect("one port");
    console.set_driver_features(console.features() & !wire::F_MULTIPORT);
    console
}

/// Bytes of which no two neighbours are the same.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Copies as much between two buffers of ours.
fn memcpy(group: &mut BenchmarkGroup<'_, WallTime>, case: Case) {
    let len = case.len;
    let (from, mut to) = (pattern(len), vec![0; len]);
    group.bench_function(format!("{}/memcpy", case.name()), |b| {
        b.iter(|| {
            black_box(&mut to[..]).copy_from_slice(black_box(&from[..]));
            assert_eq!(to[len - 1], from[len - 1], "nothing was copied");
        });
    });
    if case.buffers == 1 {
        return;
    }
    let piece = len / case.buffers;
    group.bench_function(format!("{}/memcpy_in_pieces", case.name()), |b| {
        b.iter(|| {
            let (from, to) = (black_box(&from[..]), black_box(&mut to[..]));
            for (from, to) in from.chunks_exact(piece).zip(to.chunks_exact_mut(piece)) {
                to.copy_from_slice(from);
            }
            assert_eq!(to[len - 1], from[len - 1], "nothing was copied");
        });
    });
}

fn to_host(c: &mut Criterion) {
    let mut group = c.benchmark_group("console/to_host");
    for case in CASES {
        let len = case.len;
        group.throughput(Throughput::Bytes(len as u64));
        memcpy(&mut group, case);
        let mut guest = Guest::new(case, 0);
        let from = pattern(len);
        let data = GuestAddress(DATA);
        guest.memory.write_slice(&from, data).expect("memory");
        let (mut console, mut to) = (console(), vec![0; len]);
        group.bench_function(format!("{}/device", case.name()), |b| {
            b.iter(|| {
                guest.offer();
                let received = console.receive(0, &guest.memory, &mut guest.queue);
                let received = received.expect("a good guest").expect("a chain");
                assert_eq!(received.copy_to(black_box(&mut to)), len);
                received.finish().expect("a good guest");
                assert!(guest.has_all_back() && to[len - 1] == from[len - 1]);
            });
        });
        let ran = guest.offered > 0; // The filter of the command line may have left it out.
        assert!(!ran || to == from, "wrong bytes are not worth timing");
    }
}

fn lend(c: &mut Criterion) {
    let mut group = c.benchmark_group("console/lend");
    group.throughput(Throughput::Elements(1)); // The payload is not touched: no bytes per second.
    for case in CASES {
        let len = case.len;
        let mut guest = Guest::new(case, 0);
        let mut console = console();
        group.bench_function(case.name(), |b| {
            b.iter(|| {
                guest.offer();
                let received = console.receive(0, &guest.memory, &mut guest.queue);
                let received = received.expect("a good guest").expect("a chain");
                assert_eq!(black_box(received.slices()).len(), case.buffers);
                assert_eq!(received.len(), len);
                received.finish().expect("a good guest");
                assert!(guest.has_all_back());
            });
        });
    }
}

fn to_guest(c: &mut Criterion) {
    let mut group = c.benchmark_group("console/to_guest");
    for case in CASES {
        let len = case.len;
        group.throughput(Throughput::Bytes(len as u64));
        memcpy(&mut group, case);
        let mut guest = Guest::new(case, WRITE);
        let from = pattern(len);
        let mut console = console();
        group.bench_function(format!("{}/device", case.name()), |b| {
            b.iter(|| {
                guest.offer();
                let mut source = black_box(&from[..]);
                let sent = console.send_from(0, &guest.memory, &mut guest.queue, &mut source);
                let sent = sent.expect("a good guest");
                assert_eq!((sent.bytes, sent.stop), (len, Stop::Filled));
                assert!(guest.has_all_back());
            });
        });
        let mut to = vec![0; len];
        let data = GuestAddress(DATA);
        guest.memory.read_slice(&mut to, data).expect("memory");
        let ran = guest.offered > 0; // The filter of the command line may have left it out.
        assert!(!ran || to == from, "wrong bytes are not worth timing");
    }
}
