//! Nothing that a testbed started is left: not after its end, not after a `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
    processes().filter(marked).collect()
}

/// The processes of this host.
fn processes() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A driver with three machines, in a process of its own, and the directory of its testbed.
fn driver(directory: &Path) -> (Child, PathBuf) {
    let mut driver = Command::new(example("killed"))
        .arg(directory)
        .arg(example("fake_qemu"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = driver.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let testbed = PathBuf::from(line.trim());
    assert!(testbed.join("vde1.ctl/ctl").exists(), "{line}");
    // Three machines, the shells of two, `sleep` in one of them, two children.
    let all = || started_in(&testbed).len() >= 7;
    assert!(
        eventually(Duration::from_secs(20), all),
        "{:?}",
        started_in(&testbed)
    );
    (driver, testbed)
}

/// The children of a process.
fn children_of(parent: u32) -> Vec<String> {
    let parent = format!("PPid:\t{parent}");
    let is_child = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == parent)
    };
    processes().filter(is_child).collect()
}

fn kill_each(pids: &[String]) {
    for pid in pids {
        Command::new("sh")
            .args(["-c", &format!("kill -s KILL {pid}")])
            .status()
            .unwrap();
    }
}

#[test]
fn nothing_is_left_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let (mut driver, testbed) = driver(directory.path());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let gone = || started_in(&testbed).is_empty() && !testbed.exists();
    let (gone, time) = timed(|| eventually(Duration::from_secs(20), gone));
    assert!(
        gone,
        "left: {:?}, {}",
        started_in(&testbed),
        testbed.exists()
    );
    time.at_most(Duration::from_secs(1));
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
fn machines_end_with_the_driver_even_without_its_reaper() {
    let directory = tempfile::tempdir().unwrap();
    let (mut driver, testbed) = driver(directory.path());
    let machines: Vec<_> = children_of(driver.id())
        .into_iter()
        .filter(|pid| started_in(&testbed).contains(pid))
        .collect();
    assert_eq!(machines.len(), 3);
    let reaper: Vec<_> = children_of(driver.id())
        .into_iter()
        .filter(|pid| !machines.contains(pid))
        .collect();
    kill_each(&reaper);
    driver.kill().unwrap();
    driver.wait().unwrap();
    let gone = || {
        started_in(&testbed)
            .iter()
            .all(|pid| !machines.contains(pid))
    };
    let gone = eventually(Duration::from_secs(20), gone);
    // What the machines had started is the reaper's, which is no more.
    kill_each(&started_in(&testbed));
    assert!(gone, "left: {machines:?}");
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
