//! Guests that break the rules.

use std::collections::BTreeSet;

use super::*;
use crate::device::chain::{Batch, Way};

/// What a chain is by the standard: its buffers, or what is wrong with it. Written without the code that is tested.
fn model(table: &[Raw], indirect: &[Raw], head: u16, way: Way) -> Result<Vec<(u64, u32)>, Flaw> {
    let size = table.len();
    let (mut table, mut is_indirect) = (table, false);
    let (mut index, mut steps, mut total) = (usize::from(head), 0, 0_u32);
    let mut buffers = Vec::new();
    loop {
        let end = match buffers.is_empty() {
            true => Flaw::Head(head),
            false => Flaw::Endless(head),
        };
        let Some(Raw(address, len, flags, next)) = table.get(index).copied() else {
            return Err(end);
        };
        if flags & INDIRECT != 0 {
            if is_indirect || len != 16 * u32::try_from(indirect.len()).unwrap() {
                return Err(end);
            }
            (table, is_indirect, index, steps) = (indirect, true, 0, 0);
            continue;
        }
        (steps, total) = match (steps + 1, total.checked_add(len)) {
            (steps, Some(total)) if steps <= table.len() => (steps, total),
            _ => return Err(end),
        };
        if buffers.len() == size {
            return Err(Flaw::Endless(head));
        }
        let found = match (way, flags & WRITE != 0) {
            (Way::FromGuest, true) => Some("only to be written to"),
            (Way::ToGuest, false) => Some("only to be read"),
            _ => None,
        };
        if let Some(found) = found {
            return Err(Flaw::Direction { head, found });
        }
        if address
            .checked_add(u64::from(len))
            .is_none_or(|end| end > END)
        {
            return Err(Flaw::Address { head, address, len });
        }
        buffers.push((address, len));
        if flags & NEXT == 0 {
            return Ok(buffers);
        }
        index = usize::from(next);
    }
}

/// What the device makes of such a chain: its bytes, as stretches of guest memory.
fn found(table: &[Raw], indirect: &[Raw], head: u16, way: Way) -> Result<usize, Flaw> {
    thread_local! {
        static MEMORY: GuestMemoryMmap<()> = memory();
    }
    MEMORY.with(|memory| {
        let size = u16::try_from(table.len()).unwrap();
        let (mut guest, mut queue) = Guest::new(memory, 0, size);
        for (index, raw) in (0..).zip(table) {
            guest.describe(index, *raw);
        }
        for (index, raw) in (0..).zip(indirect) {
            guest.write(TABLE + 16 * index, &raw.bytes());
        }
        guest.set_avail_index(0);
        guest.publish(head);
        let batch = Batch::take(memory, &mut queue, way, 0, 1)?;
        let batch = batch.expect("one was published");
        let bytes: usize = batch.slices.iter().map(|slice| slice.len()).sum();
        assert_eq!(batch.bytes, bytes);
        Ok(batch.bytes)
    })
}

/// Where indirect tables lie.
const TABLE: u64 = 0x8000;

fn agree(table: &[Raw], indirect: &[Raw], head: u16) {
    for way in [Way::FromGuest, Way::ToGuest] {
        let expected = model(table, indirect, head, way)
            .map(|buffers| buffers.iter().map(|(_, len)| *len as usize).sum::<usize>());
        assert_eq!(
            found(table, indirect, head, way),
            expected,
            "{way:?} {head} {table:?} {indirect:?}"
        );
    }
}

/// Every way in which a table of four descriptors can be linked, from every head: 21,970 of them.
#[test]
fn every_small_table_is_read_as_the_standard_says() {
    let links = |address: u64| {
        let plain = [0, WRITE, INDIRECT].map(|flags| Raw(address, 16, flags, 0));
        let linked = (0..5)
            .flat_map(move |next| [NEXT, NEXT | WRITE].map(|flags| Raw(address, 16, flags, next)));
        plain.into_iter().chain(linked).collect::<Vec<_>>()
    };
    let indirect = [Raw(DATA, 7, 0, 0)];
    let choices = links(TABLE);
    for a in &choices {
        for b in &choices {
            for c in &choices {
                for d in [Raw(TABLE, 16, 0, 0), Raw(TABLE, 16, NEXT | WRITE, 2)] {
                    for head in 0..=4 {
                        agree(&[*a, *b, *c, d], &indirect, head);
                    }
                }
            }
        }
    }
}

#[test]
fn every_edge_of_memory_is_seen() {
    let edges = [0, 1, SEAM - 1, SEAM, SEAM + 1, END - 1, END, END + 1];
    let far = [u64::MAX, u64::MAX - 1, 1 << 63, u64::from(u32::MAX)];
    let lens = [0, 1, 2, 0x1000, 0x20_0000, 0x40_0000, 0x40_0001, u32::MAX];
    for address in edges.into_iter().chain(far) {
        for len in lens {
            let room = END.saturating_sub(address);
            let fits = len == 0 || u64::from(len) <= room;
            let flaw = Flaw::Address {
                head: 0,
                address,
                len,
            };
            for (flags, way) in [(0, Way::FromGuest), (WRITE, Way::ToGuest)] {
                let table = [Raw(address, len, flags, 0), Raw::default()];
                let found = found(&table, &[], 0, way);
                match fits {
                    true => assert_eq!(found, Ok(len as usize), "{address:#x}"),
                    false => assert_eq!(found.as_ref(), Err(&flaw)),
                }
            }
        }
    }
}

#[test]
fn longer_chain_than_its_queue_is_refused_wherever_its_table_is() {
    let memory = memory();
    for (entries, is_good) in [(8, true), (9, false), (4096, false)] {
        let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
        for index in 0..entries {
            let next = if index + 1 == entries { 0 } else { NEXT };
            let raw = Raw(DATA, 1, next, index + 1);
            guest.write(TABLE + 16 * u64::from(index), &raw.bytes());
        }
        guest.describe(0, Raw(TABLE, 16 * u32::from(entries), INDIRECT, 0));
        guest.publish(0);
        let mut console = plain_console();
        let received = console.receive(0, &memory, &mut queue);
        match is_good {
            true => assert_eq!(received.unwrap().unwrap().len(), 8),
            false => assert!(received.unwrap_err().to_string().contains("without an end")),
        }
    }
}

#[test]
fn more_available_than_there_is_room_breaks_the_device() {
    for excess in [9, 10, 0x7fff, 0xffff] {
        let memory = memory();
        let (guest, mut queue) = Guest::new(&memory, 0, 8);
        let mut console = plain_console();
        guest.set_avail_index(excess);
        let error = console.receive(0, &memory, &mut queue).unwrap_err();
        let flaw = format!("holds {excess} available chains, more than it has room for");
        assert!(error.to_string().ends_with(&flaw), "{error}");
        assert!(console.is_broken());
        let error = console.receive(0, &memory, &mut queue).unwrap_err();
        assert!(matches!(error, Error::Broken));
        let error = console.send_from(0, &memory, &mut queue, &mut &b"x"[..]);
        assert!(matches!(error, Err(Error::Broken)));
        assert!(console.resize(0, Size::default()).is_ok(), "the host may");
    }
}

#[test]
fn rings_outside_of_memory_break_the_device() {
    let memory = memory();
    let places = [END, END - 2, !0xf, 1 << 40];
    let low = |address: u64| Some(address as u32);
    let high = |address: u64| Some((address >> 32) as u32);
    for place in places {
        let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
        let mut console = plain_console();
        queue.set_avail_ring_address(low(place), high(place));
        let error = console.receive(0, &memory, &mut queue).unwrap_err();
        assert!(error.to_string().contains("no rings"), "{error}");

        let (_, mut queue) = Guest::new(&memory, 0, 8);
        let mut console = plain_console();
        guest.offer(0, &[(DATA, 1)], 0);
        queue.set_used_ring_address(low(place & !3), high(place));
        let received = console.receive(0, &memory, &mut queue).unwrap();
        let error = received.unwrap().finish().unwrap_err();
        assert!(error.to_string().contains("no rings"), "{error}");
        assert!(console.is_broken(), "also when it is found on giving back");
    }
    let (_, mut queue) = Guest::new(&memory, 0, 8);
    queue.set_ready(false);
    let mut console = plain_console();
    assert!(console.receive(0, &memory, &mut queue).unwrap().is_none());
}

/// 2 GiB in one chain, in 2 MiB of memory: each call hands out a part.
#[test]
fn huge_chain_is_handed_out_in_bounded_parts() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 1024);
    let mut console = plain_console();
    let buffers = vec![(SEAM, 0x20_0000); 1024];
    guest.offer(0, &buffers, 0);
    let mut total = 0;
    let mut parts = 0;
    while guest.take_used().is_none() {
        let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        assert!(received.len() <= 16 << 20);
        total += received.len();
        parts += 1;
    }
    assert_eq!((total, parts), (1 << 31, 128));
}

#[test]
fn chain_of_many_tiny_buffers_is_handed_out_in_bounded_parts() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 4096);
    let mut console = plain_console();
    let buffers: Vec<_> = (0..4096).map(|at| (DATA + 2 * at, 1)).collect();
    let bytes: Vec<u8> = (0..8192_u32).map(|at| (at / 2 % 251) as u8).collect();
    guest.write(DATA, &bytes);
    guest.offer(0, &buffers, 0);
    let mut heard = Vec::new();
    while guest.take_used().is_none() {
        let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        assert!(received.slices().len() <= 1024);
        let start = heard.len();
        heard.resize(start + received.len(), 0);
        received.copy_to(&mut heard[start..]);
    }
    assert!(heard.iter().copied().eq(bytes.iter().copied().step_by(2)));
}

#[test]
fn chain_that_shrinks_while_it_is_received_ends_early() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 100)], 0);
    let mut received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    received.keep_after(50);
    drop(received);
    guest.describe(0, Raw(DATA, 10, 0, 0));
    guest.write(DATA + 0x100, b"next");
    guest.offer(1, &[(DATA + 0x100, 4)], 0);
    let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    let mut bytes = [0; 8];
    assert_eq!(
        received.copy_to(&mut bytes),
        4,
        "nothing of the next is lost"
    );
    assert_eq!(&bytes[..4], b"next");
    drop(received);
    assert_eq!(guest.all_used(), [(0, 0), (1, 0)]);
}

#[test]
fn same_chain_twice_is_only_the_guests_problem() {
    let memory = memory();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, 4)], WRITE);
    for _ in 1..8 {
        guest.publish(0);
    }
    let bytes: Vec<u8> = (0..32).collect();
    let sent = console.send_from(0, &memory, &mut queue, &mut &bytes[..]);
    assert_eq!(sent.unwrap().bytes, 32);
    let used: BTreeSet<_> = guest.all_used().into_iter().collect();
    assert_eq!(used, BTreeSet::from([(0, 4)]));
}
