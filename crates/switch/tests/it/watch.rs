//! Watches: what passes, as the program sees it.

use std::time::Instant;

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::wire::pcapng::Direction;
use hotbed_switch::{Config, End, Error, OTHERS_MAX, SIGHTINGS_MAX, Selection, Switch, Watch};

use crate::support::{A, ALL, B, Lan, SOON, frame};

fn filter(text: &str) -> Selection {
    Selection {
        filter: Some(Filter::parse(text).unwrap()),
        ..Selection::default()
    }
}

/// The next frame that is meant, if it is there already.
fn at_once(watch: &Watch) -> Option<Vec<u8>> {
    let sighting = watch.poll(Instant::now()).unwrap();
    sighting.map(|sighting| sighting.frame)
}

#[test]
fn a_watch_gives_the_frames_that_are_meant_once_and_remembers_the_last_others() {
    let lan = Lan::start();
    let (a, b) = (lan.client("alpha"), lan.client("beta"));
    a.send(&frame(ALL, A, b"before"));
    b.recv();
    let watch = lan
        .switch
        .watch(&filter("ether src 02:00:00:00:00:0b"))
        .unwrap();
    assert_eq!(at_once(&watch), None);
    let others = (0..20).map(|number| frame(ALL, A, &[number; 500]));
    let others: Vec<_> = others.collect();
    for other in &others {
        a.send(other);
        b.recv();
    }
    b.send(&frame(A, B, b"meant"));
    let sighting = watch.poll(Instant::now() + SOON).unwrap().unwrap();
    assert_eq!(
        (&*sighting.port_name, sighting.direction),
        ("beta", Direction::In)
    );
    assert_eq!(sighting.frame, frame(A, B, b"meant"));
    assert_eq!(at_once(&watch), None);
    let (last, count) = watch.others();
    assert_eq!(count, 20);
    let last: Vec<_> = last
        .into_iter()
        .map(|other| (other.len, other.frame))
        .collect();
    let expected = others[20 - OTHERS_MAX..].iter();
    let expected: Vec<_> = expected.map(|other| (514, other[..256].to_vec())).collect();
    assert_eq!(last, expected);
}

#[test]
fn a_watch_of_a_port_has_both_directions() {
    let lan = Lan::start();
    let (a, b) = (lan.client("alpha"), lan.client("beta"));
    lan.await_ports(2);
    let selection = Selection {
        ports: Some(vec![End::from("beta")]),
        filter: None,
    };
    let watch = lan.switch.watch(&selection).unwrap();
    a.send(&frame(ALL, A, b"to"));
    b.recv();
    b.send(&frame(A, B, b"from"));
    for expected in [Direction::Out, Direction::In] {
        let sighting = watch.poll(Instant::now() + SOON).unwrap().unwrap();
        assert_eq!(
            (&*sighting.port_name, sighting.direction),
            ("beta", expected)
        );
    }
}

#[test]
fn a_watch_that_nobody_polls_is_bounded_and_one_that_is_dropped_makes_room() {
    let lan = Lan::start();
    let probe = lan.switch.add_local("probe").unwrap();
    for _ in 0..20 {
        let watches: Vec<_> = (0..16)
            .map(|_| lan.switch.watch(&filter("")).unwrap())
            .collect();
        let more = lan.switch.watch(&filter(""));
        assert!(matches!(more, Err(Error::TooManyRules(16))));
        drop(watches);
    }
    let watch = lan.switch.watch(&filter("broadcast")).unwrap();
    for number in 0..100 {
        probe.send(&frame(ALL, A, &[number])).unwrap();
    }
    lan.switch.settle().unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| at_once(&watch)).collect();
    let first = (0..100).map(|number| frame(ALL, A, &[number]));
    assert_eq!(kept, first.take(SIGHTINGS_MAX).collect::<Vec<_>>());
    assert_eq!(watch.missed(), 100 - SIGHTINGS_MAX as u64);
}

#[test]
fn a_watch_ends_with_its_switch_behind_what_has_passed() {
    let switch = Switch::start(Config::default()).unwrap();
    let probe = switch.add_local("probe").unwrap();
    let watch = switch.watch(&filter("")).unwrap();
    probe.send(&frame(ALL, A, b"last")).unwrap();
    switch.settle().unwrap();
    std::thread::scope(|scope| {
        let polled = scope.spawn(|| {
            let last = watch.poll(Instant::now() + SOON).unwrap();
            (last, watch.poll(Instant::now() + 2 * SOON))
        });
        drop(switch);
        let (last, end) = polled.join().unwrap();
        assert_eq!(last.unwrap().frame, frame(ALL, A, b"last"));
        assert!(matches!(end, Err(Error::Stopped(_))));
    });
}

#[test]
fn a_settled_switch_has_taken_all_that_was_sent_also_while_it_is_paused() {
    let lan = Lan::start();
    let probe = lan.switch.add_local("probe").unwrap();
    // The more there are to be sent to, the more time it takes.
    let _others: Vec<_> = (0..50)
        .map(|_| lan.switch.add_local("other").unwrap())
        .collect();
    lan.switch.pause().unwrap();
    for _ in 0..1000 {
        probe.send(&frame(ALL, A, b"")).unwrap();
    }
    lan.switch.resume().unwrap();
    lan.switch.settle().unwrap();
    assert_eq!(lan.counters("probe").frames_in, 1000);
    lan.switch.pause().unwrap();
    lan.switch.settle().unwrap();
}
