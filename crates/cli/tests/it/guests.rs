//! With real guests: micro machines, which boot in seconds.

use std::time::{Duration, Instant};

use crate::signals::{LATENCIES, check_latencies};
use crate::support::{Place, Running, eventually};

const TWO_MACHINES: &str = "# /// hotbed\n# [machines.alice]\n# [machines.bob]\n# ///\n";

#[test]
fn threads_drive_two_machines_at_once() {
    let place = Place::new();
    place.write(
        "test.py",
        &format!(
            "{TWO_MACHINES}import threading, time\n\
             start_all()\nalice.connect()\nbob.connect()\n\
             assert alice.booted and alice.connected and alice.is_up() and alice.pid\n\
             seen = []\n\
             # One after the other, either would wait for the other for ever.\n\
             work = {{\n  alice: 'nc -l -p 1234 </dev/null; hostname',\n  \
                 bob: 'sleep 1; until echo hi | nc alice 1234; do sleep 0.1; done; hostname',\n}}\n\
             def run(machine):\n    seen.append(machine.succeed(work[machine], timeout=60))\n\
             threads = [threading.Thread(target=run, args=(m,)) for m in machines]\n\
             for thread in threads: thread.start()\n\
             ticks = 0\n\
             while any(thread.is_alive() for thread in threads):\n    time.sleep(0.01)\n    ticks += 1\n\
             print(sorted(seen), ticks)\n\
             assert ticks > 20, 'the GIL was held'\n"
        ),
    );
    let ended = place.run(&["run", "--quiet", "test.py"]);
    ended.expect(0, &["passed in", "alice: must succeed: nc -l"]);
    assert!(
        ended.stdout.starts_with("['bob\\n', 'hi\\nalice\\n'] "),
        "{ended}"
    );
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}

#[test]
fn methods_of_a_machine_give_what_the_nixos_driver_gives() {
    let place = Place::new();
    place.write("file", "from the host\n");
    place.script(
        "from datetime import timedelta\n\
         from subprocess import TimeoutExpired\n\
         from test_driver.machine.qmp import QMPAPIError\n\
         m = alice\n\
         m.start(allow_reboot=False)\n\
         t.assertEqual(m.execute('echo hi; exit 3'), (3, 'hi\\n'))\n\
         t.assertEqual(m.execute('echo hi', check_return=False), (-1, 'hi\\n'))\n\
         t.assertEqual(m.execute('true', check_output=False), (-2, ''))\n\
         t.assertEqual(m.execute('sleep 9', timeout=timedelta(seconds=1))[0], 124)\n\
         t.assertEqual(m.succeed('echo a', 'echo b'), 'a\\nb\\n')\n\
         t.assertEqual(m.fail('echo c; false'), 'c\\n')\n\
         t.assertEqual(m.wait_until_succeeds('echo d', timeout=5), 'd\\n')\n\
         m.wait_until_fails('false')\n\
         with t.assertRaisesRegex(t.failureException, r'^command `false` failed \\(exit code 1\\)$'): m.succeed('false')\n\
         with t.assertRaisesRegex(t.failureException, '^command `true` unexpectedly succeeded$'): m.fail('true')\n\
         with t.assertRaises(t.failureException): m.wait_for_file('/nowhere', timeout=1)\n\
         m.copy_from_host('file', '/root/copied')\n\
         m.copy_from_host_via_shell('file', '/root/typed')\n\
         t.assertEqual(m.succeed('cat /root/copied /root/typed'), 'from the host\\n' * 2)\n\
         m.copy_from_machine('/root/copied', 'results')\n\
         t.assertEqual((driver.out_dir / 'results' / 'copied').read_text(), 'from the host\\n')\n\
         t.assertTrue(m.qmp_client.send('query-status')['return']['running'])\n\
         with t.assertRaises(QMPAPIError) as caught: m.qmp_client.send('no-such-command', {'a': [1]})\n\
         t.assertEqual(caught.exception.class_name, 'CommandNotFound')\n\
         m.qmp_client.send('stop')\n\
         t.assertEqual(m.wait_for_qmp_event(lambda e: e['event'] == 'STOP', timeout=5)['event'], 'STOP')\n\
         m.qmp_client.send('cont')\n\
         with t.assertRaises(ZeroDivisionError): m.wait_for_qmp_event(lambda e: 1 / 0, timeout=5)\n\
         t.assertIn('running', m.send_monitor_command('info status'))\n\
         m.execute('echo hello console >&2')\n\
         m.wait_for_console_text('hello con.ole', timeout=10)\n\
         with t.assertRaises(t.failureException): m.wait_for_console_text('never', timeout=1)\n\
         t.assertIn('hello console', m.get_console_log())\n\
         with t.assertRaises(TimeoutExpired): m.wait_for_shutdown(timeout=1)\n\
         t.assertIn('qemu', m.start_command)\n\
         m.shutdown()\n\
         assert not m.booted and m.pid is None\n\
         m.start()\n\
         m.succeed('true')\n\
         m.crash()\n\
         m.crash()\n\
         m.wait_for_shutdown()\n",
    );
    place
        .run(&["run", "-o", ".", "--quiet", "test.py"])
        .expect(0, &["passed in"]);
    let log = std::fs::read_to_string(place.path("alice.console.log")).expect("a console log");
    assert!(log.contains("hello console"), "{log}");
}

#[test]
fn a_fork_is_rolled_back_also_after_an_exception_and_a_checkpoint_has_a_name() {
    let place = Place::new();
    place.script(
        "with t.assertRaisesRegex(ValueError, 'nowhere'): testbed.rollback('nowhere')\n\
         with t.assertRaises(ValueError): alice.restore('nowhere')\n\
         alice.succeed('echo 1 > /tmp/x')\n\
         fork = testbed.fork()\n\
         with t.assertRaises(ZeroDivisionError), fork:\n    \
             alice.succeed('echo 2 > /tmp/x')\n    \
             with t.assertRaises(RuntimeError), fork: pass\n    \
             t.assertEqual(len(testbed.checkpoints()), 1)\n    \
             1 / 0\n\
         t.assertEqual(alice.succeed('cat /tmp/x'), '1\\n')\n\
         with testbed.fork(), testbed.fork(): alice.succeed('echo 3 > /tmp/x')\n\
         t.assertEqual(alice.succeed('cat /tmp/x'), '1\\n')\n\
         t.assertEqual(testbed.checkpoints(), [])\n\
         testbed.checkpoint('one')\n\
         t.assertEqual((testbed.forget('one'), testbed.forget('one'), testbed.checkpoints()), (True, False, []))\n\
         alice.snapshot('two')\n\
         t.assertEqual((alice.forget_snapshot('two'), alice.forget_snapshot('two')), (True, False))\n",
    );
    let ended = place.run(&["run", "--quiet", "test.py"]);
    ended.expect(0, &["passed in"]);
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}

#[test]
fn a_cold_run_has_nothing_to_do_with_snapshots() {
    let place = Place::new();
    place.script("alice.succeed('true')\n");
    let hot = place.run(&["run", "--quiet", "test.py"]);
    hot.expect(0, &["passed in", "snapshot"]);
    let cold = place.run(&["run", "--quiet", "--cold", "test.py"]);
    cold.expect(0, &["passed in", "QEMU running"]);
    assert!(!cold.stderr.contains("snapshot"), "{cold}");
}

#[test]
fn ctrl_c_ends_a_call_that_waits_for_a_guest() {
    let place = Place::new();
    let ended = place.run_script(&format!(
        "{LATENCIES}alice.connect()\n\
         print('latencies', latencies(lambda: alice.execute('sleep 1')))\n\
         print('latencies', latencies(lambda: alice.wait_for_console_text('never')))\n\
         t.assertEqual(alice.succeed('echo still here'), 'still here\\n')\n"
    ));
    ended.expect(0, &["passed in"]);
    for line in ended.stdout.lines() {
        check_latencies(line);
    }
}

#[test]
fn a_signal_while_a_machine_boots_leaves_nothing() {
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        place.script("alice.connect()\n");
        let mut running = Running::start(&mut place.command(&["run", "--cold", "test.py"]));
        running.wait_for("QEMU running");
        let begin = Instant::now();
        running.signal(name);
        let (ended, output) = running.wait();
        assert_eq!(ended, status, "{output}");
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?} {output}",
            begin.elapsed()
        );
        assert!(place.leftovers().is_empty(), "{output}");
        assert_eq!(place.processes(), Vec::<String>::new());
    }
}

#[test]
fn a_killed_hotbed_leaves_nothing() {
    let place = Place::new();
    place.script("alice.connect()\nprint('ready')\nalice.execute('sleep 60')\n");
    let mut running = Running::start(&mut place.command(&["run", "test.py"]));
    running.wait_for("ready");
    assert!(
        place
            .processes()
            .iter()
            .any(|process| process.contains("qemu"))
    );
    running.signal("KILL");
    eventually(Duration::from_secs(1), "all is gone", || {
        place.processes().is_empty() && place.leftovers().is_empty()
    });
    let (status, _) = running.wait();
    assert_eq!(status, 137);
}

#[test]
fn a_failed_command_says_what_where_and_which_log() {
    let place = Place::new();
    place.script("alice.succeed('echo out; echo err >&2; exit 3')\n");
    let ended = place.run(&["run", "-o", ".", "test.py"]);
    ended.expect(
        1,
        &[
            "alice: output: out",
            "!!! RequestedAssertionFailed: command `echo out; echo err >&2; exit 3` failed (exit code 3)",
            "failed: test.py, line 4: command `echo out; echo err >&2; exit 3` failed (exit code 3) (after",
            "console of alice: ",
            "alice.console.log",
        ],
    );
    assert!(place.path("alice.console.log").is_file());
}

#[test]
fn a_qemu_that_exits_at_once_is_quoted() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.a]\n# qemu_args = [\"-nonsense\"]\n# ///\na.start()\n",
    );
    let ended = place.run(&["run", "test.py"]);
    ended.expect(
        3,
        &[
            "-nonsense: invalid option",
            "failed: test.py, line 5: QEMU",
            "connecting to monitor socket: qemu-system-x86_64: -nonsense: invalid option (after",
        ],
    );
    assert!(place.leftovers().is_empty());
}

#[test]
fn a_guest_that_never_reaches_its_shell_shows_its_last_lines() {
    let place = Place::new();
    // An init that does nothing but read the console.
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.a]\n# log = \"uart\"\n# qemu_args = [\"-append\", \"console=ttyS0 rdinit=/bin/cat\"]\n# ///\n\
         a.succeed('true')\n",
    );
    let begin = Instant::now();
    let ended = place.run(&["run", "--boot-timeout", "15", "test.py"]);
    assert!(begin.elapsed() < Duration::from_secs(60), "{ended}");
    ended.expect(
        1,
        &[
            "Shell did not start in time: a has not reached it 15 s after it was waited for",
            "the last lines of its console:",
            "Run /bin/cat as init process",
            "failed: test.py, line 6: ",
        ],
    );
}

#[test]
fn the_timeout_says_what_each_machine_was_doing() {
    let place = Place::new();
    place.write(
        "test.py",
        &format!("{TWO_MACHINES}alice.connect()\nprint('ready')\ntry:\n    alice.succeed('sleep 61')\nfinally:\n    print('no time left')\n"),
    );
    let begin = Instant::now();
    let ended = place.run(&["run", "--timeout", "25", "test.py"]);
    assert!(begin.elapsed() < Duration::from_secs(32), "{ended}");
    ended.expect(
        1,
        &[
            "sleep 61",
            "bob",
            "failed: the test ran out of time at test.py, line 8 (after 25.",
        ],
    );
    assert!(place.leftovers().is_empty());
    assert_eq!(place.processes(), Vec::<String>::new());
}
