//! The console's device core: bulk and small messages through guest memory, in this process, beside `memcpy` of as much.
//!
//! `console/to_host/…/device`: the guest offers a chain, the device hands out its memory, the host copies it out: that copy is
//! the only one. `console/lend/…` is the same without it. `console/to_guest/…/device`: the device copies the host's bytes into
//! the buffers of a chain. What the guest itself would do is one store per chain. `…/memcpy`, right before each, copies as
//! much between two buffers of ours. A case is the bytes of a chain and the buffers that they lie in.

use std::hint::black_box;
use std::sync::atomic::Ordering;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_console::device::{Config, Console, Port, Stop, wire};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Bytes of a chain, and its buffers.
const CASES: [(usize, usize); 7] = [
    (16, 1),
    (4096, 1),
    (64 << 10, 1),
    (64 << 10, 16),
    (256 << 10, 4),
    (1 << 20, 1),
    (1 << 20, 256),
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

/// A queue whose every slot offers the same chain.
struct Guest {
    memory: GuestMemoryMmap<()>,
    queue: Queue,
    offered: u16,
}

impl Guest {
    fn new(len: usize, buffers: usize, flags: u16) -> Guest {
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
            let more = if index + 1 == buffers { 0 } else { NEXT };
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&address.to_le_bytes());
            raw[8..12].copy_from_slice(&((len / buffers) as u32).to_le_bytes());
            raw[12..14].copy_from_slice(&(flags | more).to_le_bytes());
            raw[14..].copy_from_slice(&(index as u16 + 1).to_le_bytes());
            let place = GuestAddress(TABLE + 16 * index as u64);
            memory.write_slice(&raw, place).expect("it is in memory");
        }
        Guest {
            memory,
            queue,
            offered: 0,
        }
    }

    /// The next slot of the ring is offered, too.
    fn offer(&mut self) {
        self.offered = self.offered.wrapping_add(1);
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
fn memcpy(group: &mut BenchmarkGroup<'_, WallTime>, len: usize, buffers: usize) {
    let (from, mut to) = (pattern(len), vec![0; len]);
    group.bench_function(format!("{len}_in_{buffers}/memcpy"), |b| {
        b.iter(|| {
            black_box(&mut to[..]).copy_from_slice(black_box(&from[..]));
            assert_eq!(to[len - 1], from[len - 1], "nothing was copied");
        });
    });
}

fn to_host(c: &mut Criterion) {
    let mut group = c.benchmark_group("console/to_host");
    for (len, buffers) in CASES {
        group.throughput(Throughput::Bytes(len as u64));
        memcpy(&mut group, len, buffers);
        let mut guest = Guest::new(len, buffers, 0);
        let from = pattern(len);
        let data = GuestAddress(DATA);
        guest.memory.write_slice(&from, data).expect("memory");
        let (mut console, mut to) = (console(), vec![0; len]);
        group.bench_function(format!("{len}_in_{buffers}/device"), |b| {
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
    for (len, buffers) in CASES {
        let mut guest = Guest::new(len, buffers, 0);
        let mut console = console();
        group.bench_function(format!("{len}_in_{buffers}"), |b| {
            b.iter(|| {
                guest.offer();
                let received = console.receive(0, &guest.memory, &mut guest.queue);
                let received = received.expect("a good guest").expect("a chain");
                assert_eq!(black_box(received.slices()).len(), buffers);
                assert_eq!(received.len(), len);
                received.finish().expect("a good guest");
                assert!(guest.has_all_back());
            });
        });
    }
}

fn to_guest(c: &mut Criterion) {
    let mut group = c.benchmark_group("console/to_guest");
    for (len, buffers) in CASES {
        group.throughput(Throughput::Bytes(len as u64));
        memcpy(&mut group, len, buffers);
        let mut guest = Guest::new(len, buffers, WRITE);
        let from = pattern(len);
        let mut console = console();
        group.bench_function(format!("{len}_in_{buffers}/device"), |b| {
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
