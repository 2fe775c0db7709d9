use std::time::Duration;

use proptest::prelude::*;

use super::*;

const A: PortId = PortId {
    generation: 0,
    number: 1,
};

fn hop(link: u64) -> Hop {
    Hop {
        stage: Stage::Leave,
        ingress: A,
        egress: A,
        segment: 0,
        link,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
fn epoch() -> Instant {
    Instant::now()
}

/// Takes all that has arrived, as text.
fn arrived(queue: &mut DelayQueue, now: Instant) -> String {
    let mut text = String::new();
    while let Some((_, _, buffer)) = queue.pop_due(now) {
        text.push_str(std::str::from_utf8(buffer.bytes()).unwrap());
        queue.recycle(buffer);
    }
    text
}

fn push(queue: &mut DelayQueue, due: Instant, link: u64, text: &str) {
    let buffer = queue.buffer([text.as_bytes(), &[], &[]]).unwrap();
    queue.push(due, hop(link), buffer);
}

#[test]
fn frames_arrive_when_they_are_due_and_those_of_one_time_in_order() {
    let (mut queue, start) = (DelayQueue::new(10, 1 << 20), epoch());
    let after = |millis| start + Duration::from_millis(millis);
    for (millis, text) in [(3, "d"), (1, "a"), (2, "b"), (2, "c")] {
        push(&mut queue, after(millis), 1, text);
    }
    assert_eq!(queue.next_due(), Some(after(1)));
    assert_eq!(arrived(&mut queue, start), "");
    assert_eq!(arrived(&mut queue, after(2)), "abc");
    assert_eq!(arrived(&mut queue, after(9)), "d");
    assert!(queue.is_empty() && queue.next_due().is_none());
}

#[test]
fn a_link_that_is_over_lets_its_frames_go_at_once_and_no_others() {
    let (mut queue, start) = (DelayQueue::new(10, 1 << 20), epoch());
    let late = start + Duration::from_secs(9);
    for (link, text) in [(1, "a"), (2, "b"), (1, "c"), (0, "d")] {
        push(&mut queue, late, link, text);
    }
    queue.hurry(start, |link| link == 1);
    assert_eq!(arrived(&mut queue, start), "ac");
    assert_eq!(arrived(&mut queue, late), "bd");
}

#[test]
fn a_buffer_is_put_together_and_used_again() {
    let mut queue = DelayQueue::new(10, 1 << 20);
    let long = queue.buffer([&[7; 200], &[], &[]]).unwrap();
    queue.recycle(long);
    let short = queue.buffer([b"ab", b"", b"c"]).unwrap();
    assert_eq!(short.bytes(), b"abc");
    assert!(queue.buffer([&[0; FRAME_MAX], &[0], &[]]).is_none());
    assert!(queue.buffer([&[0; FRAME_MAX], &[], &[]]).is_some());
}

proptest! {
    #[test]
    fn the_queue_keeps_its_bounds(
        steps in proptest::collection::vec((any::<bool>(), 0..5000_usize, 0..50_u64), 0..300),
    ) {
        let (mut queue, start) = (DelayQueue::new(20, 100_000), epoch());
        let mut model: Vec<(u64, usize, usize)> = Vec::new(); // Due, turn, length.
        for (turn, (is_push, len, millis)) in steps.into_iter().enumerate() {
            if is_push {
                let size = |len: usize| BUFFER_SIZES.into_iter().find(|size| *size >= len).unwrap();
                let used: usize = model.iter().map(|one| size(one.2)).sum();
                let fits = model.len() < 20 && used + size(len) <= 100_000;
                let frame = vec![turn as u8; len];
                let buffer = queue.buffer([&frame, &[], &[]]);
                prop_assert_eq!(buffer.is_some(), fits);
                if let Some(buffer) = buffer {
                    queue.push(start + Duration::from_millis(millis), hop(1), buffer);
                    model.push((millis, turn, len));
                }
            } else {
                let now = start + Duration::from_millis(millis);
                model.sort();
                while let Some((due, _, buffer)) = queue.pop_due(now) {
                    let (millis, turn, len) = model.remove(0);
                    prop_assert_eq!(due, start + Duration::from_millis(millis));
                    prop_assert_eq!(buffer.bytes(), vec![turn as u8; len]);
                    queue.recycle(buffer);
                }
                prop_assert!(model.iter().all(|one| one.0 > millis));
            }
            prop_assert_eq!(queue.len(), model.len());
        }
    }
}
