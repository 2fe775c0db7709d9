//! A disk without space: the file that found none is named, and nothing is left.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Ended, Place};

/// Runs a test with one machine where `folder` is a file system of a few KiB; `None` where this host allows no namespaces.
fn run_with_full(folder: &Path, place: &Place, variable: &str) -> Option<Ended> {
    place.script("alice.succeed('true')\n");
    let allowed = Command::new("unshare")
        .args(["-rm", "true"])
        .stderr(Stdio::null())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no namespaces for a small file system here (`unshare -rm true` fails)");
        return None;
    }
    std::fs::create_dir_all(folder).expect("a folder");
    // A machine that begins from a snapshot needs less room.
    let inner = place.command(&["run", "--cold", "test.py"]);
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c"])
        .arg("mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"")
        .arg(folder)
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(inner.get_current_dir().expect("a folder"))
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env(variable, folder);
    Some(Ended::of(&mut command))
}

#[test]
fn a_full_disk_under_the_testbed_is_told() {
    let place = Place::new();
    let folder = place.path("run");
    if let Some(ended) = run_with_full(&folder, &place, "XDG_RUNTIME_DIR") {
        ended.expect(
            3,
            &[
                "no space left for ",
                "vm-state-alice/initrd",
                "Hotbed or this host failed, not the test",
            ],
        );
        assert_eq!(place.processes(), Vec::<String>::new());
    }
}

#[test]
fn a_full_disk_under_the_cache_is_told() {
    let place = Place::new();
    let folder = place.path("cache");
    if let Some(ended) = run_with_full(&folder, &place, "XDG_CACHE_HOME") {
        ended.expect(3, &["No space left on device"]);
        assert!(place.leftovers().is_empty());
        assert_eq!(place.processes(), Vec::<String>::new());
    }
}
