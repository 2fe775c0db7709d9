//! Windows, consoles, forwarded ports and roots of guests that have stand-ins for the programs that are asked.

use std::process::Stdio;

use crate::support::{Ended, Place};

/// Puts a program into the guest.
const PROGRAM: &str = "def program(name, text):\n    \
     alice.write_text(f'/bin/{name}', '#!/bin/sh\\n' + text, mode=0o755)\n";

#[test]
fn windows_and_the_graphical_session_are_waited_for() {
    let place = Place::new();
    place.script(&format!(
        r#"{PROGRAM}
program("xwininfo", 'echo "Root window id: 0x1"; echo "   0x400003 \\"Terminal 1\\": ()"; echo "   0x2 \\"Mail\\": ()"')
program("journalctl", "[ ! -e /tmp/up ] || echo Reached target Current graphical")
t.assertEqual(alice.get_window_names(), ["Terminal 1", "Mail"])
alice.wait_for_window("^Term")
with t.assertRaises(t.failureException): alice.wait_for_window("Browser", timeout=1)
with t.assertRaises(t.failureException): alice.wait_for_x(timeout=1)
alice.succeed("mkdir -p /tmp/.X11-unix; touch /tmp/.X11-unix/X0 /tmp/up")
alice.wait_for_x()
"#
    ));
    let ended = place.run(&["run", "test.py"]);
    ended.expect(0, &[
        "passed in",
        "waiting for a window to appear",
        "Last chance to match Browser on the window list, which currently contains: Terminal 1, Mail",
        "waiting for the X11 server",
    ]);
}

#[test]
fn standard_input_goes_to_the_console_to_its_end() {
    let place = Place::new();
    place.script(
        r#"
read = "(exec </dev/hvc1; touch /tmp/ready; read -r x; echo $x >/tmp/1; read -r y; echo $y >/tmp/2) >/dev/null 2>&1 &"
alice.execute(read)
alice.wait_for_file("/tmp/ready")
alice.send_console("first\n")
alice.wait_for_file("/tmp/1")
alice.console_interact()
alice.wait_for_file("/tmp/2")
t.assertEqual(alice.succeed("cat /tmp/1 /tmp/2"), "first\nsecond\n")
t.assertIn("connecting to host...", alice.full_console_log)
for path in [alice.monitor_path, alice.qmp_path, alice.shell_path]: t.assertTrue(path.is_socket(), path)
t.assertEqual(alice.efi_vars_path.name, "alice-efi-vars.fd")
"#,
    );
    let input = place.write("input", "second\n");
    let mut command = place.command(&["run", "test.py"]);
    command.stdin(Stdio::from(std::fs::File::open(input).unwrap()));
    let ended = Ended::of(&mut command);
    ended.expect(
        0,
        &[
            "passed in",
            "Terminal is ready (there is no prompt):",
            "Closing connection to the console",
        ],
    );
}

#[test]
fn a_port_is_forwarded_through_a_user_mode_card() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.alice]\n# qemu_args = [\"-netdev\", \"user,id=u\", \"-device\", \"virtio-net-pci,netdev=u\"]\n\
         # [machines.bob]\n# ///\n\
         import socket\n\
         from test_driver.errors import MachineError\n\
         with socket.socket() as free:\n    \
             free.bind(('127.0.0.1', 0))\n    \
             port = free.getsockname()[1]\n    \
             with t.assertRaisesRegex(MachineError, 'alice does not forward'): alice.forward_port(port)\n\
         alice.forward_port(host_port=port, guest_port=81)\n\
         t.assertRegex(alice.send_monitor_command('info usernet'), rf'TCP.HOST_FORWARD. .*{port}.* 81 ')\n\
         with t.assertRaises(MachineError): bob.forward_port()\n",
    );
    place
        .run(&["run", "--quiet", "test.py"])
        .expect(0, &["passed in"]);
}

/// Runs a script whose machine has no agent, and a `systemctl` that does for one kind of command what `case` says.
fn run_with_systemctl(case: &str, script: &str) -> Ended {
    let place = Place::new();
    place.write(
        "test.py",
        &format!(
            "# /// hotbed\n# [machines.alice]\n# agent = false\n# ///\n{PROGRAM}\
             program('systemctl', 'case \"$*\" in *show*) echo ActiveState=active ;; {case} esac')\n{script}"
        ),
    );
    place.run(&["run", "test.py"])
}

#[test]
fn the_shell_behind_another_root_is_waited_for() {
    let ended = run_with_systemctl(
        r#"*isolate*) echo "Spawning backdoor root shell..." >/dev/hvc0 ;;"#,
        "alice.switch_root()\nalice.succeed('true')\n",
    );
    ended.expect(0, &["passed in", "waiting for unit initrd.target"]);
    let booted = "waiting for the VM to finish booting\n";
    assert_eq!(ended.stderr.matches(booted).count(), 2, "{ended}");
}

#[test]
fn units_are_asked_after_by_systemctl_where_there_is_no_agent() {
    let ended = run_with_systemctl(
        r#"*) echo "asked to $*" ;;"#,
        r#"
t.assertEqual(alice.systemctl("cat x.service"), (0, "asked to cat x.service\n"))
t.assertEqual(alice.get_unit_info("x.service"), {"ActiveState": "active"})
alice.wait_for_job("x.service")
alice.require_unit_state("x.service")
with t.assertRaisesRegex(t.failureException, "to be in state 'failed' but it is in state 'active'"):
    alice.require_unit_state("x.service", require_state="failed")
with t.assertRaisesRegex(t.failureException, "timed out"): alice.wait_for_open_unix_socket("/tmp/none", timeout=1)
"#,
    );
    ended.expect(
        0,
        &["passed in", "waiting for UNIX-domain stream on '/tmp/none'"],
    );
}

#[test]
fn events_of_qemu_come_one_by_one_and_a_guest_boots_again() {
    let place = Place::new();
    place.script(
        r#"
alice.start(allow_reboot=True)
boot = "cat /proc/sys/kernel/random/boot_id"
first = alice.succeed(boot)
alice.copy_from_vm("/proc/version", "old")
t.assertIn("Linux", (driver.out_dir / "old" / "version").read_text())
alice.qmp_client.send("stop")
alice.qmp_client.send("cont")
names = []
while "STOP" not in names: names.append(alice.qmp_client.wait_for_event(timeout=60)["event"])
while "RESUME" not in names: names += [event["event"] for event in alice.qmp_client.events(timeout=1)]
t.assertLess(names.index("STOP"), names.index("RESUME"))
with t.assertRaises(TimeoutError):
    while True: alice.qmp_client.wait_for_event(timeout=0.1)
alice.reboot()
t.assertNotEqual(alice.succeed(boot), first)
"#,
    );
    let ended = place.run(&["run", "-o", ".", "test.py"]);
    ended.expect(0, &["passed in", "sending key 'ctrl-alt-delete'"]);
}
