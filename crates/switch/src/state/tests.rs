use std::collections::HashMap;

use proptest::prelude::*;

use super::queue::{Overflow, Popped, Queue};
use super::*;

const A: PortId = PortId {
    generation: 0,
    number: 1,
};
const B: PortId = PortId {
    generation: 0,
    number: 2,
};
const C: PortId = PortId {
    generation: 0,
    number: 3,
};

const ALL: [u8; 6] = [0xff; 6];
const TTL: Duration = Duration::from_secs(300);

fn table(capacity: usize) -> (Stations, Instant) {
    let start = epoch();
    (
        Stations::new(
            start,
            capacity,
            TTL,
            [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3211],
        ),
        start,
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn station(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0, a, b, c, d]
}

/// Sends a frame, and says where it goes.
fn send(
    table: &mut Stations,
    now: Instant,
    ingress: PortId,
    source: [u8; 6],
    target: [u8; 6],
) -> Egress {
    let frame = [&target[..], &source, &[0x88, 0xb5]].concat();
    table.handle_frame(now, ingress, Frame::parse(&frame).unwrap())
}

#[test]
fn a_frame_for_an_unknown_station_goes_to_all_others() {
    let (mut table, now) = table(64);
    assert_eq!(
        send(&mut table, now, A, station(1), station(2)),
        Egress::Flood { except: A }
    );
}

#[test]
fn a_frame_for_a_known_station_goes_to_its_port() {
    let (mut table, now) = table(64);
    send(&mut table, now, B, station(2), ALL);
    assert_eq!(
        send(&mut table, now, A, station(1), station(2)),
        Egress::Unicast(B)
    );
    assert_eq!(
        send(&mut table, now, B, station(2), station(1)),
        Egress::Unicast(A)
    );
}

#[test]
fn a_frame_for_a_station_behind_its_own_port_goes_nowhere() {
    let (mut table, now) = table(64);
    send(&mut table, now, A, station(2), ALL);
    assert_eq!(
        send(&mut table, now, A, station(1), station(2)),
        Egress::Drop
    );
}

#[test]
fn a_group_is_never_learned() {
    let (mut table, now) = table(64);
    let group = [0x33, 0x33, 0, 0, 0, 1];
    send(&mut table, now, A, group, ALL);
    assert_eq!(
        send(&mut table, now, B, station(1), group),
        Egress::Flood { except: B }
    );
    assert_eq!(table.counters().learned, 1);
}

#[test]
fn a_station_that_moves_is_found_behind_its_new_port() {
    let (mut table, now) = table(64);
    send(&mut table, now, A, station(1), ALL);
    send(&mut table, now, B, station(1), ALL);
    assert_eq!(
        send(&mut table, now, C, station(3), station(1)),
        Egress::Unicast(B)
    );
    assert_eq!(
        table.counters(),
        StationCounters {
            learned: 2,
            moved: 1,
            evicted: 0
        }
    );
}

#[test]
fn a_silent_station_is_forgotten_after_its_ttl() {
    let (mut table, start) = table(64);
    send(&mut table, start, B, station(2), ALL);
    assert_eq!(
        send(&mut table, start + TTL, A, station(1), station(2)),
        Egress::Unicast(B)
    );
    assert_eq!(table.known(start + TTL)[1].silent_for, TTL);
    let later = start + TTL + TICK;
    assert_eq!(
        send(&mut table, later, A, station(1), station(2)),
        Egress::Flood { except: A }
    );
    assert_eq!(table.known(later).len(), 1);
}

#[test]
fn a_station_that_speaks_is_not_forgotten() {
    let (mut table, start) = table(64);
    for minute in 0..100 {
        let now = start + Duration::from_secs(60) * minute;
        send(&mut table, now, B, station(2), ALL);
    }
    let now = start + Duration::from_secs(60) * 100;
    assert_eq!(
        send(&mut table, now, A, station(1), station(2)),
        Egress::Unicast(B)
    );
    assert_eq!(table.counters().learned, 2);
}

#[test]
fn stations_of_a_port_that_is_gone_are_forgotten_and_no_others() {
    let (mut table, now) = table(64);
    send(&mut table, now, A, station(1), ALL);
    send(&mut table, now, B, station(2), ALL);
    table.handle_port_gone(A);
    assert_eq!(
        send(&mut table, now, C, station(3), station(1)),
        Egress::Flood { except: C }
    );
    assert_eq!(
        send(&mut table, now, C, station(3), station(2)),
        Egress::Unicast(B)
    );
    assert_eq!(B.next().number(), B.number());
    table.handle_port_gone(B.next());
    assert_eq!(
        table.known(now).len(),
        2,
        "the next port of the same number had none"
    );
}

#[test]
fn a_full_table_forgets_who_was_silent_for_longest() {
    let (mut table, start) = table(8); // One bucket.
    for number in 0..8 {
        send(
            &mut table,
            start + Duration::from_secs(number),
            A,
            station(number as u32),
            ALL,
        );
    }
    let now = start + Duration::from_secs(8);
    send(&mut table, now, A, station(0), ALL); // The oldest one speaks again.
    send(&mut table, now, A, station(8), ALL);
    let known = |number| {
        table
            .known(now)
            .iter()
            .any(|known| known.address.0 == station(number))
    };
    assert!(known(0) && !known(1) && (2..=8).all(known));
    assert_eq!(table.counters().evicted, 1);
}

#[test]
fn a_station_past_its_ttl_makes_room_without_being_counted_as_evicted() {
    let (mut table, start) = table(8);
    for number in 0..8 {
        send(&mut table, start, A, station(number), ALL);
    }
    send(&mut table, start + TTL + TICK, A, station(8), ALL);
    assert_eq!(
        table.counters(),
        StationCounters {
            learned: 9,
            moved: 0,
            evicted: 0
        }
    );
}

#[test]
fn made_up_addresses_do_not_grow_the_table_and_a_station_that_speaks_stays_reachable() {
    let (mut table, start) = table(STATIONS_MAX);
    for number in 0..200_000_u32 {
        let now = start + Duration::from_millis(number.into());
        send(&mut table, now, B, station(number + 1), ALL);
        if number % 100 == 0 {
            send(&mut table, now, A, station(0), ALL);
            assert_eq!(
                send(&mut table, now, C, ALL, station(0)),
                Egress::Unicast(A)
            );
        }
    }
    let now = start + Duration::from_secs(200);
    assert!(table.known(now).len() <= STATIONS_MAX);
    assert!(table.counters().evicted > 180_000);
}

#[test]
fn a_table_holds_nearly_as_many_stations_as_it_has_places() {
    let (mut table, now) = table(STATIONS_MAX);
    for number in 0..STATIONS_MAX as u32 / 2 {
        send(&mut table, now, A, station(number), ALL);
    }
    let known = table.known(now).len();
    assert!(
        known > STATIONS_MAX / 2 * 97 / 100,
        "{known} of {} are known",
        STATIONS_MAX / 2
    );
}

#[test]
fn a_full_queue_loses_the_newest_or_the_oldest_as_it_is_told() {
    let mut queue = Queue::new(2, 100);
    let mut push = |overflow, byte: u8, len| {
        let lost = queue.push_over(overflow, [&vec![byte; len], &[]], len);
        let kept: Vec<u8> = queue.frames().map(|pieces| pieces[0][0]).collect();
        (lost, kept)
    };
    assert_eq!(push(Overflow::DropNewest, 1, 40), (0, vec![1]));
    assert_eq!(push(Overflow::DropNewest, 2, 40), (0, vec![1, 2]));
    assert_eq!(push(Overflow::DropNewest, 3, 1), (1, vec![1, 2]));
    assert_eq!(push(Overflow::DropOldest, 4, 1), (1, vec![2, 4]));
    assert_eq!(push(Overflow::DropOldest, 5, 100), (2, vec![5]));
    assert_eq!(
        push(Overflow::DropOldest, 6, 101),
        (2, vec![]),
        "it never fits"
    );
    assert_eq!(push(Overflow::DropOldest, 7, 50), (0, vec![7]));
    assert_eq!(queue.pop_bytes(10), Popped::default());
    let lost = queue.push_over(Overflow::DropOldest, [&[8; 90], &[]], 90);
    assert_eq!(lost, 1, "what a stream has begun must be finished");
    assert_eq!(queue.len(), 1);
}

#[test]
fn an_id_survives_its_bits_and_prints_as_the_number() {
    let id = PortId::new(7, 0xfffe);
    assert_eq!(PortId::from_u32(id.to_u32()), id);
    assert_eq!(id.to_string(), "7");
    assert_ne!(id.next(), id);
    assert_eq!(id.next().next(), PortId::new(7, 0));
}

#[test]
fn a_clock_that_goes_on_for_ever_breaks_nothing() {
    let (mut table, start) = table(64);
    let later = start + Duration::from_secs(60 * 60 * 24 * 365 * 50);
    send(&mut table, later, A, station(1), ALL);
    assert_eq!(
        send(&mut table, later, B, station(2), station(1)),
        Egress::Unicast(A)
    );
}

/// What a switch with a table of any size would do.
#[derive(Default)]
struct Model(HashMap<[u8; 6], (PortId, Instant)>);

proptest! {
    #[test]
    fn the_table_does_as_a_map_without_bounds_would(
        frames in proptest::collection::vec((1..4_u16, 0..6_u32, 0..6_u32, 0..200_u64), 0..200),
    ) {
        let (mut table, start) = table(1024);
        let (mut model, mut now) = (Model::default(), start);
        for (ingress, source, target, seconds) in frames {
            now += Duration::from_secs(seconds);
            let ingress = PortId::new(ingress, 0);
            model.0.insert(station(source), (ingress, now));
            let known = model.0.get(&station(target)).filter(|(_, heard)| now - *heard <= TTL);
            let expected = match known {
                Some((port, _)) if *port == ingress => Egress::Drop,
                Some((port, _)) => Egress::Unicast(*port),
                None => Egress::Flood { except: ingress },
            };
            prop_assert_eq!(send(&mut table, now, ingress, station(source), station(target)), expected);
        }
    }

    #[test]
    fn no_frame_goes_back_to_its_port(
        frames in proptest::collection::vec((1..6_u16, any::<[u8; 6]>(), any::<[u8; 6]>()), 0..300),
    ) {
        let (mut table, now) = table(16);
        for (ingress, source, target) in frames {
            let ingress = PortId::new(ingress, 0);
            match send(&mut table, now, ingress, source, target) {
                Egress::Unicast(port) => prop_assert_ne!(port, ingress),
                Egress::Flood { except } => prop_assert_eq!(except, ingress),
                Egress::Drop => {}
            }
        }
    }

    #[test]
    fn a_queue_gives_back_what_it_took_in_order(
        steps in proptest::collection::vec((any::<bool>(), 0..70_usize, 0..40_usize), 0..200),
        by_bytes in any::<bool>(),
    ) {
        let mut queue = Queue::new(5, 200);
        let (mut model, mut expected): (Vec<Vec<u8>>, Vec<u8>) = (Vec::new(), Vec::new());
        for (turn, (is_push, len, split)) in steps.into_iter().enumerate() {
            if is_push {
                let frame = vec![turn as u8; len];
                let (first, second) = frame.split_at(split.min(len));
                let fits = model.len() < 5 && model.iter().map(Vec::len).sum::<usize>() + len <= 200;
                prop_assert_eq!(queue.push([first, second], len), fits);
                if fits {
                    model.push(frame);
                }
            } else if by_bytes {
                // `model` has what is left; a frame that has ended is off it.
                let before: usize = model.iter().map(Vec::len).sum();
                let taken = len.min(before);
                expected = model.concat();
                let popped = queue.pop_bytes(len);
                let mut left = taken;
                let mut ended = 0;
                while let Some(first) = model.first_mut() {
                    if left < first.len() {
                        first.drain(..left);
                        break;
                    }
                    left -= first.len();
                    model.remove(0);
                    ended += 1;
                }
                prop_assert_eq!(popped.frames, ended);
                prop_assert_eq!(queue.bytes().concat(), &expected[taken..]);
            } else {
                let count = split.min(3);
                let gone: Vec<_> = model.drain(..count.min(model.len())).collect();
                let bytes = gone.iter().map(|frame| frame.len() as u64).sum();
                prop_assert_eq!(queue.pop_frames(count), Popped { frames: gone.len() as u64, bytes });
            }
            let frames: Vec<_> = queue.frames().map(|pieces| pieces.concat()).collect();
            prop_assert_eq!(&frames, &model);
            prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
        }
        drop(expected);
    }
}
