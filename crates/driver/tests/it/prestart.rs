//! QEMUs that are there before they are needed. Real guests.

use crate::guest::one_at_a_time;
use crate::hot::{Cache, ask};
use crate::support::{Bed, call};

const HEAD: &str = "[machines.m]\n[machines.z]";

/// The QEMUs of a testbed, by process id.
fn qemus(bed: &Bed) -> Vec<u32> {
    let mark = format!("HOTBED_TESTBED={}\0", bed.testbed.directory().display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let text = |name| String::from_utf8_lossy(&read(name)).into_owned();
        if text("environ").contains(&mark) && text("cmdline").contains("-incoming") {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>());
        }
    }
    found
}

#[test]
fn a_qemu_that_was_started_before_is_the_machines_when_it_starts() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed(HEAD);
    assert!(!bed.m().prestart(&call()).unwrap(), "there is no snapshot");
    bed.m().connect(&call()).unwrap();
    let console = bed.m().get_console_log().unwrap();
    drop(bed);

    let bed = cache.bed(HEAD);
    assert!(bed.m().prestart(&call()).unwrap());
    let [spare] = qemus(&bed)[..] else {
        panic!("one QEMU waits: {:?}", qemus(&bed))
    };
    assert!(!bed.m().is_booted());
    assert_eq!(bed.m().get_console_log().unwrap(), "");
    bed.m().start(false, &call()).unwrap();
    assert_eq!(bed.m().pid(), Some(spare), "another QEMU was started");
    assert!(
        bed.log().contains("m: restored from a snapshot"),
        "{}",
        bed.log()
    );
    assert_eq!(ask(bed.m(), "hostname"), "m");
    let again = bed.m().get_console_log().unwrap();
    assert!(again.starts_with(&console[..1000]), "{again}");
    assert!(!bed.m().prestart(&call()).unwrap(), "it runs");

    // One that waits for something else goes.
    bed.m().crash(&call()).unwrap();
    assert!(bed.m().prestart(&call()).unwrap());
    let waiting = qemus(&bed);
    bed.m().start(true, &call()).unwrap();
    assert_eq!(waiting.len(), 1);
    assert!(!qemus(&bed).contains(&waiting[0]));
}

#[test]
fn a_qemu_that_nobody_needs_ends_with_the_testbed() {
    let _turn = one_at_a_time();
    let cache = Cache::new();
    let bed = cache.bed(HEAD);
    bed.m().connect(&call()).unwrap();
    bed.m().crash(&call()).unwrap();
    assert!(bed.m().prestart(&call()).unwrap());
    assert_eq!(qemus(&bed).len(), 1);
    // In the background: it may be anywhere when the testbed ends.
    bed.testbed.prestart();
    bed.testbed.stop();
    assert_eq!(qemus(&bed), Vec::<u32>::new());
}
