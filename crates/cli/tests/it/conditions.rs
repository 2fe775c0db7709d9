//! What a test watches, how it is repeated, and the machines that it makes up on the way.

use crate::support::{Place, Running};

#[test]
fn the_driver_and_its_log_have_what_scripts_ask_for() {
    let place = Place::new();
    let ended = place.run_script(
        r#"
t.assertTrue(driver.machines_qemu == machines_qemu == machines and driver.vlans is vlans)
t.assertTrue(driver.machines_nspawn == machines_nspawn == [] and driver.debug is debug)
t.assertFalse(driver.interactive or driver.keep_machine_state or alice.keep_machine_state or alice.keep_vm_state)
t.assertTrue(driver.tests.startswith('# ///') and isinstance(alice, BaseMachine) and Machine is QemuMachine)
t.assertTrue(issubclass(NspawnMachine, BaseMachine))
t.assertIs(driver.test_symbols()["alice"], alice)
driver.logger.log_test_error("one line of why")
alice.logger.log_serial("shown first", "alice")
driver.serial_stdout_off()
alice.log_serial("hidden")
driver.serial_stdout_on()
serial_stdout_off()
log.log_serial("hidden, too", "alice")
serial_stdout_on()
log.print_serial_logs(False)
alice.log_serial("hidden as well")
log.print_serial_logs(True)
alice.log_serial("shown last")
with log.subtest("outer"), driver.subtest("inner"): pass
debug.breakpoint()
join_all()
driver.join_all()
alice.release()
vlan1.stop()
"#,
    );
    ended.expect(
        0,
        &[
            "one line of why",
            "alice # shown first",
            "alice # shown last",
            "subtest: outer\nsubtest: inner\n",
            "wait for all VMs to finish",
        ],
    );
    assert!(!ended.stderr.contains("hidden"), "{ended}");
}

#[test]
fn a_script_can_be_run_again_with_names_of_its_own() {
    let place = Place::new();
    let ended = place.run_script(
        "if os.environ.get('AGAIN'): print('again', 'seen' in globals())\n\
         else:\n    \
             os.environ['AGAIN'] = '1'\n    \
             seen = True\n    \
             test_script()\n    \
             driver.test_script()\n    \
             run_tests()\n    \
             driver.run_tests()\n",
    );
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, "again False\n".repeat(4));
}

#[test]
fn a_condition_is_waited_for_at_its_interval_and_may_never_hold() {
    let place = Place::new();
    let ended = place.run_script(
        r#"
from datetime import timedelta
from test_driver.polling_condition import PollingConditionError
looks = []

@polling_condition(interval=timedelta(milliseconds=10))
def third():
    "the third look"
    looks.append(1)
    return len(looks) >= 3

third.wait(timeout=60)
t.assertEqual((third.description, len(looks)), ("the third look", 3))
with t.assertRaises(t.failureException): driver.polling_condition(lambda: 1 / 0, description="chaos").wait(timeout_seconds=0.05)
with t.assertRaises(TypeError): third.wait(1, timeout=1)
with polling_condition(lambda: None, description="nothing to say"): driver.check_polling_conditions()
with t.assertRaisesRegex(PollingConditionError, "^Polling condition failed: false$"):
    with polling_condition(lambda: False, description="false") as condition:
        t.assertEqual(driver.polling_conditions, [condition])
        driver.check_polling_conditions()
t.assertEqual(driver.polling_conditions, [])
t.assertTrue(third.check() and len(looks) == 3 or len(looks) == 4)
"#,
    );
    ended.expect(
        0,
        &[
            "waiting for the third look",
            "Checking polling condition 'the third look'",
            "(not called yet)",
            "Time since last: 0.",
            "Polling condition failed: the third look",
            "(the third look failure not fatal yet)",
            "Polling condition succeeded: nothing to say",
            "Last chance for chaos",
        ],
    );
}

#[test]
fn conditions_are_looked_at_before_commands_of_any_machine() {
    let place = Place::new();
    let ended = place.run_script(
        r#"
from test_driver.polling_condition import PollingConditionError
looks, holds = [], True

@polling_condition(seconds_interval=0)
def inside():
    looks.append(alice.succeed("echo looked"))
    return holds

driver.start_all()
with inside:
    t.assertEqual(alice.succeed("echo 1", "echo 2"), "1\n2\n")
    t.assertEqual(looks, ["looked\n"])
    alice.send_monitor_command("info status")
    t.assertEqual(len(looks), 2)
    holds = False
    with t.assertRaises(PollingConditionError): alice.wait_for_file("/")
alice.wait_for_file("/")
t.assertEqual(len(looks), 3)
called = []
alice.callbacks.append(lambda: called.append(1))
alice.run_callbacks()
alice.execute("true")
t.assertEqual(len(called), 2)
"#,
    );
    ended.expect(0, &["passed in"]);
}

#[test]
fn a_machine_is_made_of_a_command_on_the_way() {
    let place = Place::new();
    std::fs::create_dir(place.path("bin")).unwrap();
    let script = place.write("bin/run-other-vm", "#!/bin/sh\necho no luck\nexit 7\n");
    let ended = place.run_script(&format!(
        r#"
import stat
from test_driver.errors import MachineError
os.chmod({script:?}, 0o700)
other = create_machine({script:?}, keep_machine_state=True)
t.assertEqual((other.name, other in machines, other.start_command), ("other", False, {script:?}))
with t.assertRaisesRegex(MachineError, "exited with code 7(.|\\n)*no luck"): other.start()
(other.state_dir / "disk").touch()
driver.create_machine({script:?}, keep_machine_state=True)
t.assertTrue((other.state_dir / "disk").exists())
create_machine({script:?})
t.assertFalse((other.state_dir / "disk").exists())
(other.state_dir / "disk").touch()
other.cleanup_statedir()
t.assertEqual(list(other.state_dir.iterdir()), [])
with t.assertRaisesRegex(ValueError, "there is a machine"): create_machine("qemu", name="alice")
"#
    ));
    ended.expect(
        0,
        &["other: deleting machine state directory ", "passed in"],
    );
}

#[test]
fn a_script_can_end_the_test_as_its_timeout_does() {
    let place = Place::new();
    place.script("driver.terminate_test()\nprint('not reached')\n");
    let (status, said) = Running::start(&mut place.command(&["run", "test.py"])).wait();
    assert_eq!(status, 143, "{said}");
    assert!(
        said.contains("timeout reached; test terminating..."),
        "{said}"
    );
    assert!(!said.contains("not reached"), "{said}");
}
