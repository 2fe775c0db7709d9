use std::time::Duration;

use super::guest::Stamps;
use super::{Boot, Report, Series, Span, Start, starting};
use crate::TestConfig;
use crate::call::now;
use crate::config::{Hot, MachineKind};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn boot(lengths: [u64; 3]) -> Boot {
    let begin = now();
    let mut end = begin;
    let ends = ["prepare", "spawn", "firm<ware"]
        .into_iter()
        .zip(lengths)
        .map(|(name, length)| {
            end += ms(length);
            (name, end)
        });
    Boot::between(begin, ends, ms(7))
}

fn report() -> Report {
    let series = Series {
        machine: "a&b".to_owned(),
        start: Start::Cold,
        boots: vec![boot([1, 50, 300]), boot([2, 40, 900]), boot([3, 60, 100])],
    };
    Report {
        accelerator: "TCG \"<&>\" \u{1}".to_owned(),
        series: vec![series],
    }
}

#[test]
fn phases_follow_one_another_and_never_take_less_than_no_time() {
    let begin = now();
    let ends = [
        ("spawn", begin + ms(50)),
        ("firmware", begin + ms(45)),
        ("kernel", begin + ms(80)),
    ];
    let boot = Boot::between(begin, ends, ms(1));
    let lengths: Vec<Duration> = boot.phases.iter().map(|phase| phase.length).collect();
    assert_eq!(lengths, [ms(50), ms(0), ms(30)]);
    assert_eq!(boot.total(), ms(80));
}

#[test]
fn marks_of_a_guest_are_found_in_what_it_says() {
    let dmesg = "[    0.000000] Linux version 6.12\n\
                 [    1.500000] Run /init as init process\n\
                 [    9.000000] hotbed: the time is 8.00\n\
                 [   10.250000] hotbed: the time is 10.20\n";
    let systemd = "UserspaceTimestampMonotonic=4000000\n";
    let seconds = Duration::from_secs_f64;
    let expected = Stamps {
        mark: seconds(10.25),
        init: seconds(1.5),
        // The log's clock is 50 ms ahead of the uptime.
        systemd: Some(seconds(4.05)),
    };
    assert_eq!(Stamps::parse(dmesg, systemd), Some(expected));
    assert_eq!(
        Stamps::parse(dmesg, "").map(|stamps| stamps.systemd),
        Some(None)
    );
    assert_eq!(Stamps::parse("", systemd), None);
    let garbage = "[ nan] Run /init as init process\n[ -1] hotbed: the time is inf\n";
    assert_eq!(Stamps::parse(garbage, systemd), None);
}

#[test]
fn a_span_has_the_middle_and_both_ends() {
    let span = Span::of([ms(3), ms(1), ms(2)]);
    let expected = Span {
        median: ms(2),
        min: ms(1),
        max: ms(3),
    };
    assert_eq!(span, Some(expected));
    assert_eq!(Span::of([]), None);
}

#[test]
fn json_has_each_start_and_a_summary() {
    let json = report().to_json();
    assert_eq!(json["version"], 1);
    let series = &json["series"][0];
    assert_eq!(
        (&series["machine"], &series["start"]),
        (&"a&b".into(), &"cold".into())
    );
    assert_eq!(series["boots"].as_array().map(Vec::len), Some(3));
    let phase = &series["boots"][1]["phases"][2];
    let expected = serde_json::json!({ "name": "firm<ware", "begin_ms": 42.0, "length_ms": 900.0 });
    assert_eq!(*phase, expected);
    assert_eq!(series["boots"][0]["total_ms"], 351.0);
    let summary = &series["summary"];
    let spawn =
        serde_json::json!({ "name": "spawn", "median_ms": 50.0, "min_ms": 40.0, "max_ms": 60.0 });
    assert_eq!(summary["phases"][1], spawn);
    assert_eq!(summary["total"]["max_ms"], 942.0);
    assert_eq!(summary["cpu"]["median_ms"], 7.0);
}

#[test]
fn the_chart_has_a_bar_for_each_phase_and_no_markup_of_others() {
    let svg = report().to_svg();
    // Nine phases, the legend's three and the ground.
    assert_eq!(svg.matches("<rect ").count(), 13, "{svg}");
    assert!(svg.contains("<title>firm&lt;ware 900 ms</title>"), "{svg}");
    assert!(svg.contains("a&amp;b, cold: 351 ms"), "{svg}");
    assert!(svg.contains("&lt;&amp;&gt;\" ?"), "{svg}");
    let nothing = Report {
        series: Vec::new(),
        ..report()
    };
    assert!(nothing.to_svg().ends_with("</svg>\n"));
}

#[test]
fn all_machines_start_as_it_is_wanted() {
    let head = "# /// hotbed\n# [machines.a]\n# image = \"debian\"\n# hot = \"unit:x.service\"\n# [machines.b]\n# hot = false\n# ///\n";
    let config = TestConfig::from_python_file("t.py".as_ref(), head).expect("a head");
    let hot = |start| {
        let machines = starting(config.clone(), start).machines;
        let hot = machines.into_iter().map(|machine| match machine.kind {
            MachineKind::Image(image) => image.hot,
            MachineKind::StartScript(_) => None,
        });
        hot.collect::<Vec<_>>()
    };
    assert_eq!(hot(Start::Cold), [Some(Hot::Never), Some(Hot::Never)]);
    let unit = Hot::Unit("x.service".to_owned());
    assert_eq!(hot(Start::Hot), [Some(unit), Some(Hot::Booted)]);
}
