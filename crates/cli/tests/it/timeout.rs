//! The global timeout ends everything.

use std::time::{Duration, Instant};

use crate::support::Place;

#[test]
fn a_script_that_hangs_in_python_is_ended_and_its_line_named() {
    for body in [
        "print('before', end='')\nwhile True: pass\n",
        "print('before', end='')\nimport time; time.sleep(60)\n",
    ] {
        let place = Place::new();
        place.script(body);
        let begin = Instant::now();
        let ended = place.run(&["run", "--timeout", "1", "test.py"]);
        assert!(begin.elapsed() < Duration::from_secs(30), "{ended}");
        ended.expect(
            1,
            &[
                "failed: the test ran out of time at test.py, line 5",
                "alice",
            ],
        );
        assert_eq!(ended.stdout, "before");
        assert!(place.leftovers().is_empty(), "{:?}", place.leftovers());
    }
}

#[test]
fn a_script_that_does_not_let_others_run_is_ended() {
    let place = Place::new();
    // One long bytecode: no other thread can have the interpreter meanwhile.
    place.script("x = 3 ** 300_000_000\n");
    let begin = Instant::now();
    let ended = place.run(&["run", "--timeout", "1", "test.py"]);
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}: {ended}",
        begin.elapsed()
    );
    ended.expect(1, &["failed: the test ran out of time"]);
}

#[test]
fn the_head_has_a_timeout_too_and_the_command_line_goes_before_it() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# timeout = 1\n# [machines.a]\n# ///\nimport time; time.sleep(2)\n",
    );
    place
        .run(&["run", "test.py"])
        .expect(1, &["failed: the test ran out of time"]);
    place
        .run(&["run", "--timeout", "30", "test.py"])
        .expect(0, &["passed in "]);
}
