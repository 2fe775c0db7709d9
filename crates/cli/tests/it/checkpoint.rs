//! Scripts that begin at a checkpoint of an earlier run.

use std::fs;
use std::path::PathBuf;

use crate::hot::Hot;
use crate::support::{Ended, PATIENCE};

const HEAD: &str = "# /// hotbed\n# [machines.alice]\n# [machines.bob]\n# ///\n";
/// A frame is under way to `bob` when the checkpoint is taken, and stays so until the network is healed.
const BODY: &str = r#"import os
GREETING = "hello"
def boot_id(machine):
    return machine.succeed("cat /proc/sys/kernel/random/boot_id").strip()
print("EARLY", flush=True)
start_all()
alice.succeed("ping -4 -c 1 bob")
alice.succeed(f"echo {GREETING} > /tmp/file; echo said-before > /dev/hvc1")
alice.wait_for_console_text("said-before")
vlan1.impair(source=alice, target=bob, delay=600)
alice.succeed("(ping -4 -c 1 -W 600 bob > /dev/null; echo $? > /tmp/ended) > /dev/null 2>&1 & echo $! > /tmp/pid")
bob.succeed("true")
alice.succeed("until grep -q . /tmp/pid; do sleep 0.1; done")
def waiting():
    return sum(link.waiting for link in vlan1.links())
retry(lambda _: waiting() > 0)
skipped = bob.succeed("true")
with subtest("the late part"):
    print("BEFORE", boot_id(alice), flush=True)
    testbed.checkpoint("ready")
    print("AFTER", boot_id(alice), flush=True)
    t.assertEqual(alice.succeed("cat /tmp/file"), GREETING + "\n")
    t.assertIn("said-before", alice.get_console_log())
    alice.succeed("kill -0 $(cat /tmp/pid)")
    alice.fail("test -e /tmp/ended")
    t.assertGreater(waiting(), 0)
    t.assertEqual(testbed.checkpoints(), ["ready"])
    vlan1.heal()
    alice.wait_until_succeeds("grep -x 0 /tmp/ended")
    t.assertEqual(bob.succeed("hostname"), "bob\n")
    testbed.rollback("ready")
    alice.fail("test -e /tmp/ended")
"#;

fn run(hot: &Hot, options: &[&str]) -> Ended {
    let arguments = [&["run"], options, &["test.py"]].concat();
    Ended::within(PATIENCE * 2, &mut hot.command_of(&arguments))
}

/// A run that failed late, and kept its checkpoint.
fn failed_late() -> (Hot, Ended) {
    let hot = Hot::new("");
    hot.0.write(
        "test.py",
        &format!("{HEAD}{BODY}raise ValueError('late')\n"),
    );
    let first = run(&hot, &["--keep-checkpoints"]);
    first.expect(1, &["late", "checkpoint `ready` is kept for later runs"]);
    (hot, first)
}

fn kept(hot: &Hot) -> Vec<PathBuf> {
    hot.names("entries", "checkpoint-")
}

/// What a run has printed after a word.
#[track_caller]
fn after<'e>(ended: &'e Ended, word: &str) -> &'e str {
    let mut lines = ended.stdout.lines();
    let said = lines.find_map(|line| line.strip_prefix(word));
    said.unwrap_or_else(|| panic!("no {word} in {ended}"))
}

#[test]
fn a_script_begins_where_an_earlier_run_was_with_frames_under_way() {
    let (hot, first) = failed_late();
    assert_eq!(after(&first, "BEFORE"), after(&first, "AFTER"));
    // It may have changed since.
    let fixed = format!("{HEAD}{BODY}print('END', flush=True)\n");
    hot.0.write("test.py", &fixed);
    let second = run(&hot, &["--from-checkpoint", "ready"]);
    let note = "the script begins at checkpoint `ready`, line 24; skipped: lines 9-17, 20-21, 23; not set: skipped";
    second.expect(0, &["passed in", note, "said-before"]);
    assert_eq!(after(&second, "AFTER"), after(&first, "AFTER"));
    after(&second, "END");
    for skipped in ["EARLY", "BEFORE"] {
        assert!(!second.stdout.contains(skipped), "{second}");
    }
    // Nothing booted, and nothing began from the snapshot of a boot.
    assert!(!second.stderr.contains("starting vm"), "{second}");
    assert_eq!(kept(&hot).len(), 1);
    // One that is kept again takes the place of the first, also when the run began there.
    let twice = fixed.replace("print('END', flush=True)", "testbed.checkpoint('ready 2')");
    hot.0.write("test.py", &twice);
    let options = ["--from-checkpoint", "ready", "--keep-checkpoints"];
    for _ in 0..2 {
        run(&hot, &options).expect(0, &["checkpoint `ready 2` is kept"]);
        assert_eq!(kept(&hot).len(), 2);
    }
}

#[test]
fn a_checkpoint_of_something_else_or_with_a_damaged_file_is_refused() {
    let (hot, _) = failed_late();
    let from = |name: &str| run(&hot, &["--from-checkpoint", name]);
    let write = |head: &str, rest: &str| hot.0.write("test.py", &format!("{head}{BODY}{rest}"));
    from("nowhere").expect(
        2,
        &["the script has no statement `testbed.checkpoint(\"nowhere\")`"],
    );
    let others = "testbed.checkpoint('later')\n\
        with vlan1.impair(delay=1): testbed.checkpoint('with')\n\
        for _ in range(2): testbed.checkpoint('for')\n\
        testbed.checkpoint('twice'); testbed.checkpoint(name='twice')\n";
    write(HEAD, others);
    from("later").expect(2, &["no kept checkpoint `later`: there are `ready`"]);
    for name in ["with", "for"] {
        from(name).expect(2, &["only when that is a statement of its own"]);
    }
    from("twice").expect(2, &["takes checkpoint `twice` more than once"]);
    write(&HEAD.replace("bob]", "bob]\n# memory = 96"), "");
    from("ready").expect(2, &["bob: another command line of QEMU: `"]);
    write(&HEAD.replace("bob]", "bob]\n# [machines.carol]"), "");
    from("ready").expect(
        2,
        &["the machines were alice, bob, and are alice, bob, carol"],
    );
    write(HEAD, "");
    let folder = kept(&hot).remove(0);
    let flip = |name: &str| {
        let path = folder.join(name);
        let (mut bytes, then) = (fs::read(&path).expect("a file"), fs::metadata(&path));
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let then = then.and_then(|then| then.modified()).expect("a time");
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_modified(then).expect("a time");
    };
    for name in ["vlan1", "alice.state", "index.json"] {
        flip(name);
        from("ready").expect(3, &["the checkpoint is damaged"]);
        flip(name);
    }
    from("ready").expect(0, &["passed in"]);
    let cut = fs::File::options()
        .write(true)
        .open(folder.join("bob.ram.sparse"));
    cut.and_then(|file| file.set_len(1 << 20)).expect("cut");
    from("ready").expect(3, &["the checkpoint is damaged"]);
}
