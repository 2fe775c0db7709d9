//! Nothing that a testbed started is left: not after its end, not after a `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Bed, call, eventually, example, fake_config, timed};

/// Processes that a testbed in `directory` has started.
fn started_in(directory: &Path) -> Vec<String> {
    let mark = format!("HOTBED_TESTBED={}", directory.display());
    let marked = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    processes
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(marked)
        .collect()
}

#[test]
fn nothing_is_left_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Command::new(example("killed"))
        .arg(directory.path())
        .arg(example("fake_qemu"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(driver.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let testbed = Path::new(line.trim());
    assert!(testbed.join("vde1.ctl/ctl").exists(), "{line}");
    // Three machines, the shells of two, `sleep` in one of them, two children.
    assert!(
        eventually(Duration::from_secs(5), || started_in(testbed).len() >= 7),
        "{:?}",
        started_in(testbed)
    );
    driver.kill().unwrap();
    driver.wait().unwrap();
    let gone = || started_in(testbed).is_empty() && !testbed.exists();
    assert!(
        eventually(Duration::from_secs(1), gone),
        "left: {:?}, {}",
        started_in(testbed),
        testbed.exists()
    );
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| name.to_string_lossy().ends_with(".console.log")),
        "{left:?}"
    );
}

#[test]
fn stop_ends_everything_in_under_a_second() {
    let bed = Bed::new(fake_config(&[
        ("a", "children"),
        ("b", "silent"),
        ("c", "guest"),
        ("d", "guest"),
    ]));
    bed.testbed.start_all(&call()).unwrap();
    bed.testbed.machines()[0].connect(&call()).unwrap();
    let testbed = bed.testbed.directory().to_owned();
    assert!(started_in(&testbed).len() >= 6);
    let ((), time) = timed(|| bed.testbed.stop());
    time.at_most(Duration::from_secs(1));
    assert_eq!(started_in(&testbed), [""; 0]);
    assert!(!testbed.exists());
    let log = bed.log();
    for line in [
        "cleanup",
        "kill QemuMachine (pid ",
        "kill vlan (pid ",
        "(finished: cleanup, in 0.",
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
}

#[test]
fn children_end_with_their_machine() {
    let bed = Bed::fake("children");
    bed.m().connect(&call()).unwrap();
    let testbed = bed.testbed.directory().to_owned();
    bed.m().crash(&call()).unwrap();
    // The one in a session of its own stays until the end of the testbed.
    assert!(
        eventually(Duration::from_secs(1), || started_in(&testbed).len() == 1),
        "{:?}",
        started_in(&testbed)
    );
}

#[test]
fn state_is_kept_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let options = hotbed_driver::Options {
        keep_state: true,
        out_dir: Some(directory.path().to_owned()),
        temporary_root: Some(directory.path().to_owned()),
        ..hotbed_driver::Options::default()
    };
    let log = std::sync::Arc::new(hotbed_driver::Log::to(Box::new(std::io::sink()), false));
    let testbed =
        hotbed_driver::Testbed::new(fake_config(&[("m", "guest")]), options, log).unwrap();
    testbed.machines()[0].connect(&call()).unwrap();
    testbed.stop();
    assert!(
        testbed.machines()[0]
            .state_dir()
            .join("bin/poweroff")
            .exists()
    );
    assert_eq!(started_in(testbed.directory()), [""; 0]);
}

#[test]
fn failed_set_up_leaves_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("x".repeat(100));
    let options = hotbed_driver::Options {
        out_dir: Some(directory.path().to_owned()),
        temporary_root: Some(root.clone()),
        ..hotbed_driver::Options::default()
    };
    let log = std::sync::Arc::new(hotbed_driver::Log::to(Box::new(std::io::sink()), false));
    let error =
        hotbed_driver::Testbed::new(fake_config(&[("m", "guest")]), options, log).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("set TMPDIR to a shorter directory"),
        "{error}"
    );
    assert!(eventually(Duration::from_secs(1), || std::fs::read_dir(
        &root
    )
    .unwrap()
    .count()
        == 0));
}
