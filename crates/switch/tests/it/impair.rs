//! Impaired links and partitions, through real sockets.

use std::time::{Duration, Instant};

use hotbed_switch::{
    Config, End, Error, Impairment, Jitter, LinkCounters, Loss, PortId, Rate, Way,
};

use crate::support::{A, ALL, B, C, Lan, VdeClient, eventually, frame};

const MS: Duration = Duration::from_millis(1);

fn delay(delay: Duration) -> Impairment {
    Impairment {
        delay,
        ..Impairment::default()
    }
}

/// A frame that has its number twice, so that damage does not make another number of it.
fn numbered(number: u32) -> Vec<u8> {
    frame(B, A, &[number.to_be_bytes(); 2].concat())
}

fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().unwrap())
}

/// Two clients whose stations are known.
fn pair(lan: &Lan) -> (VdeClient, VdeClient) {
    let (a, b) = (lan.client("a"), lan.client("b"));
    b.send(&frame(A, B, b"hello"));
    assert_eq!(a.recv(), frame(A, B, b"hello"));
    (a, b)
}

fn link_counters(lan: &Lan) -> LinkCounters {
    let links = lan.switch.links();
    assert_eq!(links.len(), 1, "{links:?}");
    links[0].counters
}

#[test]
fn delayed_frames_come_late_and_in_order() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let way = Way::between("a", "b");
    lan.switch.impair(&way, &delay(50 * MS)).unwrap();
    let start = Instant::now();
    for number in 0..100 {
        a.send(&numbered(number));
    }
    for number in 0..100 {
        assert_eq!(b.recv(), numbered(number));
    }
    assert!(start.elapsed() >= 50 * MS);
    let counters = link_counters(&lan);
    assert_eq!((counters.frames, counters.waiting), (100, 0));
}

#[test]
fn an_impaired_link_delays_neither_its_other_direction_nor_other_links() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let c = lan.client("c");
    let way = Way::between("a", "b");
    lan.switch
        .impair(&way, &delay(Duration::from_secs(600)))
        .unwrap();
    a.send(&frame(ALL, A, b"late for b alone"));
    assert_eq!(c.recv(), frame(ALL, A, b"late for b alone"));
    for (from, to, target, source) in [(&b, &a, A, B), (&c, &b, B, C), (&a, &c, C, A)] {
        from.send(&frame(target, source, b"quick"));
        assert_eq!(to.recv(), frame(target, source, b"quick"));
    }
    assert_eq!(link_counters(&lan).waiting, 1);
}

#[test]
fn delays_of_a_port_and_of_a_link_add_up() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    for way in [
        Way::From(End::from("a")),
        Way::between("a", "b"),
        Way::Every,
    ] {
        lan.switch.impair(&way, &delay(20 * MS)).unwrap();
    }
    let start = Instant::now();
    a.send(&numbered(1));
    assert_eq!(b.recv(), numbered(1));
    assert!(start.elapsed() >= 60 * MS);
    let start = Instant::now();
    b.send(&frame(A, B, b"back"));
    a.recv();
    let took = start.elapsed();
    assert!(took >= 20 * MS, "`Every` is about each port");
}

/// Sends frames over a link that does everything at once; gives what arrives, and what was counted.
fn run(seed: u64, name: &str, order: [&str; 2]) -> (Vec<Vec<u8>>, LinkCounters) {
    let lan = Lan::start();
    let [first, second] = order.map(|name| lan.client(name));
    let (a, b) = if order[0] == "a" {
        (first, second)
    } else {
        (second, first)
    };
    b.send(&frame(A, B, b"hello"));
    a.recv();
    let all = Impairment {
        seed,
        loss: Loss::Bursts {
            to_bad: 0.1,
            to_good: 0.4,
            lost_in_good: 0.01,
            lost_in_bad: 0.8,
        },
        duplicate: 0.1,
        corrupt: 0.1,
        ..Impairment::default()
    };
    lan.switch.impair(&Way::between("a", name), &all).unwrap();
    for number in 0..300 {
        a.send(&numbered(number));
    }
    eventually("all to pass", || {
        let counters = link_counters(&lan);
        counters.frames == 300 && counters.waiting == 0
    });
    let counters = link_counters(&lan);
    let passed = counters.frames - counters.lost + counters.duplicated;
    let frames: Vec<_> = (0..passed).map(|_| b.recv()).collect();
    let port = lan.counters("b");
    assert_eq!(port.drops.impaired, counters.lost);
    (frames, counters)
}

#[test]
fn the_same_seed_and_frames_have_the_same_fate_whoever_connects_first() {
    let (frames, counters) = run(7, "b", ["a", "b"]);
    assert!(counters.lost > 10 && counters.duplicated > 10 && counters.corrupted > 10);
    assert_eq!(run(7, "b", ["b", "a"]), (frames.clone(), counters));
    assert_ne!(run(8, "b", ["a", "b"]).0, frames);
    // Frames keep their order, a copy comes behind its frame, and damage spares the addresses.
    assert!(frames.iter().all(|frame| frame[..12] == numbered(0)[..12]));
    let whole = frames
        .iter()
        .filter(|frame| number_of(frame) < 300 && **frame == numbered(number_of(frame)));
    assert!(whole.map(Vec::as_slice).map(number_of).is_sorted());
}

#[test]
fn a_port_that_comes_later_finds_its_impairment() {
    let lan = Lan::start();
    let down = Impairment {
        is_down: true,
        ..Impairment::default()
    };
    let way = Way::To(End::from("late"));
    lan.switch.impair(&way, &down).unwrap();
    assert_eq!(lan.switch.links(), []);
    let a = lan.client("a");
    for turn in 1..=2 {
        let late = lan.client("late");
        a.send(&frame(ALL, A, b"lost"));
        eventually("a loss", || lan.counters("late").drops.link_down == 1);
        late.send(&frame(ALL, B, b"up"));
        assert_eq!(a.recv(), frame(ALL, B, b"up"), "the other direction is up");
        drop(late);
        lan.await_ports(1);
        assert_eq!(lan.switch.totals().counters.drops.link_down, turn);
    }
    assert_eq!(lan.switch.links(), []);
}

#[test]
fn the_end_of_an_impairment_lets_frames_arrive_at_once_and_in_order() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let way = Way::between("a", "b");
    let hour = delay(Duration::from_secs(600));
    assert_eq!(lan.switch.impair(&way, &hour).unwrap(), None);
    for number in 0..50 {
        a.send(&numbered(number));
    }
    eventually("all to wait", || link_counters(&lan).waiting == 50);
    assert_eq!(lan.switch.unimpair(&way).unwrap(), Some(hour));
    a.send(&numbered(50));
    for number in 0..=50 {
        assert_eq!(b.recv(), numbered(number));
    }
    assert_eq!(lan.switch.links(), []);
}

#[test]
fn an_impairment_that_changes_keeps_what_is_under_way_in_order() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let way = Way::To(End::from("b"));
    lan.switch.impair(&way, &delay(80 * MS)).unwrap();
    a.send(&numbered(0));
    eventually("it to pass the link", || link_counters(&lan).frames == 1);
    let before = lan.switch.impair(&way, &Impairment::default()).unwrap();
    assert_eq!(before, Some(delay(80 * MS)));
    a.send(&numbered(1));
    assert_eq!(b.recv(), numbered(0));
    assert_eq!(b.recv(), numbered(1));
    assert_eq!(link_counters(&lan).frames, 1, "counted anew");
}

#[test]
fn a_rate_is_kept() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let rate = Rate {
        wait_max: Duration::from_secs(10),
        ..Rate::new(8_000_000) // A thousand bytes in a millisecond.
    };
    let config = Impairment {
        rate: Some(rate),
        ..Impairment::default()
    };
    lan.switch.impair(&Way::Every, &config).unwrap();
    let start = Instant::now();
    for number in 0..100 {
        let mut frame = numbered(number);
        frame.resize(1000, 0);
        a.send(&frame);
    }
    for number in 0..100 {
        assert_eq!(number_of(&b.recv()), number);
    }
    assert!(start.elapsed() >= 99 * MS);
}

#[test]
fn a_partition_parts_groups_until_it_is_healed() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let (c, d) = (lan.client("c"), lan.client("d"));
    lan.await_ports(4);
    let groups = [vec![End::from("a"), End::from("b")], vec![End::from("c")]];
    assert_eq!(lan.switch.partition(&groups).unwrap(), None);
    a.send(&frame(ALL, A, b"one side"));
    assert_eq!(b.recv(), frame(ALL, A, b"one side"));
    d.send(&frame(ALL, C, b"all others are one more group"));
    eventually("what was lost", || {
        lan.counters("c").drops.partitioned == 2 && lan.counters("a").drops.partitioned == 1
    });
    assert_eq!(lan.counters("d").drops.partitioned, 1);
    assert_eq!(lan.switch.heal().unwrap(), Some(groups.to_vec()));
    a.send(&frame(ALL, A, b"again"));
    for client in [&b, &c, &d] {
        assert_eq!(client.recv(), frame(ALL, A, b"again"), "nothing else came");
    }
}

#[test]
fn a_partition_also_stops_what_is_under_way() {
    let lan = Lan::start();
    let (a, b) = pair(&lan);
    let minutes = delay(Duration::from_secs(600));
    lan.switch.impair(&Way::Every, &minutes).unwrap();
    a.send(&numbered(0));
    eventually("it to wait", || {
        let links = lan.switch.links();
        links.iter().any(|link| link.counters.waiting == 1)
    });
    lan.switch.partition(&[vec![End::from("a")]]).unwrap();
    lan.switch.unimpair_all().unwrap();
    eventually("it to be lost", || lan.counters("b").drops.partitioned == 1);
    lan.switch.heal().unwrap();
    a.send(&numbered(1));
    assert_eq!(b.recv(), numbered(1));
}

#[test]
fn a_full_switch_of_delayed_frames_loses_new_ones_and_says_so() {
    let lan = Lan::with(Config {
        delayed_frames_max: 10,
        ..Config::default()
    });
    let (a, b) = pair(&lan);
    let jitter = Jitter {
        spread: 5 * MS,
        ..Jitter::default()
    };
    let config = Impairment {
        jitter,
        ..delay(Duration::from_secs(500))
    };
    lan.switch.impair(&Way::Every, &config).unwrap();
    for number in 0..15 {
        a.send(&numbered(number));
    }
    eventually("the rest to be lost", || {
        lan.counters("b").drops.link_full == 5
    });
    lan.switch.unimpair_all().unwrap();
    for number in 0..10 {
        assert_eq!(b.recv(), numbered(number));
    }
    a.send(&numbered(99));
    assert_eq!(b.recv(), numbered(99));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let lan = Lan::start();
    let bad = Impairment {
        duplicate: 2.0,
        ..Impairment::default()
    };
    let refused = lan.switch.impair(&Way::Every, &bad);
    assert!(matches!(refused, Err(Error::Impairment { .. })));
    let gone = End::Port(PortId::new(9, 0));
    let refused = lan.switch.partition(&[vec![gone.clone()]]);
    assert!(matches!(refused, Err(Error::NoPort(_))));
    let refused = lan.switch.impair(&Way::From(gone), &delay(MS));
    assert!(matches!(refused, Err(Error::NoPort(_))));
    assert_eq!(lan.switch.heal().unwrap(), None);
}
