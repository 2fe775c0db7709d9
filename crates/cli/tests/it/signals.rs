//! Signals end a test quickly and cleanly.

use std::time::{Duration, Instant};

use crate::support::{Place, Running};

/// From Ctrl-C to the exception in the script.
const LATENCY_MAX: Duration = Duration::from_millis(100);

/// Starts a script that says `ready` and then does `body`, sends the signal, and gives the status and the output.
fn interrupt(place: &Place, body: &str, signal: &str) -> (i32, String) {
    place.script(&format!("import sys, time\nprint('ready')\n{body}"));
    let mut running = Running::start(&mut place.command(&["run", "test.py"]));
    running.wait_for("ready");
    running.signal(signal);
    running.wait()
}

#[test]
fn ctrl_c_ends_python_that_sleeps_or_runs() {
    for body in [
        "time.sleep(60)\n",
        "while True:\n    pass\n",
        "retry(lambda last: False)\n",
    ] {
        let place = Place::new();
        let (status, output) = interrupt(&place, body, "INT");
        assert_eq!(status, 130, "{output}");
        assert!(output.contains("KeyboardInterrupt"), "{output}");
        assert!(output.contains("test.py\", line "), "{output}");
        assert!(
            output.contains("interrupted by Ctrl-C (SIGINT) after"),
            "{output}"
        );
        assert!(place.leftovers().is_empty());
    }
}

#[test]
fn ctrl_c_is_an_exception_that_the_script_may_catch() {
    let body = "try:\n    retry(lambda last: False)\nexcept KeyboardInterrupt:\n    print('caught', time.time())\n";
    let place = Place::new();
    place.script(&format!("import time\nprint('ready')\n{body}"));
    let mut running = Running::start(&mut place.command(&["run", "test.py"]));
    running.wait_for("ready");
    let sent = std::time::SystemTime::now();
    running.signal("INT");
    let (status, output) = running.wait();
    assert_eq!(status, 0, "{output}");
    let caught = output.lines().find_map(|line| line.strip_prefix("caught "));
    let caught: f64 = caught.expect("it was caught").parse().expect("a time");
    let sent = sent
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let latency = caught - sent.as_secs_f64();
    println!("Ctrl-C to exception: {:.0} ms", latency * 1000.0);
    assert!(latency < LATENCY_MAX.as_secs_f64(), "{latency} s");
}

#[test]
fn sigterm_and_sighup_run_finally_blocks_and_clean_up() {
    for (name, status) in [("TERM", 143), ("HUP", 129)] {
        let place = Place::new();
        let body = "try:\n    time.sleep(60)\nfinally:\n    print('finally')\n";
        let (ended, output) = interrupt(&place, body, name);
        assert_eq!(ended, status, "{output}");
        assert!(output.contains("finally"), "{output}");
        assert!(
            output.contains(&format!("interrupted by SIG{name}")),
            "{output}"
        );
        assert!(!output.contains("Traceback"), "{output}");
        assert!(place.leftovers().is_empty());
    }
}

#[test]
fn a_signal_does_not_wait_for_threads() {
    let place = Place::new();
    let begin = Instant::now();
    let (status, output) = interrupt(
        &place,
        "import threading\nthreading.Thread(target=time.sleep, args=(50,)).start()\n\
         threading.Thread(target=retry, args=(lambda last: False,)).start()\ntime.sleep(50)\n",
        "INT",
    );
    assert_eq!(status, 130, "{output}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{output}");
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let place = Place::new();
    place.script("import os, signal\nfor n in [signal.SIGINT, signal.SIGHUP]:\n    os.kill(os.getpid(), n)\nprint('alive')\n");
    let shell = format!(
        "trap '' INT HUP; exec {} run test.py",
        env!("CARGO_BIN_EXE_hotbed")
    );
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", &shell])
        .current_dir(place.path(""))
        .env("XDG_RUNTIME_DIR", place.path("run"));
    let (status, output) = Running::start(&mut command).wait();
    assert_eq!(status, 0, "{output}");
    assert!(output.contains("alive"), "{output}");
}
