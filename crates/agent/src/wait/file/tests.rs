//! Each test has a folder of its own; what changes in it is what an inotify watch must tell.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use super::super::testing::{LONG, found, is_quiet, run};
use super::*;

/// Long enough for a second look, and for an event.
const SHORT: Duration = Duration::from_millis(60);

struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn make(&self, name: &str) {
        fs::create_dir_all(self.path(name)).expect("a folder is made");
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "").expect("a file is made");
    }

    /// A wait that is on its way, and has not ended.
    fn waiting(&self, name: &str, is_wanted: bool) -> FileWatch {
        let mut watch = self.watch(name, is_wanted);
        assert!(is_quiet(&mut watch, SHORT), "it has happened already");
        watch
    }

    fn watch(&self, name: &str, is_wanted: bool) -> FileWatch {
        let path = self.path(name);
        FileWatch::new(path.to_str().expect("text"), is_wanted).expect("a path")
    }
}

fn is_found(watch: &mut FileWatch) -> bool {
    found(watch, LONG).is_some()
}

#[test]
fn file_that_is_there_is_found_at_once() {
    let folders = Folders::new();
    folders.write("file");
    assert_eq!(
        run(&mut folders.watch("file", true), LONG).0.unwrap(),
        Some(String::new())
    );
    assert!(is_found(&mut folders.watch("other", false)));
}

#[test]
fn file_is_found_when_it_comes_and_without_looks_before() {
    // Where no other test makes files.
    let Ok(root) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: no /dev/shm");
        return;
    };
    let folders = Folders { root };
    let mut watch = folders.waiting("file", true);
    let (result, looks) = run(&mut watch, 20 * SILENT_PAUSE);
    assert_eq!(result.unwrap(), None);
    assert!(
        looks < 10,
        "{looks}: only another test's mounts may wake it"
    );
    folders.write("file");
    assert!(is_found(&mut watch));
}

#[test]
fn file_that_is_renamed_into_place_is_found() {
    let folders = Folders::new();
    folders.make("a");
    folders.write("a/other");
    let mut watch = folders.waiting("file", true);
    fs::rename(folders.path("a/other"), folders.path("file")).unwrap();
    assert!(is_found(&mut watch));
}

#[test]
fn file_is_found_in_folders_that_were_not_there() {
    let folders = Folders::new();
    let mut watch = folders.waiting("a/b/c/file", true);
    folders.make("a");
    assert!(is_quiet(&mut watch, SHORT));
    folders.make("a/b/c");
    assert!(is_quiet(&mut watch, SHORT));
    folders.write("a/b/c/file");
    assert!(is_found(&mut watch));
}

#[test]
fn folder_that_is_removed_and_made_again_is_followed() {
    let folders = Folders::new();
    folders.make("a/b");
    let mut watch = folders.waiting("a/b/file", true);
    fs::remove_dir_all(folders.path("a")).unwrap();
    assert!(is_quiet(&mut watch, SHORT));
    folders.make("a/b");
    assert!(is_quiet(&mut watch, SHORT));
    folders.write("a/b/file");
    assert!(is_found(&mut watch));
}

#[test]
fn folder_above_that_is_replaced_is_followed() {
    let folders = Folders::new();
    folders.make("a/b");
    folders.make("other/b");
    folders.write("other/b/file");
    let mut watch = folders.waiting("a/b/file", true);
    fs::rename(folders.path("a"), folders.path("old")).unwrap();
    fs::rename(folders.path("other"), folders.path("a")).unwrap();
    assert!(is_found(&mut watch));
}

#[test]
fn symbolic_links_on_the_way_are_followed() {
    let folders = Folders::new();
    folders.make("one");
    folders.make("two");
    symlink("one", folders.path("link")).unwrap();
    let mut watch = folders.waiting("link/../link/file", true);
    folders.write("two/file");
    assert!(is_quiet(&mut watch, SHORT));
    fs::remove_file(folders.path("link")).unwrap();
    symlink(folders.path("two"), folders.path("link")).unwrap();
    assert!(is_found(&mut watch));
}

#[test]
fn link_that_leads_nowhere_is_no_file_until_its_target_comes() {
    let folders = Folders::new();
    folders.make("deep");
    symlink("deep/target", folders.path("file")).unwrap();
    let mut watch = folders.waiting("file", true);
    folders.write("deep/target");
    assert!(is_found(&mut watch));
}

#[test]
fn links_in_a_circle_are_no_file() {
    let folders = Folders::new();
    symlink("b", folders.path("a")).unwrap();
    symlink("a", folders.path("b")).unwrap();
    let mut watch = folders.waiting("a", true);
    fs::remove_file(folders.path("b")).unwrap();
    folders.write("b");
    assert!(is_found(&mut watch));
}

#[test]
fn file_below_a_file_is_found_once_that_is_a_folder() {
    let folders = Folders::new();
    folders.write("a");
    let mut watch = folders.waiting("a/file", true);
    fs::remove_file(folders.path("a")).unwrap();
    folders.make("a");
    folders.write("a/file");
    assert!(is_found(&mut watch));
}

#[test]
fn file_is_gone_when_it_is_removed_or_a_folder_above_moved() {
    let folders = Folders::new();
    folders.make("a/b");
    folders.write("a/file");
    folders.write("a/b/file");
    let mut removed = folders.waiting("a/file", false);
    fs::remove_file(folders.path("a/file")).unwrap();
    assert!(is_found(&mut removed));
    let mut moved = folders.waiting("a/b/file", false);
    fs::rename(folders.path("a"), folders.path("c")).unwrap();
    assert!(is_found(&mut moved));
}

#[test]
fn other_files_in_the_folder_do_not_make_it_go_the_way_again() {
    let folders = Folders::new();
    let mut watch = folders.waiting("file", true);
    let before = Instant::now();
    for number in 0..100 {
        folders.write(&format!("other{number}"));
    }
    assert!(matches!(watch.presence.read_news(), News::Other));
    assert!(watch.poll(before).unwrap().is_none());
}

#[test]
fn file_is_found_although_the_queue_ran_over() {
    let folders = Folders::new();
    let mut watch = folders.waiting("file", true);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if limit > 100_000 {
        eprintln!("skipped: the queue holds {limit} events");
        return;
    }
    for _ in 0..limit / 2 + 10 {
        folders.write("other");
        fs::remove_file(folders.path("other")).unwrap();
    }
    folders.write("file");
    assert!(is_found(&mut watch));
}

#[test]
fn file_system_that_tells_nothing_is_looked_at() {
    let folders = Folders::new();
    let mut watch = folders.waiting("file", true);
    watch.presence.notices = None;
    watch.presence.next = Some(Instant::now());
    assert!(is_quiet(&mut watch, SHORT));
    folders.write("file");
    assert!(is_found(&mut watch));
    assert!(is_silent(Path::new("/proc")));
    assert!(!is_silent(folders.root.path()) || !is_silent(Path::new("/dev/shm")));
}

#[test]
fn file_that_a_mount_brings_is_found() {
    let folders = Folders::new();
    folders.make("mount");
    folders.make("from");
    folders.write("from/file");
    let mut watch = folders.waiting("mount/file", true);
    let mounted = std::process::Command::new("mount")
        .arg("--bind")
        .args([folders.path("from"), folders.path("mount")])
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not mount");
        return;
    }
    let is_found = is_found(&mut watch);
    let unmounted = std::process::Command::new("umount")
        .arg(folders.path("mount"))
        .status();
    assert!(is_found);
    assert!(unmounted.is_ok_and(|status| status.success()));
}

#[test]
fn what_is_no_path_is_refused() {
    for path in ["", "a\0b", &"x".repeat(PATH_MAX + 1)] {
        let failure = FileWatch::new(path, true).err().expect("no path");
        assert_eq!(failure.kind, super::super::FailureKind::Invalid);
    }
}
