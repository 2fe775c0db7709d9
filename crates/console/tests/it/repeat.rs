//! The loop in the guest.

use crate::guest::{Guest, SOON};
use hotbed_console::script::REPEAT_GRACE;
use hotbed_console::{Command, Progress, Repeat, Until};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(20);

fn repeat(
    guest: &mut Guest,
    script: &str,
    until: Until,
    within: Duration,
) -> (i32, String, Duration) {
    let start = Instant::now();
    let repeat = Some(Repeat {
        until,
        interval: INTERVAL,
        within,
    });
    let (status, output) = guest.run(&Command {
        script,
        timeout: None,
        repeat,
    });
    (status, String::from_utf8(output).unwrap(), start.elapsed())
}

/// A path for one test's files.
fn path(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("hotbed-repeat-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path.into_os_string().into_string().unwrap()
}

#[test]
fn loop_ends_soon_after_the_probe_succeeds() {
    let mut guest = Guest::start();
    let file = path("succeeds");
    guest.sh(&format!(
        "(sleep 0.5; echo there >{file}) >/dev/null 2>&1 &"
    ));
    let (status, output, took) = repeat(
        &mut guest,
        &format!("cat {file}"),
        Until::Success,
        Duration::from_secs(60),
    );
    assert_eq!((status, output.as_str()), (0, "there\n"));
    assert!(took < SOON, "took {took:?}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn loop_ends_soon_after_the_probe_fails() {
    let mut guest = Guest::start();
    let file = path("fails");
    guest.sh(&format!(
        "touch {file}; (sleep 0.3; rm {file}) >/dev/null 2>&1 &"
    ));
    let (status, output, took) = repeat(
        &mut guest,
        &format!("echo probe; test -e {file}"),
        Until::Failure,
        Duration::from_secs(60),
    );
    assert_eq!((status, output.as_str()), (1, "probe\n"));
    assert!(took < SOON, "took {took:?}");
}

#[test]
fn last_attempt_begins_when_the_time_is_up() {
    let mut guest = Guest::start();
    let file = path("last");
    let (status, output, took) = repeat(
        &mut guest,
        &format!("echo attempt; echo >>{file}; exit 7"),
        Until::Success,
        Duration::from_millis(500),
    );
    assert_eq!((status, output.as_str()), (7, "attempt\n"));
    assert!(
        took >= Duration::from_millis(500) && took < SOON,
        "took {took:?}"
    );
    let attempts = std::fs::read(&file).unwrap().len();
    assert!((2..=26).contains(&attempts), "{attempts} attempts");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn probe_that_hangs_is_ended_within_the_grace() {
    let mut guest = Guest::start();
    let (status, output, took) = repeat(
        &mut guest,
        "echo hung; sleep 1000",
        Until::Success,
        Duration::from_millis(300),
    );
    assert_eq!((status, output.as_str()), (124, "hung\n"));
    let limit = Duration::from_millis(300) + REPEAT_GRACE;
    assert!(took >= limit && took < limit + SOON, "took {took:?}");
}

#[test]
fn probe_that_hangs_only_once_is_tried_again() {
    let mut guest = Guest::start();
    let file = path("once");
    let script = format!("[ -e {file} ] || {{ touch {file}; sleep 1000; }}; echo fine");
    let start = Instant::now();
    let repeat = Some(Repeat {
        until: Until::Success,
        interval: INTERVAL,
        within: Duration::from_secs(60),
    });
    let found = guest.run(&Command {
        script: &script,
        timeout: Some(Duration::from_millis(200)),
        repeat,
    });
    assert_eq!(found, (0, b"fine\n".to_vec()));
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    std::fs::remove_file(file).unwrap();
}

#[test]
fn output_of_earlier_attempts_is_forgotten_however_long_it_is() {
    let mut guest = Guest::start();
    let file = path("output");
    let script = format!(
        "echo >>{file}; head -c 200000 /dev/zero; n=$(wc -l <{file}); echo $n; [ $n -ge 4 ]"
    );
    let (status, output, _) = repeat(&mut guest, &script, Until::Success, Duration::from_secs(60));
    assert_eq!((status, output.trim_matches('\0')), (0, "4\n"));
    assert_eq!(output.len(), 200_002);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn abandoned_loop_ends_before_its_time() {
    let mut guest = Guest::start();
    let repeat = Some(Repeat {
        until: Until::Success,
        interval: INTERVAL,
        within: Duration::from_secs(60),
    });
    let start = Instant::now();
    guest
        .shell
        .begin(
            &Command {
                script: "false",
                timeout: None,
                repeat,
            },
            start,
        )
        .unwrap();
    assert_eq!(
        guest
            .shell
            .poll_output(start + Duration::from_millis(100))
            .unwrap(),
        Progress::Pending
    );
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
}
