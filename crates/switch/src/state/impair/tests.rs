use std::time::Instant;

use proptest::prelude::*;

use super::fate::{Fate, Impairer, LossCause, Passage};
use super::*;

const MS: Duration = Duration::from_millis(1);

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn link(config: Impairment) -> Impairer {
    Impairer::new(&config, 7).unwrap()
}

/// What becomes of so many frames of 100 bytes, one in a millisecond: times since the start.
fn fates(config: Impairment, count: u32) -> Vec<Fate> {
    let (mut link, start) = (link(config), epoch());
    (0..count)
        .map(|number| {
            let fate = link.handle_frame(start + MS * number, 100);
            leave(&mut link, fate, 100);
            fate
        })
        .collect()
}

/// Lets a frame leave at once.
fn leave(link: &mut Impairer, fate: Fate, len: usize) {
    if let Fate::Passes(Passage { due, copy, .. }) = fate {
        for _ in due.iter().chain(&copy) {
            link.handle_left(len);
        }
    }
}

fn lost(fates: &[Fate]) -> Vec<bool> {
    let is_lost = |fate: &Fate| *fate == Fate::Lost(LossCause::Chance);
    fates.iter().map(is_lost).collect()
}

fn due(fate: Fate) -> Option<Instant> {
    match fate {
        Fate::Passes(passage) => passage.due,
        Fate::Lost(cause) => panic!("lost: {cause:?}"),
    }
}

fn share(of: &[bool]) -> f64 {
    of.iter().filter(|is| **is).count() as f64 / of.len() as f64
}

fn uniform(chance: f64) -> Impairment {
    Impairment {
        loss: Loss::Uniform(chance),
        ..Impairment::default()
    }
}

#[test]
fn a_link_that_does_nothing_lets_all_pass_at_once() {
    let passes = Fate::Passes(Passage {
        due: None,
        copy: None,
        flip: None,
    });
    assert_eq!(fates(Impairment::default(), 100), vec![passes; 100]);
}

#[test]
fn the_fates_of_a_seed_are_these_for_ever() {
    // A change here is a change of every test that somebody repeats by its seed.
    let lost = lost(&fates(uniform(0.3), 32));
    let pattern: String = lost.iter().map(|is| if *is { 'x' } else { '.' }).collect();
    assert_eq!(pattern, "..x.xx..xxx.x.x.xx.x.....xx...x.");
}

#[test]
fn the_same_seed_has_the_same_fates_whatever_the_time_and_another_has_others() {
    let config = Impairment {
        duplicate: 0.1,
        corrupt: 0.1,
        reorder: 0.1,
        delay: 20 * MS,
        jitter: Jitter {
            spread: 10 * MS,
            distribution: Distribution::Normal,
        },
        ..uniform(0.1)
    };
    let run = |seed, pause: Duration| {
        let mut link = link(Impairment {
            seed,
            ..config.clone()
        });
        let start = epoch();
        let mut told = Vec::new();
        for number in 0..500 {
            // So long between frames that none waits for another.
            let now = start + Duration::from_secs(1) * number + pause * number;
            let fate = link.handle_frame(now, 100);
            leave(&mut link, fate, 100);
            told.push(match fate {
                Fate::Lost(_) => None,
                Fate::Passes(Passage { due, copy, flip }) => {
                    Some((due.map(|due| due - now), copy.map(|due| due - now), flip))
                }
            });
        }
        told
    };
    assert_eq!(run(1, MS), run(1, 7 * MS));
    assert_ne!(run(1, MS), run(2, MS));
}

#[test]
fn links_of_one_seed_do_not_share_their_fates() {
    let start = epoch();
    let run = |stream| {
        let mut link = Impairer::new(&uniform(0.5), stream).unwrap();
        let fates: Vec<_> = (0..64).map(|_| link.handle_frame(start, 100)).collect();
        fates
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn chances_are_what_was_asked_for() {
    for chance in [0.0, 0.01, 0.25, 1.0] {
        let config = Impairment {
            duplicate: chance,
            corrupt: chance,
            reorder: chance,
            ..Impairment::default()
        };
        let fates = fates(config, 20_000);
        let passages: Vec<_> = fates
            .iter()
            .map(|fate| match fate {
                Fate::Passes(passage) => *passage,
                Fate::Lost(cause) => panic!("lost: {cause:?}"),
            })
            .collect();
        let copied: Vec<_> = passages.iter().map(|one| one.copy.is_some()).collect();
        let damaged: Vec<_> = passages.iter().map(|one| one.flip.is_some()).collect();
        for share in [
            share(&copied),
            share(&damaged),
            share(&lost(&self::fates(uniform(chance), 20_000))),
        ] {
            assert!((share - chance).abs() < 0.01, "{share} for {chance}");
        }
        assert!(
            passages
                .iter()
                .all(|one| one.flip.is_none_or(|bit| (14 * 8..800).contains(&bit)))
        );
    }
}

#[test]
fn bursts_lose_as_much_and_as_long_as_their_chances_say() {
    let config = Impairment {
        loss: Loss::Bursts {
            to_bad: 0.01,
            to_good: 0.2,
            lost_in_good: 0.0,
            lost_in_bad: 1.0,
        },
        ..Impairment::default()
    };
    let lost = lost(&fates(config, 100_000));
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let mean = lost.iter().filter(|is| **is).count() as f64 / bursts as f64;
    assert!(
        (share(&lost) - 0.01 / 0.21).abs() < 0.01,
        "{}",
        share(&lost)
    );
    assert!((mean - 5.0).abs() < 0.5, "bursts of {mean} frames");
}

#[test]
fn jitter_has_the_distribution_that_was_asked_for() {
    let delays = |distribution| -> Vec<f64> {
        let (delay, spread) = (100 * MS, 10 * MS);
        let jitter = Jitter {
            spread,
            distribution,
        };
        let config = Impairment {
            delay,
            jitter,
            ..Impairment::default()
        };
        let (mut link, start) = (link(config), epoch());
        let delay = |number: u32| {
            let now = start + Duration::from_secs(100) * number; // Longer than any jitter.
            let fate = link.handle_frame(now, 100);
            leave(&mut link, fate, 100);
            due(fate).map_or(0.0, |due| (due - now).as_secs_f64() * 1e3)
        };
        (0..20_000).map(delay).collect()
    };
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let uniform = delays(Distribution::Uniform);
    assert!(uniform.iter().all(|one| (90.0..=110.0).contains(one)));
    assert!((mean(&uniform) - 100.0).abs() < 0.2);
    assert!(uniform.iter().any(|one| *one < 90.1) && uniform.iter().any(|one| *one > 109.9));
    let normal = delays(Distribution::Normal);
    let square = |one: &f64| (one - 100.0).powi(2);
    let variance = mean(&normal.iter().map(square).collect::<Vec<_>>());
    assert!((mean(&normal) - 100.0).abs() < 0.3 && (variance.sqrt() - 10.0).abs() < 0.3);
    let pareto = delays(Distribution::Pareto);
    assert!(pareto.iter().all(|one| *one >= 100.0));
    assert!((mean(&pareto) - 110.0).abs() < 0.5, "{}", mean(&pareto));
    let late = pareto.iter().filter(|one| **one >= 165.0).count();
    assert!(
        (100..=300).contains(&late),
        "{late} of 20,000 are far behind"
    );
}

#[test]
fn jitter_does_not_change_the_order_and_reordering_does() {
    let jitter = Jitter {
        spread: 10 * MS,
        ..Jitter::default()
    };
    let config = Impairment {
        delay: 10 * MS,
        jitter,
        ..Impairment::default()
    };
    let times = |config| -> Vec<_> {
        let (mut link, start) = (link(config), epoch());
        (0..1000)
            .map(|number| due(link.handle_frame(start + MS * number, 100)))
            .collect()
    };
    assert!(times(config.clone()).is_sorted());
    let reorder = Impairment {
        reorder: 0.1,
        reorder_by: 30 * MS,
        ..config
    };
    let times = times(reorder);
    let overtaken = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((50..150).contains(&overtaken), "{overtaken} of 1,000");
}

#[test]
fn frames_behind_one_that_waits_wait_too() {
    let mut link = link(Impairment {
        delay: MS,
        ..Impairment::default()
    });
    let start = epoch();
    assert_eq!(due(link.handle_frame(start, 100)), Some(start + MS));
    let config = Impairment::default();
    let mut after = Impairer::new(&config, 7).unwrap();
    after.take_over(&link);
    assert_eq!(due(after.handle_frame(start, 100)), Some(start + MS));
    assert_eq!(after.counters().waiting, 2);
    after.handle_left(100);
    // Due, but the thread did not come to it yet.
    assert!(due(after.handle_frame(start + 2 * MS, 100)).is_some());
    after.handle_left(100);
    after.handle_left(100);
    assert_eq!(due(after.handle_frame(start + 3 * MS, 100)), None);
}

#[test]
fn a_rate_lets_its_burst_through_and_spaces_what_follows() {
    let rate = Rate {
        bits_per_second: 800_000, // 100 bytes in a millisecond.
        burst_bytes: 300,
        wait_max: 5 * MS,
    };
    let config = Impairment {
        rate: Some(rate),
        ..Impairment::default()
    };
    let (mut link, start) = (link(config), epoch());
    for _ in 0..3 {
        assert_eq!(due(link.handle_frame(start, 100)), None, "the burst");
    }
    for turn in 1..=6 {
        assert_eq!(due(link.handle_frame(start, 100)), Some(start + turn * MS));
    }
    assert_eq!(
        link.handle_frame(start, 100),
        Fate::Lost(LossCause::QueueFull),
        "it would have to wait for more than 5 ms"
    );
    for _ in 0..6 {
        link.handle_left(100);
    }
    let later = start + 9 * MS;
    assert_eq!(due(link.handle_frame(later, 300)), None, "full again");
    assert_eq!(due(link.handle_frame(later, 100)), Some(later + MS));
    assert_eq!(link.counters().queue_full, 1);
}

#[test]
fn a_frame_larger_than_the_bucket_takes_its_time() {
    let config = Impairment {
        rate: Some(Rate::new(8_000)), // A byte in a millisecond.
        ..Impairment::default()
    };
    let (mut link, start) = (link(config), epoch());
    let second = Duration::from_secs(1);
    assert_eq!(due(link.handle_frame(start, 1000)), Some(start + second));
}

#[test]
fn a_link_that_is_down_takes_nothing_and_a_full_one_no_more() {
    let down = Impairment {
        is_down: true,
        ..Impairment::default()
    };
    assert_eq!(fates(down, 5), vec![Fate::Lost(LossCause::Down); 5]);
    let mut link = link(Impairment {
        delay: MS,
        queue_frames_max: 3,
        queue_bytes_max: 250,
        ..Impairment::default()
    });
    let (start, full) = (epoch(), Fate::Lost(LossCause::QueueFull));
    for len in [100, 100] {
        assert!(due(link.handle_frame(start, len)).is_some());
    }
    assert_eq!(link.handle_frame(start, 100), full, "250 bytes");
    assert!(due(link.handle_frame(start, 20)).is_some());
    assert_eq!(link.handle_frame(start, 20), full, "3 frames");
    assert_eq!(
        (link.counters().waiting, link.counters().queue_full),
        (3, 2)
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |config: Impairment| config.check().unwrap_err();
    let default = Impairment::default;
    assert_eq!(refused(uniform(1.1)), BadImpairment::Chance("loss"));
    assert_eq!(refused(uniform(f64::NAN)), BadImpairment::Chance("loss"));
    let corrupt = -0.1;
    assert_eq!(
        refused(Impairment {
            corrupt,
            ..default()
        }),
        BadImpairment::Chance("corrupt")
    );
    let delay = DELAY_MAX + MS;
    assert_eq!(
        refused(Impairment { delay, ..default() }),
        BadImpairment::Time("delay")
    );
    let rate = Some(Rate::new(0));
    assert_eq!(
        refused(Impairment { rate, ..default() }),
        BadImpairment::NoRate
    );
}

proptest! {
    #[test]
    fn no_impairment_panics_and_frames_of_a_link_keep_their_order(
        seed in any::<u64>(),
        chances in any::<[u8; 6]>(),
        times in (0..=600_000_u64, 0..=600_000_u64, 1..u64::MAX, 0..=u32::MAX),
        kind in 0..3_usize,
        frames in proptest::collection::vec((0..100_000_000_u64, 0..70_000_usize), 0..100),
    ) {
        let [loss, duplicate, corrupt, to_bad, to_good, lost_in_bad] =
            chances.map(|chance| f64::from(chance) / 255.0);
        let distributions = [Distribution::Uniform, Distribution::Normal, Distribution::Pareto];
        let config = Impairment {
            seed,
            loss: Loss::Bursts { to_bad, to_good, lost_in_good: loss / 4.0, lost_in_bad },
            duplicate,
            corrupt,
            delay: Duration::from_millis(times.0),
            jitter: Jitter { spread: Duration::from_millis(times.1), distribution: distributions[kind] },
            rate: Some(Rate { burst_bytes: times.3, ..Rate::new(times.2) }),
            ..Impairment::default()
        };
        let (mut link, mut now, mut last) = (link(config), epoch(), None);
        for (nanos, len) in frames {
            now += Duration::from_nanos(nanos);
            if let Fate::Passes(Passage { due, copy, flip }) = link.handle_frame(now, len) {
                for due in due.into_iter().chain(copy) {
                    prop_assert!(due >= now && Some(due) >= last);
                    last = Some(due);
                }
                prop_assert!(flip.is_none_or(|bit| bit / 8 < len && bit >= 14 * 8));
            }
        }
    }
}
