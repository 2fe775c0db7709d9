//! `hotbed bench boot`, with a real machine.

use crate::support::{Ended, ONE_MACHINE, PATIENCE, Place};

/// Cold, for the snapshot, and from it.
const STARTS: u32 = 3;

#[test]
fn a_cold_start_and_a_hot_one_are_measured_phase_by_phase() {
    let place = Place::new();
    place.write("m.py", ONE_MACHINE);
    let arguments = "bench boot m.py --runs 1 --json boots.json --svg boots.svg";
    let mut command = place.command(&arguments.split(' ').collect::<Vec<_>>());
    let ended = Ended::within(STARTS * PATIENCE, &mut command);
    ended.expect(0, &["written: boots.json", "written: boots.svg"]);
    for words in [
        "alice, cold: 1 start, ",
        "alice, hot: 1 start, ",
        "first answer ",
    ] {
        assert!(ended.stdout.contains(words), "{words:?} in {ended}");
    }
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
    // Python reads both: it has parsers of its own.
    let check = format!(
        "{ONE_MACHINE}import json\n\
         import xml.etree.ElementTree as xml\n\
         report = json.load(open('boots.json'))\n\
         assert report['version'] == 1 and report['accelerator'], report\n\
         cold, hot = report['series']\n\
         assert (cold['machine'], cold['start']) == ('alice', 'cold'), cold\n\
         assert (hot['machine'], hot['start']) == ('alice', 'hot'), hot\n\
         names = lambda series: [phase['name'] for phase in series['boots'][0]['phases']]\n\
         assert names(cold) == 'prepare spawn firmware kernel userspace answer'.split(), cold\n\
         assert names(hot) == 'prepare spawn restore settle answer'.split(), hot\n\
         for series in report['series']:\n    \
             [boot] = series['boots']\n    \
             lengths = [phase['length_ms'] for phase in boot['phases']]\n    \
             assert abs(sum(lengths) - boot['total_ms']) < 0.1, boot\n    \
             assert all(length >= 0 for length in lengths) and boot['total_ms'] > 0, boot\n    \
             assert boot['cpu_ms'] > 0, boot\n    \
             assert series['summary']['total']['median_ms'] == boot['total_ms'], series\n\
         svg = '{{http://www.w3.org/2000/svg}}'\n\
         chart = xml.parse('boots.svg').getroot()\n\
         assert chart.tag == svg + 'svg', chart.tag\n\
         assert len(chart.findall(svg + 'rect/' + svg + 'title')) == 11, 'a bar for each phase'\n"
    );
    place.write("check.py", &check);
    place.run(&["run", "check.py"]).expect(0, &["passed in"]);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let place = Place::new();
    let ended = place.run(&["bench", "boot", "none.py"]);
    ended.expect(2, &["cannot read none.py"]);
    place.write("bad.py", "# /// hotbed\n# [machines.alice\n# ///\n");
    place
        .run(&["bench", "boot", "bad.py"])
        .expect(2, &["bad.py"]);
    let ended = place.run(&["bench", "boot", "--runs", "0"]);
    ended.expect(2, &["--runs"]);
}
