use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::PortId;
use crate::state::impair::fate::Impairer;
use crate::state::impair::{Distribution, Jitter, Loss, Rate};
use crate::state::queue::Overflow;
use crate::state::rules::{End, PortSettings};
use crate::state::tags::{Segments, Tags};

fn durations() -> impl Strategy<Value = Duration> {
    (0..=600_000_000_000_u64).prop_map(Duration::from_nanos)
}

fn ends() -> impl Strategy<Value = End> {
    "[a-z]{0,6}".prop_map(End::Named)
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        ends().prop_map(Way::From),
        ends().prop_map(Way::To),
        (ends(), ends()).prop_map(|(from, to)| Way::Between { from, to }),
        Just(Way::Every),
    ]
}

prop_compose! {
    fn impairments()(
        seed in any::<u64>(),
        is_down in any::<bool>(),
        loss in prop_oneof![
            (0.0..=1.0).prop_map(Loss::Uniform),
            (0.0..=1.0).prop_map(|chance| Loss::Bursts {
                to_bad: chance, to_good: 0.1, lost_in_good: 0.0, lost_in_bad: 1.0 - chance,
            }),
        ],
        [duplicate, corrupt, reorder] in [0.0..=1.0, 0.0..=1.0, 0.0..=1.0],
        (delay, spread, reorder_by) in (durations(), durations(), durations()),
        distribution in prop_oneof![Just(Distribution::Normal), Just(Distribution::Pareto)],
        rate in prop::option::of((1..u64::MAX).prop_map(Rate::new)),
    ) -> Impairment {
        Impairment {
            seed, is_down, loss, duplicate, corrupt, reorder, reorder_by, delay, rate,
            jitter: Jitter { spread, distribution },
            ..Impairment::default()
        }
    }
}

fn tags() -> impl Strategy<Value = Tags> {
    prop_oneof![
        Just(Tags::Transparent),
        (1..=4094_u16).prop_map(Tags::Access),
        (vec(1..=4094_u16, 0..9), prop::option::of(1..=4094_u16)).prop_map(|(numbers, native)| {
            Tags::Trunk {
                segments: Segments::of(&numbers).unwrap(),
                native,
            }
        }),
    ]
}

prop_compose! {
    fn rules()(
        impaired in vec((ways(), impairments()), 0..5),
        groups in prop::option::of(vec(vec(ends(), 0..3), 0..3)),
        settings in vec((ends(), tags(), any::<u16>()), 0..4),
    ) -> Rules {
        let mut rules = Rules::default();
        for (way, impairment) in impaired {
            rules.impair(way, Some(impairment)).unwrap();
        }
        rules.partition(groups);
        for (end, tags, mtu) in settings {
            let overflow = Overflow::DropOldest;
            rules.set_port(end, Some(PortSettings { mtu: mtu.into(), tags, overflow })).unwrap();
        }
        rules
    }
}

fn links() -> impl Strategy<Value = Link> {
    let end = || prop::option::of("[a-z]{1,6}");
    [end(), end()]
}

/// A link that some frames have passed.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
fn used(impairment: &Impairment, lens: &[usize]) -> Progress {
    let mut impairer = Impairer::new(impairment, 1).unwrap();
    let now = Instant::now();
    for len in lens {
        impairer.handle_frame(now, *len);
    }
    impairer.progress(now)
}

prop_compose! {
    fn states()(
        stations in vec(("[a-z]{1,6}", any::<u16>(), any::<[u8; 6]>(), durations()), 0..5),
        queued in vec(("[a-z]{1,6}", vec(any::<u8>(), 0..=HEADER_LEN), vec(any::<u8>(), 0..80)), 0..5),
        under_way in vec((durations(), 0..4_usize, ["[a-z]{1,6}", "[a-z]{1,6}"], links(), vec(any::<u8>(), 0..80)), 0..5),
        links in vec((links(), impairments(), vec(0..2000_usize, 0..20)), 0..4),
        rules in rules(),
    ) -> Frozen {
        let stages = [Stage::Decide, Stage::Enter, Stage::Leave, Stage::Out];
        Frozen {
            stations: stations.into_iter().map(|(port, segment, address, silent_for)| Heard {
                port, segment, address: MacAddr(address), silent_for,
            }).collect(),
            queued: queued.into_iter().map(|(port, header, frame)| Queued { port, header, frame }).collect(),
            under_way: under_way.into_iter().map(|(left, stage, [ingress, egress], link, frame)| UnderWay {
                left, stage: stages[stage], ingress, egress, segment: 7, link, frame,
            }).collect(),
            links: links.into_iter().map(|(link, impairment, lens)| (link, used(&impairment, &lens))).collect(),
            rules,
        }
    }
}

proptest! {
    #[test]
    fn a_state_is_the_same_after_its_way_through_bytes(frozen in states()) {
        let bytes = frozen.to_bytes().unwrap();
        prop_assert_eq!(Frozen::from_bytes(&bytes).unwrap(), frozen);
        fuzz(&bytes);
    }

    #[test]
    fn bytes_that_are_cut_or_changed_are_refused_or_are_another_state(
        frozen in states(), cut in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = frozen.to_bytes().unwrap();
        let cut = cut.index(bytes.len());
        prop_assert!(Frozen::from_bytes(&bytes[..cut]).is_err());
        bytes[cut] = byte;
        fuzz(&bytes);
    }

    #[test]
    fn any_bytes_are_stood(bytes in vec(any::<u8>(), 0..300)) {
        fuzz(&bytes);
    }
}

#[test]
fn another_version_and_what_follows_a_state_are_refused() {
    let mut bytes = Frozen::default().to_bytes().unwrap();
    bytes.push(0);
    assert!(matches!(
        Frozen::from_bytes(&bytes),
        Err(BadState::Damaged(_))
    ));
    bytes[7] += 1;
    assert_eq!(Frozen::from_bytes(&bytes), Err(BadState::Version));
}

#[test]
fn rules_for_a_port_by_its_number_stay_behind() {
    let mut rules = Rules::default();
    let port = End::Port(PortId::new(1, 1));
    let impairment = || Some(Impairment::default());
    rules.impair(Way::To(port.clone()), impairment()).unwrap();
    rules.impair(Way::Every, impairment()).unwrap();
    rules
        .set_port(port.clone(), Some(PortSettings::default()))
        .unwrap();
    rules.partition(Some(vec![vec![port, End::from("a")]]));
    let frozen = Frozen {
        rules,
        ..Frozen::default()
    };
    let mut there = Frozen::from_bytes(&frozen.to_bytes().unwrap()).unwrap();
    let ways: Vec<_> = there.impairments().map(|(way, _)| way.clone()).collect();
    assert_eq!(ways, [Way::Every]);
    assert_eq!(
        there.rules.partition(None),
        Some(vec![vec![End::from("a")]])
    );
}

#[test]
fn what_no_switch_holds_is_refused() {
    let under_way = |left, len| UnderWay {
        left,
        stage: Stage::Out,
        ingress: "a".to_owned(),
        egress: "b".to_owned(),
        segment: 0,
        link: [None, None],
        frame: vec![0; len],
    };
    let holding = |under_way| Frozen {
        under_way: vec![under_way],
        ..Frozen::default()
    };
    let refused = |frozen: Frozen| {
        let read = Frozen::from_bytes(&frozen.to_bytes().unwrap());
        matches!(read, Err(BadState::Impossible(_)))
    };
    assert!(!refused(holding(under_way(AHEAD_MAX, FRAME_MAX))));
    assert!(refused(holding(under_way(AHEAD_MAX, FRAME_MAX + 1))));
    assert!(refused(holding(under_way(AHEAD_MAX * 2, 60))));
    let mut rules = Rules::default();
    let never = Impairment {
        loss: Loss::Uniform(f64::NAN),
        ..Impairment::default()
    };
    rules.impair(Way::Every, Some(never)).unwrap();
    assert!(refused(Frozen {
        rules,
        ..Frozen::default()
    }));
}
