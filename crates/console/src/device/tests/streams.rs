//! Long streams in either direction, cut up anyhow, with the device saved and restored in the middle.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const RING: u16 = 16;

/// How far apart the chains' descriptors and data lie.
const STRIDE: u16 = 4;

fn slot_data(slot: u16) -> u64 {
    // Some of the slots' data lie across the seam of the two regions.
    SEAM - 0x1_0000 + 0x4000 * u64::from(slot)
}

/// What the guest does next, and the host.
#[derive(Clone, Debug)]
enum Step {
    /// The guest offers a chain of such buffers.
    Offer(Vec<u32>),
    /// The host takes part in the stream, with this many bytes.
    Move(usize),
    /// The device goes into a file and comes back.
    Save,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => vec(0..3000_u32, 1..=usize::from(STRIDE)).prop_map(Step::Offer),
        4 => (0..6000_usize).prop_map(Step::Move),
        1 => Just(Step::Save),
    ];
    vec(step, 1..120)
}

/// Puts device and queue into text and back.
fn save_and_restore(console: Console, queue: Queue) -> (Console, Queue) {
    let saved = (console.save(), SavedQueue::from(&queue));
    let text = serde_json::to_string(&saved).unwrap();
    let (state, queue): (State, SavedQueue) = serde_json::from_str(&text).unwrap();
    assert_eq!((&state, &queue), (&saved.0, &saved.1));
    let config = Config {
        ports: vec![port("", true)],
        ..Config::default()
    };
    let console = Console::restore(config, state).unwrap();
    (console, Queue::try_from(queue).unwrap())
}

/// Numbers that do not repeat at any power of two.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| (at % 251) as u8 ^ (at / 251) as u8)
        .collect()
}

proptest! {
    #[test]
    fn everything_from_the_guest_arrives_once_and_in_order(steps in steps(), event_idx: bool) {
        let memory = memory();
        let (mut guest, mut queue) = Guest::new(&memory, 0, RING * STRIDE);
        queue.set_event_idx(event_idx);
        let mut console = plain_console();
        let (mut sent, mut heard) = (0, Vec::new());
        let mut free: Vec<u16> = (0..RING).collect();
        for step in steps {
            match step {
                Step::Offer(lens) => {
                    let Some(slot) = free.pop() else { continue };
                    let mut address = slot_data(slot);
                    let mut buffers = Vec::new();
                    for len in lens {
                        guest.write(address, &pattern(sent, len as usize));
                        buffers.push((address, len));
                        sent += len as usize;
                        address += u64::from(len);
                    }
                    guest.offer(slot * STRIDE, &buffers, 0);
                }
                Step::Move(count) => {
                    let received = console.receive(0, &memory, &mut queue).unwrap();
                    let Some(mut received) = received else { continue };
                    let start = heard.len();
                    heard.resize(start + count.min(received.len()), 0);
                    received.copy_to(&mut heard[start..]);
                    received.keep_after(count);
                    received.finish().unwrap();
                    for (head, len) in guest.all_used() {
                        prop_assert_eq!(len, 0, "the device writes nothing there");
                        free.push(head / STRIDE);
                    }
                }
                Step::Save => (console, queue) = save_and_restore(console, queue),
            }
        }
        while let Some(received) = console.receive(0, &memory, &mut queue).unwrap() {
            let start = heard.len();
            heard.resize(start + received.len(), 0);
            received.copy_to(&mut heard[start..]);
        }
        prop_assert!(heard == pattern(0, sent));
        free.extend(guest.all_used().iter().map(|(head, _)| head / STRIDE));
        free.sort_unstable();
        prop_assert_eq!(free, (0..RING).collect::<Vec<_>>(), "all buffers are the guest's again");
    }

    #[test]
    fn everything_to_the_guest_arrives_once_and_in_order(steps in steps(), event_idx: bool) {
        let memory = memory();
        let (mut guest, mut queue) = Guest::new(&memory, 0, RING * STRIDE);
        queue.set_event_idx(event_idx);
        let mut console = plain_console();
        let (mut sent, mut heard) = (0, Vec::new());
        let mut free: Vec<u16> = (0..RING).collect();
        let mut offered: Vec<Vec<(u64, u32)>> = vec![vec![]; usize::from(RING)];
        for step in steps {
            match step {
                Step::Offer(lens) => {
                    let Some(slot) = free.pop() else { continue };
                    let mut address = slot_data(slot);
                    let mut buffers = Vec::new();
                    for len in lens {
                        buffers.push((address, len));
                        // Gaps, so that a byte too many is seen.
                        guest.write(address, &vec![0xee; len as usize + 1]);
                        address += u64::from(len) + 1;
                    }
                    guest.offer(slot * STRIDE, &buffers, WRITE);
                    offered[usize::from(slot)] = buffers;
                }
                Step::Move(count) => {
                    let bytes = pattern(sent, count);
                    let third = count / 3;
                    let pieces: [&[u8]; 2] = [&bytes[..third], &bytes[third..]];
                    let mut source = Slices::new(&pieces);
                    let moved = console.send_from(0, &memory, &mut queue, &mut source).unwrap();
                    prop_assert_eq!(source.remaining(), count - moved.bytes);
                    sent += moved.bytes;
                    for (head, len) in guest.all_used() {
                        let slot = head / STRIDE;
                        let mut left = len as usize;
                        for (address, len) in &offered[usize::from(slot)] {
                            let here = left.min(*len as usize);
                            heard.extend(guest.read(*address, here));
                            let beyond = guest.read(*address + here as u64, *len as usize + 1 - here);
                            prop_assert!(beyond.iter().all(|byte| *byte == 0xee));
                            left -= here;
                        }
                        prop_assert_eq!(left, 0, "more than there is room");
                        free.push(slot);
                    }
                }
                Step::Save => (console, queue) = save_and_restore(console, queue),
            }
        }
        prop_assert!(heard == pattern(0, sent));
    }
}

#[test]
fn handshake_goes_on_after_a_restore() {
    let config = Config {
        ports: vec![port("", true), port("second", false)],
        ..Config::default()
    };
    let memory = memory();
    let mut console = Console::new(config.clone()).unwrap();
    console.set_driver_features(console.features());
    let (mut theirs, mut receive) = Guest::new(&memory, 0, 8);
    let (mut ours, mut transmit) = Guest::new(&memory, 0x1000, 8);
    let ready = wire::FromDriver::DeviceReady(true).encode();
    ours.write(DATA, &ready);
    ours.offer(0, &[(DATA, 8)], 0);
    theirs.offer(0, &[(DATA + 0x100, 64)], WRITE);
    console
        .handle_control(&memory, &mut receive, &mut transmit)
        .unwrap();
    console.write_config(8, b"!");

    let state = console.save();
    let mut console = Console::restore(config.clone(), state.clone()).unwrap();
    assert_eq!(console.save(), state);
    theirs.offer(1, &[(DATA + 0x200, 64)], WRITE);
    console
        .handle_control(&memory, &mut receive, &mut transmit)
        .unwrap();
    assert_eq!(theirs.all_used(), [(0, 8), (1, 8)]);
    assert_eq!(theirs.read(DATA + 0x200, 8), [1, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(console.take_emergency().0, b"!");

    let fewer = Config {
        ports: vec![port("", true)],
        ..config.clone()
    };
    let refused = Console::restore(fewer, state.clone()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a saved state with another number of ports"
    );
    let text = serde_json::to_string(&state).unwrap();
    let other = text.replace("\"version\":1", "\"version\":2");
    let other: State = serde_json::from_str(&other).unwrap();
    let refused = Console::restore(config, other).unwrap_err();
    assert_eq!(refused.to_string(), "a saved state with version 2");
}

#[test]
fn impossible_queue_is_not_restored() {
    let memory = memory();
    let (_, queue) = Guest::new(&memory, 0, 8);
    let text = serde_json::to_string(&SavedQueue::from(&queue)).unwrap();
    for (good, bad) in [
        ("\"size\":8", "\"size\":7"),
        ("\"size\":8", "\"size\":16"),
        ("\"max_size\":8", "\"max_size\":0"),
        ("\"avail_ring\":128", "\"avail_ring\":129"),
    ] {
        let text = text.replace(good, bad);
        let saved: SavedQueue = serde_json::from_str(&text).unwrap();
        assert!(Queue::try_from(saved).is_err(), "{text}");
    }
}
