//! The body of the fuzz target.

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::console::{Config, Console, Port};
use super::queue::needs_interrupt;

/// How much memory the guest has: little, so that its numbers meet its memory's edges.
const MEMORY: usize = 0x4000;

/// Where each of the six queues has its rings, and how many descriptors.
const RINGS: u64 = 0x400;
const DESCRIPTORS: u16 = 16;

/// How many calls one input makes at most.
const CALLS_MAX: usize = 64;

/// Lets a guest do what the bytes say: they are its memory, then what the host calls meanwhile.
///
/// The first byte of each call says which; the rest of its four is what the guest writes to memory before.
///
/// # Panics
///
/// When the device hands out more than it may, goes on although it is broken, or is not as it was after it was saved.
pub fn fuzz(data: &[u8]) {
    let (image, calls) = data.split_at(data.len().min(MEMORY));
    let Ok(memory) = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]) else {
        return;
    };
    memory
        .write_slice(image, GuestAddress(0))
        .expect("it fits into memory");
    let ports = vec![Port::default(), Port::default()];
    let config = Config {
        ports,
        ..Config::default()
    };
    let mut console = Console::new(config.clone()).expect("two ports");
    console.set_driver_features(u64::MAX);
    let mut queues: Vec<Queue> = (0..6).map(queue).collect();
    // The image alone is an input, too: then everything is called once.
    let once: Vec<u8> = (0..8).flat_map(|call| [call, 0, 0, 0]).collect();
    let calls = if calls.is_empty() { &once } else { calls };
    for call in calls.chunks_exact(4).take(CALLS_MAX) {
        let place = GuestAddress(u64::from(call[1]) | u64::from(call[2] & 0x3f) << 8);
        memory
            .write_slice(&call[3..], place)
            .expect("the place is in memory");
        one_call(&mut console, &mut queues, &memory, call[0]);
        let was_broken = console.is_broken();
        console = Console::restore(config.clone(), console.save()).expect("its own state");
        assert_eq!(console.is_broken(), was_broken, "the state got lost");
    }
}

/// A queue in the first pages of memory.
fn queue(index: u32) -> Queue {
    let base = u32::try_from(RINGS).expect("small") * index;
    let mut queue = Queue::new(DESCRIPTORS).expect("a power of two");
    queue.set_desc_table_address(Some(base), None);
    queue.set_avail_ring_address(Some(base + 0x100), None);
    queue.set_used_ring_address(Some(base + 0x200), None);
    queue.set_event_idx(index.is_multiple_of(2));
    queue.set_ready(true);
    queue
}

fn one_call(console: &mut Console, queues: &mut [Queue], memory: &GuestMemoryMmap<()>, call: u8) {
    let was_broken = console.is_broken();
    let (port, first) = match call & 1 {
        0 => (0, 0),
        _ => (1, 4),
    };
    let is_ok = match call >> 1 & 3 {
        0 => {
            let received = console.receive(port, memory, &mut queues[first + 1]);
            if let Ok(Some(received)) = &received {
                let chains = usize::from(DESCRIPTORS);
                assert!(received.len() <= chains * chains * MEMORY);
                let sum: usize = received.slices().iter().map(|slice| slice.len()).sum();
                assert_eq!(sum, received.len());
            }
            received
                .map(|received| {
                    received.map(|mut received| received.keep_after(usize::from(call >> 3)))
                })
                .is_ok()
        }
        1 => {
            let mut bytes = &[call; 100][..];
            let sent = console.send_from(port, memory, &mut queues[first], &mut bytes);
            if let Ok(sent) = &sent {
                assert_eq!(sent.bytes, 100 - bytes.len());
            }
            sent.is_ok()
        }
        2 => {
            let [_, _, receive, transmit, ..] = queues else {
                return;
            };
            console.handle_control(memory, receive, transmit).is_ok()
        }
        _ => {
            for queue in queues {
                let _ = needs_interrupt(memory, queue, u16::from(call));
            }
            console.write_config(u64::from(call >> 3), &[call]);
            return;
        }
    };
    assert!(!(was_broken && is_ok), "it goes on although it is broken");
}
