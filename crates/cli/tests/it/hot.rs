//! Machines that begin from snapshots, when something goes wrong: each test has a cache of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hotbed_image::{Cache, Silent, Spec};

use crate::support::{Ended, PATIENCE, Place, Running, eventually};

pub(crate) const SAVED: &str = "alice: saved as a snapshot";
pub(crate) const RESTORED: &str = "alice: restored from a snapshot";
/// How many times a machine starts in the test that looks for leaks.
const STARTS: &str = "HOTBED_HOT_STARTS";

/// A folder with a test whose machine is hot, and a cache that has the user's images.
pub(crate) struct Hot(pub(crate) Place);

impl Hot {
    pub(crate) fn new(body: &str) -> Self {
        let user = Cache::open().expect("a cache");
        hotbed_image::build(&user, &Spec::Micro, &Silent).expect("an image");
        let hot = Self(Place::new());
        let head = "# /// hotbed\n# hot = true\n# [machines.alice]\n# ///\n";
        hot.0.write("test.py", &format!("{head}{body}"));
        fs::create_dir_all(hot.cache("entries")).expect("a folder");
        let link = |from: &Path, name: &str| symlink(from, hot.cache(name)).expect("a link");
        for name in ["pins", "apt", "accelerator"] {
            link(&user.root().join(name), name);
        }
        for entry in fs::read_dir(user.root().join("entries")).expect("entries") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("snapshot-") {
                link(&entry.path(), &format!("entries/{name}"));
            }
        }
        hot
    }

    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.0.path("cache/hotbed").join(name)
    }

    fn command(&self) -> Command {
        self.command_of(&["run", "--quiet", "test.py"])
    }

    pub(crate) fn command_of(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command(arguments);
        command
            .env("XDG_CACHE_HOME", self.0.path("cache"))
            .env_remove("HOTBED_HOT")
            .env_remove("HOTBED_CACHE_LIMIT");
        command
    }

    #[track_caller]
    fn passes(&self, word: &str) {
        Ended::of(&mut self.command()).expect(0, &["passed in", word]);
    }

    /// Runs the test in namespaces of its own, after `setup` in `sh`; `$CACHE` is the cache. `None` where this host has none.
    fn in_namespace(&self, setup: &str) -> Option<Ended> {
        self.in_namespace_of(&self.command(), setup)
    }

    /// Runs a command so.
    pub(crate) fn in_namespace_of(&self, inner: &Command, setup: &str) -> Option<Ended> {
        let mut allowed = Command::new("unshare");
        let allowed = allowed.args(["-rm", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            println!("SKIPPED: no namespaces here (`unshare -rm true` fails)");
            return None;
        }
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c"])
            .arg(format!("{setup} && exec \"$0\" \"$@\""))
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(inner.get_current_dir().expect("a folder"))
            .stdin(Stdio::null())
            .env("CACHE", self.cache(""));
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Some(Ended::of(&mut command))
    }

    pub(crate) fn names(&self, folder: &str, prefix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.cache(folder)) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut found: Vec<_> = paths
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            })
            .collect();
        found.sort();
        found
    }

    /// The snapshots that are there, all of which are sound.
    #[track_caller]
    pub(crate) fn snapshots(&self) -> Vec<PathBuf> {
        let cache = Cache::at(self.cache("")).expect("a cache");
        for listed in cache.list().expect("a list") {
            if listed.kind == "snapshot" {
                assert!(cache.is_sound(&listed.kind, &listed.key), "{}", listed.key);
            }
        }
        self.names("entries", "snapshot-")
    }

    /// Waits until nothing is left of a run that was killed.
    #[track_caller]
    fn is_cleared(&self) {
        eventually(PATIENCE, "the reaper clears up", || {
            self.0.leftovers().is_empty() && self.0.processes().is_empty()
        });
    }
}

#[test]
fn kill_9_while_it_saves_or_restores_leaves_nothing_and_the_next_run_goes_on() {
    let hot = Hot::new("alice.succeed('hostname')\n");
    let saving = Running::start(&mut hot.command());
    eventually(PATIENCE, "it saves", || {
        !hot.names("tmp", "snapshot-").is_empty()
    });
    saving.signal("KILL");
    assert_eq!(saving.wait().0, 128 + 9);
    hot.is_cleared();
    // It may have been quicker than we were.
    let is_there = !hot.snapshots().is_empty();
    hot.passes(if is_there { RESTORED } else { SAVED });
    assert_eq!(hot.names("tmp", ""), Vec::<PathBuf>::new());
    let mut restoring = Running::start(&mut hot.command());
    restoring.wait_for("alice: starting vm");
    restoring.signal("KILL");
    assert_eq!(restoring.wait().0, 128 + 9);
    hot.is_cleared();
    hot.passes(RESTORED);
    assert_eq!(hot.snapshots().len(), 1);
}

#[test]
fn without_room_for_a_snapshot_the_test_runs_on_the_machine_that_booted() {
    let hot = Hot::new("assert alice.succeed('hostname') == 'alice\\n'\n");
    let setup = "cp -a \"$CACHE\" \"$CACHE\"/../images && mount -t tmpfs -o size=8m none \"$CACHE\" && cp -a \"$CACHE\"/../images/. \"$CACHE\"";
    if let Some(ended) = hot.in_namespace(setup) {
        ended.expect(
            0,
            &[
                "passed in",
                "alice: no snapshot: ",
                "No space left on device",
            ],
        );
        hot.is_cleared();
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_read() {
    let hot = Hot::new("alice.succeed('true')\n");
    // So that the folders are there, as in any cache that somebody has used.
    Cache::at(hot.cache("")).expect("a cache");
    let setup = "mount --bind \"$CACHE\" \"$CACHE\" && mount -o remount,bind,ro \"$CACHE\"";
    let Some(ended) = hot.in_namespace(setup) else {
        return;
    };
    ended.expect(
        0,
        &[
            "passed in",
            "alice: no snapshot: the cache cannot be written",
        ],
    );
    hot.passes(SAVED);
    if let Some(ended) = hot.in_namespace(setup) {
        ended.expect(0, &["passed in", RESTORED]);
    }
}

#[test]
fn a_cache_that_is_deleted_under_way_is_missed_by_no_machine() {
    let hot = Hot::new(
        "import os, shutil\n\
         cache = os.environ['XDG_CACHE_HOME'] + '/hotbed'\n\
         alice.start()\n\
         shutil.rmtree(cache, ignore_errors=True)\n\
         assert alice.succeed('hostname') == 'alice\\n'\n",
    );
    // While it boots.
    hot.passes("alice: no snapshot: ");
    assert!(hot.snapshots().is_empty());
    // While it runs from a snapshot.
    let again = Hot::new("alice.succeed('true')\n");
    again.passes(SAVED);
    let text = fs::read_to_string(hot.0.path("test.py")).expect("a test");
    again.0.write("test.py", &text);
    again.passes(RESTORED);
    assert!(again.snapshots().is_empty());
}

#[test]
fn two_tests_that_save_the_same_machine_at_once_leave_one_snapshot() {
    let hot = Hot::new("assert alice.succeed('hostname') == 'alice\\n'\n");
    let both = [(); 2].map(|()| Running::start(&mut hot.command()));
    for running in both {
        let (status, log) = running.wait();
        assert_eq!(status, 0, "{log}");
        assert!(log.contains(SAVED) || log.contains(RESTORED), "{log}");
    }
    assert_eq!(hot.snapshots().len(), 1);
    assert_eq!(hot.names("tmp", ""), Vec::<PathBuf>::new());
    hot.passes(RESTORED);
}

#[test]
fn a_snapshot_of_which_a_file_is_cut_off_or_missing_is_made_again() {
    let hot = Hot::new("assert alice.succeed('hostname') == 'alice\\n'\n");
    hot.passes(SAVED);
    for name in ["devices", "console", "manifest.json"] {
        let path = hot.snapshots().remove(0).join(name);
        let file = fs::File::options().write(true).open(&path).expect(name);
        let len = file.metadata().expect(name).len();
        file.set_len(len / 2).expect(name);
        hot.passes(SAVED);
    }
    fs::remove_file(hot.snapshots().remove(0).join("ram.sparse")).expect("a file");
    hot.passes(SAVED);
    hot.passes(RESTORED);
    assert_eq!(hot.snapshots().len(), 1);
}

#[test]
fn a_clock_that_was_moved_makes_no_snapshot_bad_and_the_guest_has_the_hosts_time() {
    let hot = Hot::new(
        "import time\n\
         guest = int(alice.succeed('date +%s'))\n\
         assert abs(time.time() - guest) < 60, (time.time(), guest)\n",
    );
    hot.passes(SAVED);
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for then in [SystemTime::now() + year, SystemTime::now() - year] {
        let snapshot = hot.snapshots().remove(0);
        for entry in fs::read_dir(&snapshot).expect("a snapshot") {
            let path = entry.expect("a file").path();
            let file = fs::File::options().append(true).open(path).expect("a file");
            file.set_modified(then).expect("a time");
        }
        hot.passes(RESTORED);
        let mut list = hot.0.command(&["cache", "list"]);
        Ended::of(list.env("XDG_CACHE_HOME", hot.0.path("cache"))).expect(0, &[]);
    }
}

#[test]
fn another_qemu_boots_cold_once() {
    let name = std::env::var("HOTBED_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    let hot = Hot::new("alice.succeed('true')\n");
    let qemu = hot.0.path("qemu");
    // As a package's new version comes: another file under the same name.
    let install = |version: u32| {
        let new = hot.0.write(
            "qemu.new",
            &format!("#!/bin/sh\n# {version}\nexec {name} \"$@\"\n"),
        );
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("a program");
        fs::rename(&new, &qemu).expect("a rename");
    };
    let passes = |word: &str| {
        let mut command = hot.command();
        Ended::of(command.env("HOTBED_QEMU", &qemu)).expect(0, &["passed in", word]);
    };
    for version in [1, 2] {
        install(version);
        passes(SAVED);
        passes(RESTORED);
    }
    // The same program again: who has put it there, and when, does not count.
    install(1);
    passes(RESTORED);
    assert_eq!(hot.snapshots().len(), 2);
}

#[test]
fn many_hot_starts_in_a_row_leak_nothing() {
    let starts = std::env::var(STARTS).unwrap_or_else(|_| "10".to_owned());
    let hot = Hot::new(&format!("STARTS = {starts}\n{LEAKS}"));
    // As long as it takes: the test has a timeout of its own.
    let output = hot.command().output().expect("hotbed runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(stderr.contains(RESTORED), "{stderr}");
    eprintln!("{stdout}");
    assert!(hot.0.processes().is_empty() && hot.0.leftovers().is_empty());
    assert_eq!(hot.names("tmp", ""), Vec::<PathBuf>::new());
}

/// A script that starts its machine again and again, and looks what its own process has then.
const LEAKS: &str = r#"
import os, time

def children():
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found += int(open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[1]) == os.getpid()
            except OSError:
                pass
    return found

def files(folder):
    return sum(len(names) for _, _, names in os.walk(folder))

def has():
    return {
        "files open": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings of memory": len(open("/proc/self/maps").readlines()) // 100,
        "processes": children(),
        "files": files(os.environ["XDG_RUNTIME_DIR"]) + files(os.environ["XDG_CACHE_HOME"]),
    }

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024

def start():
    alice.start()
    alice.succeed("true")
    alice.crash()

for _ in range(3):
    start()
before, began_with = has(), memory()
for _ in range(STARTS):
    start()
for _ in range(100):  # Threads that have seen QEMU's end are about to end themselves.
    after = has()
    if all(after[what] <= before[what] for what in before):
        break
    time.sleep(0.1)
grown = memory() - began_with
print(f"leaks: {before} became {after}, {grown} MiB more, after {STARTS} starts")
assert all(after[what] <= before[what] for what in before), (before, after)
assert grown <= 8 + STARTS // 20, f"{grown} MiB more after {STARTS} starts"
"#;
