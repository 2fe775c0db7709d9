//! Programs, files and several things at once in a real guest: with the agent, and without one.

use crate::support::{Place, has_agent};

/// What works with and without an agent.
const EITHER_WAY: &str = r#"
import subprocess, os
from pathlib import Path
m = alice
done = m.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in\n")
t.assertEqual((done.args[0], done.returncode, done.stdout, done.stderr), ("sh", 3, "in\n", "err\n"))
t.assertTrue(0 <= done.duration < 30)
t.assertIn("returncode=3", repr(done))
with t.assertRaises(subprocess.CalledProcessError) as caught: m.run(["sh", "-c", "echo out; exit 4"], check=True)
t.assertEqual((caught.exception.returncode, caught.exception.output), (4, "out\n"))
t.assertIn("out\n", str(caught.exception.stdout))
t.assertEqual(m.run("false | true; echo never").returncode, 1)
t.assertEqual(m.run("cat", input="in").stdout, "in")
(driver.out_dir / "stdin").write_bytes(b"file")
with open(driver.out_dir / "stdin", "rb") as stdin: t.assertEqual(m.run(["cat"], stdin=stdin).stdout, "file")
with t.assertRaises(ValueError): m.run("cat", input="a", stdin="b")
for wrong in [3, [1]]:
    with t.assertRaises(TypeError): m.run("cat", input=wrong)
both = m.run("echo a; echo b >&2; echo c; cat", stderr=subprocess.STDOUT, input="d")
t.assertEqual((both.stdout, both.stderr), ("a\nb\nc\nd", ""))
with t.assertRaises(ValueError): m.run("true", stderr=subprocess.DEVNULL)
for how, status in [("exit 137", 137), ("exit 255", 255), ("kill -9 $$", -9), ("kill -15 $$", -15), ("kill -2 $$", -2), ("exit 129", 129)]:
    t.assertEqual(m.run(["sh", "-c", how]).returncode, status, how)
t.assertEqual(m.run("echo $A-${B-none}; pwd", env={"A": "a b", "B": None}, cwd="/usr").stdout, "a b-none\n/usr\n")
t.assertEqual(m.run("echo $A; pwd", env={"A": "a b"}, user="nobody", cwd="/usr").stdout, "a b\n/usr\n")
t.assertNotEqual(m.run(["id", "-u"], user="nobody").stdout, "0\n")
with t.assertRaises(ValueError): m.run(["true"], env={"A=": "x"})
t.assertEqual(m.run(["printf", r"\377\0"], text=False).stdout, b"\xff\0")
t.assertEqual(m.run(["wc", "-c"], stdin=b"x" * 3_000_000).stdout.strip(), "3000000")
with t.assertRaises(subprocess.TimeoutExpired) as caught: m.run("echo begun; sleep 60", timeout=1)
t.assertEqual(caught.exception.output, "begun\n")
for wrong in [[], ["a\0b"]]:
    with t.assertRaises(ValueError): m.run(wrong)
for wrong in [3, b"x", [3]]:
    with t.assertRaises(TypeError): m.run(wrong)
m.write_text("/root/new/text", "h\u00e4\n", mode=0o600)
t.assertEqual(m.read_text("/root/new/text"), "h\u00e4\n")
t.assertEqual(m.succeed("stat -c %a /root/new/text"), "600\n")
m.write_bytes("/root/bytes", bytes(range(256)) * 1000)
t.assertEqual(m.read_bytes(Path("/root/bytes")), bytes(range(256)) * 1000)
with t.assertRaises(UnicodeDecodeError): m.read_text("/root/bytes")
with t.assertRaises(t.failureException): m.read_bytes("/no/such/file")
folder = driver.out_dir / "folder"
(folder / "sub").mkdir(parents=True)
(folder / "sub" / "x").write_text("x")
(folder / "sub" / "x").chmod(0o751)
m.put(folder, "/root/folder")
m.get("/root/folder", driver.out_dir / "back")
t.assertEqual((driver.out_dir / "back/sub/x").read_text(), "x")
t.assertEqual((driver.out_dir / "back/sub/x").stat().st_mode & 0o777, 0o751)
m.get("/root/bytes", driver.out_dir / "bytes")
t.assertEqual((driver.out_dir / "bytes").stat().st_size, 256000)
with m.parallel() as p:
    one, two = p.succeed("echo one"), p.run(["echo", "two"])
    text = p.read_text("/root/new/text")
t.assertEqual((one.result(), two.result().stdout, text.result()), ("one\n", "two\n", "h\u00e4\n"))
with t.assertRaises(AttributeError): m.parallel().crash
with t.assertRaises(RuntimeError): m.parallel().succeed("true")
with t.assertRaises(NotImplementedError): m.shell_interact("tcp:1")
with t.assertRaises(ZeroDivisionError):
    with m.parallel() as p:
        p.succeed("true")
        1 / 0
"#;

/// What an agent is needed for.
const WITH_AGENT: &str = r#"
import signal, time
begin = time.monotonic()
with m.parallel() as p:
    for _ in range(16): p.succeed("sleep 2")
took = time.monotonic() - begin
t.assertTrue(took < 12, took)
with t.assertRaises(t.failureException): m.run(["true"], user="no-such-user")
with t.assertRaises(t.failureException): m.run(["no-such-program"])
p = m.spawn("while read line; do echo got $line; echo no >&2; done; exit 5")
p.stdin.write("a\n")
t.assertEqual(p.stdout.readline(), "got a\n")
t.assertIsNone(p.poll())
with t.assertRaises(subprocess.TimeoutExpired): p.wait(timeout=0.2)
p.stdin.write(b"b\nc\n"); p.stdin.close()
t.assertEqual(list(p.stdout), ["got b\n", "got c\n"])
t.assertEqual((p.wait(), p.returncode, p.stderr.read()), (5, 5, "no\n" * 3))
t.assertEqual(m.spawn(["cat"], text=False).communicate(b"y" * 3_000_000, timeout=60), (b"y" * 3_000_000, b""))
with m.spawn(["sleep", "1000"]) as p:
    t.assertEqual(m.read_text(f"/proc/{p.pid}/comm"), "sleep\n")
t.assertEqual(p.returncode, -9)
m.wait_for_process("sleep", running=False, timeout=20)
p = m.spawn(["sleep", "1000"])
p.send_signal(signal.SIGHUP)
t.assertEqual(p.wait(timeout=20), -1)
p = m.spawn("echo begun; sleep 1000", timeout=1)
t.assertEqual(p.stdout.readline(), "begun\n")
with t.assertRaises(subprocess.TimeoutExpired) as caught: p.wait()
t.assertEqual((caught.exception.timeout, p.returncode), (1, -9))
with t.assertRaises(subprocess.TimeoutExpired) as caught: m.spawn("echo begun; sleep 1000", timeout=1).communicate()
t.assertEqual(caught.exception.output, "begun\n")
with m.spawn("echo a; echo b >&2; echo c", stderr=subprocess.STDOUT, timeout=60) as p:
    t.assertEqual((list(p.stdout), p.stderr.read(), p.wait()), (["a\n", "b\n", "c\n"], "", 0))
p = m.spawn(["sleep", "1001"])
pid = p.pid
del p
m.wait_until_fails(f"test -d /proc/{pid}", timeout=20)
print("all of it")
with m.parallel() as p:
    p.succeed("sleep 0.5; true")
    p.succeed("exit 9")
    p.run(["true"])
"#;

/// What an agent is needed for, and is not there.
const WITHOUT_AGENT: &str = r#"
with t.assertRaisesRegex(RuntimeError, "needs the agent in alice"): m.spawn(["true"])
with t.assertRaisesRegex(RuntimeError, "needs the agent in alice"): m.wait_for_process("x")
print("all of it")
"#;

#[test]
fn programs_files_and_parallel_calls_by_the_agent() {
    if !has_agent() {
        return;
    }
    let place = Place::new();
    place.script(&format!("{EITHER_WAY}{WITH_AGENT}"));
    let failing = format!("# /// hotbed\n# [machines.alice]\n# ///\n{EITHER_WAY}{WITH_AGENT}");
    let line = failing
        .lines()
        .position(|line| line.contains("exit 9"))
        .expect("the line")
        + 1;
    let ended = place.run(&["run", "--quiet", "-o", ".", "test.py"]);
    assert!(ended.stdout.contains("all of it"), "{ended}");
    ended.expect(
        1,
        &[
            &format!("failed: test.py, line {line}: command `exit 9` failed (exit code 9)"),
            "alice: sleep 1001 (pid",
            "is killed: nothing refers to it any more",
        ],
    );
    assert!(place.leftovers().is_empty());
}

#[test]
fn programs_and_files_without_an_agent() {
    let place = Place::new();
    place.script(&format!("{EITHER_WAY}{WITHOUT_AGENT}"));
    let mut command = place.command(&["run", "--quiet", "-o", ".", "test.py"]);
    let ended = crate::support::Ended::of(command.env("HOTBED_AGENT", ""));
    assert!(ended.stdout.contains("all of it"), "{ended}");
    ended.expect(0, &["passed in"]);
}
