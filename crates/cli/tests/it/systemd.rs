//! With a guest that runs systemd: units, users' units, the journal, and several waits at once.

use crate::support::{FIRST_LINE, Place, has_agent};

/// The script; it has one machine with systemd.
const SCRIPT: &str = r#"
m = alice
m.wait_for_unit("multi-user.target")
units = {
    "late": "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'sleep 1; systemd-notify --ready; exec sleep 1000'\n",
    "once": "[Service]\nType=oneshot\nExecStart=/bin/sleep 1\n",
    "wrong": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 1; exit 3'\n",
    "talker": "[Service]\nExecStart=/bin/sh -c 'echo begun; sleep 1; echo ready-42; exec sleep 1000'\n",
}
for name, text in units.items():
    for folder in ["system", "user"]: m.write_text(f"/etc/systemd/{folder}/{name}.service", text)
# What pam_systemd would do, which the image has not.
m.write_text("/etc/systemd/system/user@.service.d/directory.conf", "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
m.succeed("useradd --create-home --uid 1234 bob", "systemctl daemon-reload")
m.systemctl("start --no-block user@1234")
m.wait_for_unit("default.target", user="bob", timeout=120)

def start(*names, user=None):
    status, output = m.systemctl("start --no-block " + " ".join(names), user)
    t.assertEqual((status, output), (0, ""))

for user in [None, "bob"]:
    start("late", "once", "wrong", user=user)
    with m.parallel() as p:
        p.wait_for_unit("late.service", user=user, timeout=120)
        p.wait_for_unit("once.service", user=user, timeout=120, state="finished")
        p.wait_for_unit("wrong.service", user=user, timeout=120, state="failed")
    info = m.get_unit_info("once.service", user)
    t.assertEqual((info["ActiveState"], info["Result"]), ("inactive", "success"))
    with t.assertRaisesRegex(t.failureException, "unit .wrong.service. reached state .failed."): m.wait_for_unit("wrong.service", user=user)
    m.systemctl("stop late", user)
    m.wait_for_unit("late.service", user=user, state="inactive", timeout=120)
with t.assertRaises(t.failureException): m.wait_for_unit("late.service", user="nobody-of-that-name", timeout=5)

start("talker")
with m.parallel() as p:
    line = p.wait_for_journal(r"ready-\d+", unit="talker.service", timeout=120)
    anywhere = p.wait_for_journal("ready-4[0-9]$", timeout=120)
t.assertEqual(line.result(), "ready-42")
t.assertIn("ready-42", anywhere.result())
t.assertEqual(m.wait_for_journal("^begun$", unit="talker.service", timeout=120), "begun")
with t.assertRaises(t.failureException): m.wait_for_journal("ready", unit="late.service", timeout=1)
with t.assertRaises(ValueError): m.wait_for_journal("(", timeout=120)

print("the last of it")
with m.parallel() as p:
    p.wait_for_unit("wrong.service")
    p.wait_for_journal("no such line", timeout=1)
    p.succeed("sleep 2; echo all the same > /tmp/trace")
"#;

#[test]
fn units_of_root_and_of_users_and_the_journal_are_waited_for_at_once() {
    if !has_agent() {
        return;
    }
    let place = Place::new();
    let head = "# /// hotbed\n# [machines.alice]\n# image = \"debian\"\n# ///\n";
    place.write("test.py", &format!("{head}{SCRIPT}"));
    let place_of = |word: &str| SCRIPT.lines().position(|line| line.contains(word));
    let line = FIRST_LINE + 1 + place_of("p.wait_for_unit(\"wrong.service\")").expect("the line");
    let ended = place.run(&["run", "--quiet", "--timeout", "300", "test.py"]);
    assert!(ended.stdout.contains("the last of it"), "{ended}");
    ended.expect(
        1,
        &[
            &format!("failed: test.py, line {line}: unit \"wrong.service\" "),
            "alice: also failed: ",
        ],
    );
    assert!(place.leftovers().is_empty());
}
