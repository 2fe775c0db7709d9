//! Signals end a test quickly and cleanly.

use std::time::{Duration, Instant};

use crate::support::{Place, Running};

/// From Ctrl-C to the exception in the script.
const LATENCY_MAX: Duration = Duration::from_millis(100);

/// Starts a script, sends the signal when it says `ready`, and gives the status and the output.
fn interrupt(place: &Place, body: &str, signal: &str) -> (i32, String) {
    place.script(&format!("import sys, time\n{body}"));
    let mut running = Running::start(&mut place.command(&["run", "test.py"]));
    running.wait_for("ready");
    // Python looks for signals between two steps: one that comes after that look and before the sleep waits for the sleep's end, in
    // any Python program. Nothing shows that the sleep has begun.
    std::thread::sleep(Duration::from_millis(200));
    running.signal(signal);
    running.wait()
}

#[test]
fn ctrl_c_ends_python_that_sleeps_or_runs() {
    for body in [
        "time.sleep(60)",
        "exec('while True: pass')",
        "retry(lambda last: False)",
    ] {
        let place = Place::new();
        let (status, output) = interrupt(&place, &format!("print('ready'); {body}\n"), "INT");
        assert_eq!(status, 130, "{output}");
        for words in [
            "KeyboardInterrupt",
            "test.py\", line 5",
            "interrupted by Ctrl-C (SIGINT) after",
        ] {
            assert!(output.contains(words), "no {words:?} in {output}");
        }
        assert!(place.leftovers().is_empty());
    }
}

/// Defines `latencies(call)`: how long from Ctrl-C to the exception, five times, in milliseconds; sorted.
pub(crate) const LATENCIES: &str = "import os, signal, threading, time\n\
    def latencies(call):\n    \
        found = []\n    \
        for _ in range(5):\n        \
            sent = []\n        \
            def send():\n            \
                sent.append(time.monotonic())\n            \
                os.kill(os.getpid(), signal.SIGINT)\n        \
            timer = threading.Timer(0.3, send)\n        \
            timer.start()\n        \
            try:\n            \
                call()\n        \
            except KeyboardInterrupt:\n            \
                found.append(round(1000 * (time.monotonic() - sent[0])))\n        \
            else:\n            \
                raise AssertionError('it was not interrupted')\n        \
            timer.join()\n    \
        return sorted(found)\n";

/// Checks a line `latencies [1, 2, 3, 4, 5]`: the middle one counts, as a loaded host may be late once.
#[track_caller]
pub(crate) fn check_latencies(output: &str) {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("latencies ["));
    let list = line.expect("latencies").trim_end_matches(']');
    let list: Vec<u128> = list
        .split(", ")
        .map(|ms| ms.parse().expect("a number"))
        .collect();
    println!("from Ctrl-C to the exception: {list:?} ms");
    assert!(list[2] < LATENCY_MAX.as_millis(), "{list:?}");
}

#[test]
fn ctrl_c_is_an_exception_that_comes_quickly_and_may_be_caught() {
    let place = Place::new();
    let ended = place.run_script(&format!(
        "{LATENCIES}print('latencies', latencies(lambda: retry(lambda last: False)))\n"
    ));
    ended.expect(0, &["passed in"]);
    check_latencies(&ended.stdout);
}

#[test]
fn sigterm_and_sighup_run_finally_blocks_and_clean_up() {
    for (name, status) in [("TERM", 143), ("HUP", 129)] {
        let place = Place::new();
        let body = "try:\n    print('ready'); time.sleep(60)\nfinally:\n    print('finally')\n";
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
         threading.Thread(target=retry, args=(lambda last: False,)).start()\nprint('ready'); time.sleep(50)\n",
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
