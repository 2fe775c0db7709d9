//! `hotbed snapshot build`, and runs that begin from what it made: elsewhere, without a cache.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use crate::hot::{Hot, RESTORED, SAVED};
use crate::support::{Ended, PATIENCE};

const BODY: &str = "assert alice.succeed('hostname') == 'alice\\n'\n";

/// A test, and a tree with its snapshot that is somewhere else than where it was made, as a store of Nix would have it: without holes
/// in its files, and not to be written. The machine's cache has no snapshot.
struct Elsewhere {
    hot: Hot,
    tree: PathBuf,
}

impl Elsewhere {
    fn new() -> Self {
        let hot = Hot::new(BODY);
        let made = hot.0.path("made").display().to_string();
        build(&hot, &["--out", &made]).expect(0, &["snapshots of 1 machine are in "]);
        assert_eq!(names(&made), ["entries"]);
        let tree = hot.0.path("tree");
        let copy = "cp -r --sparse=never \"$0\" \"$1\" && find \"$1\" -exec touch --date=@1 {} + && chmod -R a-w \"$1\"";
        let mut command = Command::new("sh");
        let status = command.args(["-c", copy, &made]).arg(&tree).status();
        assert!(status.expect("sh").success());
        fs::remove_dir_all(made).expect("a tree");
        for snapshot in hot.snapshots() {
            fs::remove_dir_all(snapshot).expect("a snapshot");
        }
        Self { hot, tree }
    }

    /// Runs the test with the tree, and with `head` if given.
    fn run(&self, head: &str) -> Ended {
        let head = format!("# /// hotbed\n# [machines.alice]\n{head}# ///\n{BODY}");
        self.hot.0.write("test.py", &head);
        let mut command = tcg(&self.hot);
        Ended::of(
            command
                .args(["run", "--snapshots"])
                .arg(&self.tree)
                .arg("test.py"),
        )
    }

    fn snapshot(&self) -> PathBuf {
        let entries = self.tree.join("entries");
        let names = names(&entries.display().to_string());
        let name = names.iter().find(|name| name.starts_with("snapshot-"));
        entries.join(name.expect("a snapshot"))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // So that whoever is not root can remove it.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(&self.tree)
            .status();
    }
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// The program with the test's cache, and without a trial of KVM.
fn tcg(hot: &Hot) -> Command {
    let mut command = hot.0.command(&[]);
    command
        .env("XDG_CACHE_HOME", hot.0.path("cache"))
        .env("HOTBED_ACCEL", "tcg")
        .env_remove("HOTBED_HOT");
    command
}

fn build(hot: &Hot, options: &[&str]) -> Ended {
    let mut command = tcg(hot);
    command
        .args(["snapshot", "build"])
        .args(options)
        .arg("test.py");
    Ended::within(2 * PATIENCE, &mut command)
}

#[test]
fn a_run_without_a_cache_begins_from_snapshots_that_were_made_elsewhere() {
    let elsewhere = Elsewhere::new();
    let mut inner = tcg(&elsewhere.hot);
    inner
        .args(["run", "--snapshots"])
        .arg(&elsewhere.tree)
        .arg("test.py");
    // Not even root makes a folder there.
    for name in ["XDG_CACHE_HOME", "HOME"] {
        inner.env(name, "/proc/homeless-shelter");
    }
    let setup = "mount --bind \"$TREE\" \"$TREE\" && mount -o remount,bind,ro \"$TREE\"";
    inner.env("TREE", &elsewhere.tree);
    let Some(ended) = elsewhere.hot.in_namespace_of(&inner, setup) else {
        return;
    };
    ended.expect(0, &["passed in", RESTORED]);
    for word in ["no snapshot", SAVED] {
        assert!(!ended.stderr.contains(word), "{ended}");
    }
}

#[test]
fn a_snapshot_from_elsewhere_that_does_not_fit_is_passed_over_and_it_is_said_why() {
    let elsewhere = Elsewhere::new();
    let hot = &elsewhere.hot;
    elsewhere.run("").expect(0, &[RESTORED]);
    assert!(
        hot.snapshots().is_empty(),
        "there is no need for another one"
    );
    let tree = elsewhere.tree.display();
    let why = format!("alice: no snapshot: the one in {tree} is of another command line of QEMU\n");
    elsewhere.run("# memory = 150\n").expect(0, &[&why, SAVED]);
    let why = format!("alice: no snapshot: the one in {tree} is of another name or address\n");
    elsewhere.run("# [machines.bob]\n").expect(0, &[&why]);
    // The cache comes first.
    elsewhere.run("# memory = 150\n").expect(0, &[RESTORED]);
    // Of the same length and time, so that only QEMU can tell; then so that we can.
    let devices = elsewhere.snapshot().join("devices");
    fs::set_permissions(&devices, fs::Permissions::from_mode(0o644)).expect("a file");
    let file = fs::File::options()
        .write(true)
        .open(&devices)
        .expect("a file");
    let time = file.metadata().expect("a file").modified().expect("a time");
    file.write_all_at(&[0xee; 5000], 100).expect("a file");
    file.set_modified(time).expect("a time");
    elsewhere.run("").expect(
        0,
        &["alice: its snapshot is of no use; it boots cold: ", SAVED],
    );
    for snapshot in hot.snapshots() {
        fs::remove_dir_all(snapshot).expect("a snapshot");
    }
    file.set_len(100).expect("a file");
    elsewhere.run("").expect(
        0,
        &[
            &format!("alice: no snapshot: the one in {tree} is damaged\n"),
            SAVED,
        ],
    );
}

#[test]
fn what_cannot_be_built_is_told() {
    let hot = Hot::new(BODY);
    let out = hot.0.path("out").display().to_string();
    build(&hot, &["--out", &out, "--machine", "bob"]).expect(2, &["no machine `bob`"]);
    build(&hot, &["--out", &out, "--snapshots", "/tmp"])
        .expect(2, &["--snapshots", "`hotbed snapshot build`"]);
    let place = hot.0.path("state").display().to_string();
    hot.0.write("state/other", "");
    build(&hot, &["--out", &place]).expect(2, &[&place, "something else"]);
    assert_eq!(names(&place), ["other"]);
    hot.0.write(
        "test.py",
        "# /// hotbed\n# [machines.alice]\n# qemu_args = [\"-device\", \"usb-ehci\"]\n# ///\n",
    );
    build(&hot, &["--out", &out]).expect(
        3,
        &["alice has no snapshot: `qemu_args` has `-device usb-ehci`"],
    );
    // A machine that is never to have one needs its image all the same.
    hot.0.write(
        "test.py",
        "# /// hotbed\n# [machines.alice]\n# hot = false\n# ///\n",
    );
    build(&hot, &["--out", &out]).expect(0, &["snapshots of 0 machines"]);
    assert_eq!(names(&format!("{out}/entries")).len(), 1);
}
