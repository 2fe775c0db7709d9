//! The last lines: what happened, where, and where to look.

use crate::support::{FIRST_LINE, Place};

#[test]
fn a_test_that_passes_says_so_last() {
    let place = Place::new();
    let ended = place.run_script("print('hello')\n");
    ended.expect(0, &["run the VM test script", "test script finished in "]);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("passed in ") && last.ends_with(" s"),
        "{ended}"
    );
    assert_eq!(ended.stdout, "hello\n");
    assert!(place.leftovers().is_empty());
}

#[test]
fn an_unmet_demand_shows_the_lines_of_the_test_only() {
    let place = Place::new();
    let ended = place.run_script("def check(x):\n    t.assertEqual(x, 2, 'odd')\n\ncheck(1)\n");
    let file = place.path("test.py");
    let file = file.display();
    let expected = format!(
        "!!! Traceback (most recent call last):\n\
         !!!   File \"{file}\", line {}, in <module>\n\
         !!!     check(1)\n\
         !!!   File \"{file}\", line {}, in check\n\
         !!!     t.assertEqual(x, 2, 'odd')\n\
         !!! \n\
         !!! RequestedAssertionFailed: 1 != 2 : odd\n",
        FIRST_LINE + 3,
        FIRST_LINE + 1
    );
    assert!(ended.stderr.contains(&expected), "{ended}");
    ended.expect(1, &["failed: test.py, line 5: 1 != 2 : odd (after "]);
    assert!(!ended.stderr.contains("unittest"), "{ended}");
    assert!(
        !ended.stderr.contains("(finished: run the VM test script"),
        "{ended}"
    );
}

#[test]
fn other_exceptions_show_as_in_plain_python() {
    let place = Place::new();
    let ended = place.run_script("def f():\n    1 / 0\nf()\n");
    let file = place.path("test.py");
    let file = file.display();
    let expected = format!(
        "Traceback (most recent call last):\n  File \"{file}\", line 6, in <module>\n    f()\n  \
         File \"{file}\", line 5, in f\n    1 / 0\n"
    );
    assert!(ended.stderr.contains(&expected), "{ended}");
    ended.expect(
        1,
        &[
            "ZeroDivisionError: division by zero\n",
            "failed: test.py, line 5: ZeroDivisionError",
        ],
    );
}

#[test]
fn a_failed_subtest_is_named() {
    let place = Place::new();
    let ended = place.run_script(
        "with subtest('first'):\n    pass\nwith subtest('second'):\n    assert 1 == 2, 'no'\n",
    );
    ended.expect(
        1,
        &[
            "subtest: first\n",
            "(finished: subtest: first, in 0.0",
            "subtest: second\n",
            "!!! Test \"second\" failed with error: \"no\"\n",
            "failed: test.py, line 7: AssertionError: no",
        ],
    );
    assert!(
        !ended.stderr.contains("(finished: subtest: second"),
        "{ended}"
    );
}

#[test]
fn an_error_that_is_caught_is_no_failure() {
    let place = Place::new();
    let ended = place.run_script(
        "from test_driver.errors import MachineError, RequestedAssertionFailed\n\
         try:\n    t.assertTrue(False)\nexcept RequestedAssertionFailed as error:\n    print(error)\n\
         try:\n    raise MachineError('m')\nexcept MachineError:\n    pass\n",
    );
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, "False is not true\n");
}

#[test]
fn a_logged_error_ends_the_test() {
    Place::new()
        .run_script("log.error('no way')\nprint('on')\n")
        .expect(1, &["no way", "failed:"]);
}

#[test]
fn levels_are_honoured() {
    let place = Place::new();
    place.script("log.debug('d1'); log.info('i1'); log.warning('w1')\nlog.set_log_level('debug')\nlog.debug('d2')\n");
    let ended = place.run(&["run", "--log-level", "warning", "test.py"]);
    ended.expect(0, &["w1\n", "d2\n"]);
    assert!(
        !ended.stderr.contains("d1") && !ended.stderr.contains("i1"),
        "{ended}"
    );
}

#[test]
fn blocks_nest_with_the_machine_named() {
    Place::new()
        .run_script("with alice.nested('outer'), log.nested('inner'):\n    alice.log('hello')\n")
        .expect(0, &["alice: outer\ninner\nalice: hello\n(finished: inner, in 0.00 seconds)\nalice: (finished: outer, in 0.00 seconds)\n"]);
}
