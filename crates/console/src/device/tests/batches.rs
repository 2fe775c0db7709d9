//! Many chains and buffers at once: what is looked up, what is written, and when the guest hears of it.

use super::*;

/// Wherever rings and tables cross from one region of memory into the next, and where they do not.
#[test]
fn rings_may_lie_across_regions_of_memory() {
    let memory = memory();
    let size = 8;
    let (table_len, avail_len) = (16 * 8, 6 + 2 * 8);
    // In the table, in each ring, and between two descriptors.
    for behind in [0, 8, 16, 40, table_len + 6, table_len + avail_len + 14] {
        let (mut guest, mut queue) = Guest::new(&memory, (SEAM - behind) & !0xf, size);
        let mut console = plain_console();
        for round in 0..20 {
            let bytes = [round; 4];
            guest.write(DATA, &bytes[..2]);
            guest.write(DATA + 0x100, &bytes[2..]);
            let first = u16::from(round) % 4;
            guest.offer(first, &[(DATA, 2), (DATA + 0x100, 2)], 0);
            let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
            let mut heard = [0; 4];
            assert_eq!(received.copy_to(&mut heard), 4, "{behind}");
            assert_eq!(heard, bytes);
            drop(received);
            assert_eq!(guest.all_used(), [(first, 0)], "{behind}");
        }
    }
}

#[test]
fn indirect_table_may_lie_across_regions_of_memory() {
    let memory = memory();
    for behind in [0, 8, 16, 32] {
        let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
        let mut console = plain_console();
        let table = SEAM - behind;
        guest.write(table, &Raw(DATA, 3, NEXT, 1).bytes());
        guest.write(table + 16, &Raw(DATA + 3, 4, 0, 0).bytes());
        guest.write(DATA, b"abcdefg");
        guest.describe(2, Raw(table, 32, INDIRECT, 0));
        guest.publish(2);
        let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        let mut heard = [0; 8];
        assert_eq!(received.copy_to(&mut heard), 7, "{behind}");
        assert_eq!(&heard[..7], b"abcdefg");
    }
}

/// The guest says at which entry it wants to be woken; a batch of any length passes that entry or does not.
#[test]
fn batch_interrupts_if_the_guest_waits_for_any_of_it() {
    let memory = memory();
    let wakes = |start: u16, chains: u16, event: u16| {
        let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
        queue.set_event_idx(true);
        guest.start_at(start);
        queue.set_next_avail(start);
        queue.set_next_used(start);
        let mut console = plain_console();
        for chain in 0..chains {
            guest.offer(chain, &[(DATA, 1)], 0);
        }
        guest.wake_after(start.wrapping_add(event));
        let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        let wakes = received.finish().unwrap();
        assert_eq!(guest.all_used().len(), usize::from(chains));
        wakes
    };
    for start in [0, 1, 5, 0xfff9, 0xffff] {
        for chains in 1..=8 {
            for event in 0..=9 {
                let expected = (1..=chains).contains(&event);
                assert_eq!(
                    wakes(start, chains, event),
                    expected,
                    "{start} {chains} {event}"
                );
            }
        }
    }
}

/// Buffers by which nothing was received are not given back, and so nobody has to hear of them.
#[test]
fn nothing_given_back_is_nothing_to_be_told() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 4);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 8)], 0);
    let mut received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    received.keep_after(3);
    assert!(!received.finish().unwrap());
    assert!(guest.take_used().is_none());
}
