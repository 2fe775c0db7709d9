//! Files into the guest.

use crate::guest::{Guest, PATIENCE};
use hotbed_console::{Command, Error, Progress};
use std::time::{Duration, Instant};

fn put(guest: &mut Guest, target: &str, content: &[u8]) -> i32 {
    guest
        .shell
        .begin_put(target, content.len() as u64, Instant::now())
        .unwrap();
    for piece in content.chunks(50_000) {
        assert_eq!(
            guest
                .shell
                .put_chunk(piece, Instant::now() + PATIENCE)
                .unwrap(),
            piece.len()
        );
    }
    let (status, output) = guest.answer();
    assert_eq!(output, b"");
    status
}

/// Bytes that repeat nowhere soon, with all values.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn directory(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("hotbed-put-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn file_arrives_as_it_is_whatever_its_length() {
    let mut guest = Guest::start();
    let directory = directory("lengths");
    for len in [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let target = directory.join(format!("it's a \"dir\"/$x/{len} *"));
        let content = bytes(len);
        assert_eq!(
            put(&mut guest, target.to_str().unwrap(), &content),
            0,
            "{len}"
        );
        assert!(
            std::fs::read(&target).unwrap() == content,
            "{len} bytes arrived differently"
        );
        assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    }
    let relative = format!("hotbed-put-{}-relative", std::process::id());
    assert_eq!(put(&mut guest, &relative, b"x"), 0);
    assert_eq!(
        guest.sh(&format!("cat {relative}; rm {relative}")),
        (0, "x".into())
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn file_that_cannot_be_made_is_an_error_and_nothing_is_sent() {
    let mut guest = Guest::start();
    for target in [
        "/proc/nonexistent/dir/file",
        "/proc/version/file",
        "/",
        "/tmp",
        "",
    ] {
        assert_eq!(put(&mut guest, target, &bytes(3_000_000)), 1, "{target}");
        assert_eq!(guest.sh("echo on"), (0, "on\n".into()), "after {target}");
    }
}

#[test]
fn full_disk_is_an_error_and_the_shell_stays_in_step() {
    let mut guest = Guest::start();
    assert_eq!(put(&mut guest, "/dev/full", &bytes(30_000_000)), 1);
    assert!(
        guest.log().contains("No space left on device"),
        "{}",
        guest.log()
    );
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    assert_eq!(put(&mut guest, "/dev/full", b""), 0);
    assert_eq!(put(&mut guest, "/dev/full", b"x"), 1);
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
}

#[test]
fn abandoned_file_leaves_the_shell_in_step() {
    let mut guest = Guest::start();
    let file = directory("abandoned");
    let soon = || Instant::now() + Duration::from_millis(10);
    for (given, wait) in [
        (0, false),
        (0, true),
        (10, true),
        (1 << 20, true),
        ((1 << 20) + 10, true),
        (2_999_999, true),
    ] {
        guest
            .shell
            .begin_put(file.to_str().unwrap(), 3_000_000, soon())
            .unwrap();
        if wait {
            let until = Instant::now() + PATIENCE;
            assert_eq!(guest.shell.put_chunk(&bytes(given), until).unwrap(), given);
        }
        assert_eq!(
            guest.sh("echo on"),
            (0, "on\n".into()),
            "after {given} bytes"
        );
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn abandoned_file_that_could_not_be_made_leaves_the_shell_in_step() {
    let mut guest = Guest::start();
    guest.shell.begin_put("/tmp", 10, Instant::now()).unwrap();
    assert_eq!(guest.sh("echo on"), (0, "on\n".into()));
    assert_eq!(
        guest.log().matches("command not found").count(),
        0,
        "{}",
        guest.log()
    );
}

#[test]
fn more_than_was_announced_is_refused() {
    let mut guest = Guest::start();
    let overrun = guest.shell.put_chunk(b"x", Instant::now());
    assert!(matches!(overrun, Err(Error::PutOverrun)), "{overrun:?}");
    guest
        .shell
        .begin_put("/dev/null", 2, Instant::now())
        .unwrap();
    assert!(matches!(
        guest.shell.put_chunk(b"xyz", Instant::now()),
        Err(Error::PutOverrun)
    ));
    assert_eq!(
        guest
            .shell
            .put_chunk(b"xy", Instant::now() + PATIENCE)
            .unwrap(),
        2
    );
    assert_eq!(guest.answer(), (0, Vec::new()));
}

#[test]
fn busy_guest_takes_the_file_later() {
    let mut guest = Guest::start();
    let file = directory("later");
    guest
        .shell
        .begin(&Command::new("sleep 0.3"), Instant::now())
        .unwrap();
    guest
        .shell
        .begin_put(file.to_str().unwrap(), 3, Instant::now())
        .unwrap();
    let soon = Instant::now() + Duration::from_millis(30);
    assert_eq!(guest.shell.put_chunk(b"abc", soon).unwrap(), 0);
    assert_eq!(guest.shell.poll_output(soon).unwrap(), Progress::Pending);
    assert_eq!(
        guest
            .shell
            .put_chunk(b"abc", Instant::now() + PATIENCE)
            .unwrap(),
        3
    );
    assert_eq!(guest.answer().0, 0);
    assert_eq!(std::fs::read(&file).unwrap(), b"abc");
    std::fs::remove_file(file).unwrap();
}
