//! The drop-in `nixos-test-driver`: its command lines, its lines of log, its reports, how it ends.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::{Ended, Place};

const SCRIPT: &str = "with subtest('greeting'):\n    log.info('hello')\n";

/// `nixos-test-driver ARGUMENTS` in a place that has a script and its configuration.
fn driver(place: &Place, arguments: &[&str]) -> Command {
    let program = place.path("nixos-test-driver");
    if !program.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hotbed"), &program).expect("a link");
        place.write("test-script", SCRIPT);
        let config = format!(
            r#"{{"vms":{{}},"containers":{{}},"vlans":[1],"global_timeout":60,"enable_ssh_backdoor":false,"test_script":"{}"}}"#,
            place.path("test-script").display()
        );
        place.write("config.json", &config);
    }
    let named = place.command(arguments);
    let mut command = Command::new(program);
    command.args(named.get_args());
    command.current_dir(named.get_current_dir().expect("a folder"));
    for (key, value) in named.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    for variable in [
        "LOGFILE",
        "logLevel",
        "startScripts",
        "vlans",
        "testScript",
        "globalTimeout",
    ] {
        command.env_remove(variable);
    }
    command.stdin(std::process::Stdio::null());
    command
}

/// The lines of log without colours, and with what differs from run to run made equal.
fn lines(ended: &Ended) -> Vec<String> {
    let mut text = ended.stderr.clone();
    for code in ["\x1b[1m", "\x1b[32m", "\x1b[2m", "\x1b[0m"] {
        text = text.replace(code, "");
    }
    let plain = |line: &str| match line.split_once(char::is_numeric) {
        Some((start, _)) => start.to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(plain).collect()
}

/// The log of the test, with each line up to its first number.
fn expected_lines(keep: &str) -> Vec<String> {
    let reset = format!("Machine state will be reset. To keep it, pass {keep}");
    let rest = [
        "start all VLans",
        "start vlan",
        "running vlan (pid ",
        "(finished: start all VLans, in ",
        "Test will time out and terminate in ",
        "run the VM test script",
        "subtest: greeting",
        "hello",
        "(finished: subtest: greeting, in ",
        "(finished: run the VM test script, in ",
        "test script finished in ",
        "cleanup",
        "kill vlan (pid ",
        "(finished: cleanup, in ",
    ];
    let rest = rest.into_iter().map(str::to_owned);
    std::iter::once(reset).chain(rest).collect()
}

#[test]
fn every_form_of_the_command_line_runs_the_same_test() {
    let place = Place::new();
    let old = [
        "--start-scripts",
        "--vlans",
        "1",
        "--global-timeout",
        "60",
        "test-script",
    ];
    let older_still = driver(&place, &[])
        .env("startScripts", "")
        .env("vlans", "1")
        .env("globalTimeout", "60")
        .env("testScript", "test-script")
        .output()
        .unwrap();
    let by_environment = Ended {
        code: older_still.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&older_still.stderr).into_owned(),
    };
    let forms = [
        Ended::of(&mut driver(&place, &old)),
        by_environment,
        Ended::of(&mut driver(
            &place,
            &[
                "--vm-start-scripts",
                "--container-start-scripts",
                "--vlans=1",
                "--global-t=60",
                "test-script",
            ],
        )),
        Ended::of(&mut driver(&place, &["--config", "config.json"])),
        Ended::of(&mut driver(
            &place,
            &["-c", "config.json", "--test-script", "test-script"],
        )),
    ];
    for (place, ended) in forms.iter().enumerate() {
        ended.expect(
            0,
            &[
                "\x1b[1m\x1b[32msubtest: greeting\x1b[0m\n",
                "test script finished in ",
            ],
        );
        let keep = if place < 3 {
            "--keep-vm-state"
        } else {
            "--keep-machine-state"
        };
        assert_eq!(lines(ended), expected_lines(keep), "{ended}");
    }
    assert!(place.leftovers().is_empty());
}

#[test]
fn tracebacks_call_the_script_a_string_and_show_its_lines() {
    let place = Place::new();
    let mut command = driver(&place, &["-c", "config.json"]);
    place.write(
        "test-script",
        "def check(x):\n    t.assertEqual(x, 2)\n\ncheck(1)\n",
    );
    Ended::of(&mut command).expect(
        1,
        &["\x1b[31m!!! \x1b[0mTraceback (most recent call last):\n\
           \x1b[31m!!! \x1b[0m  File \"<string>\", line 4, in <module>\n\
           \x1b[31m!!! \x1b[0m    check(1)\n\
           \x1b[31m!!! \x1b[0m  File \"<string>\", line 2, in check\n\
           \x1b[31m!!! \x1b[0m    t.assertEqual(x, 2)\n\
           \x1b[31m!!! \x1b[0m\n\
           \x1b[31m!!! \x1b[0mRequestedAssertionFailed: 1 != 2\n"],
    );
    place.write("test-script", "1 / 0\n");
    let ended = Ended::of(driver(&place, &["-c", "config.json"]).env("NO_COLOR", "1"));
    ended.expect(
        1,
        &["  File \"<string>\", line 1, in <module>\nZeroDivisionError"],
    );
    assert!(!ended.stderr.contains('\x1b'), "{ended}");
    place.write(
        "test-script",
        "assert '__file__' not in globals(), __file__\nexit(7)\n",
    );
    Ended::of(&mut driver(&place, &["-c", "config.json"])).expect(7, &[]);
}

#[test]
fn a_test_that_runs_out_of_time_ends_by_sigterm_and_has_its_reports() {
    let place = Place::new();
    let mut command = driver(
        &place,
        &["-c", "config.json", "-o", ".", "--junit", "junit.xml"],
    );
    let config = std::fs::read_to_string(place.path("config.json")).unwrap();
    place.write("config.json", &config.replace(":60,", ":0.5,"));
    place.write(
        "test-script",
        "import time\nwith subtest('slow'):\n    while True: time.sleep(0.1)\n",
    );
    let output = command
        .env("LOGFILE", place.path("log.xml"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGTERM), "{stderr}");
    assert!(
        stderr.contains("timeout reached; test terminating..."),
        "{stderr}"
    );
    let junit = std::fs::read_to_string(place.path("junit.xml")).unwrap();
    assert!(
        junit.contains("<testcase name=\"slow\"") && junit.ends_with("</testsuites>\n"),
        "{junit}"
    );
    let log = std::fs::read_to_string(place.path("log.xml")).unwrap();
    assert!(
        log.contains("<head>subtest: slow</head>") && log.ends_with("</logfile>"),
        "{log}"
    );
    assert!(place.leftovers().is_empty());
}

#[test]
fn reports_tell_of_a_test_that_failed() {
    let place = Place::new();
    let mut command = driver(
        &place,
        &["-o", ".", "--junit-xml", "junit.xml", "test-script"],
    );
    place.write(
        "test-script",
        "with subtest('first'):\n    pass\nwith subtest('second'):\n    t.assertEqual(1, 2)\n",
    );
    Ended::of(command.env("LOGFILE", "/dev/null"))
        .expect(1, &["Test \"second\" failed with error: \"1 != 2\""]);
    let junit = std::fs::read_to_string(place.path("junit.xml")).unwrap();
    assert!(junit.contains("failures=\"2\" tests=\"3\""), "{junit}");
    let order = ["name=\"main\"", "name=\"first\"", "name=\"second\""]
        .map(|name| junit.find(name).unwrap());
    assert!(order.is_sorted(), "{junit}");
}

#[test]
fn what_cannot_be_is_said() {
    let place = Place::new();
    let usage = |arguments: &[&str]| Ended::of(&mut driver(&place, arguments)).code;
    assert_eq!(usage(&[]), Some(2));
    assert_eq!(usage(&["-c", "config.json", "--keep"]), Some(2));
    assert_eq!(usage(&["-c", "config.json", "-o", "nowhere"]), Some(2));
    assert_eq!(usage(&["--help"]), Some(0));
    let says = |arguments: &[&str], words: &str| {
        Ended::of(&mut driver(&place, arguments)).expect(1, &[words]);
    };
    says(&["-c", "nowhere.json"], "cannot read nowhere.json");
    says(
        &["-c", "config.json", "-I"],
        "an interactive session is not supported yet",
    );
    says(
        &[
            "--container-start-scripts",
            "/x",
            "--vlans",
            "1",
            "--",
            "test-script",
        ],
        "containers are not supported yet",
    );
    says(
        &[
            "--start-scripts",
            "/a/run-x-vm",
            "/b/run-x-vm",
            "--vlans",
            "1",
            "--",
            "test-script",
        ],
        "would both be machine \"x\"",
    );
    says(
        &["-c", "config.json", "--junit-xml", "/nowhere/x.xml"],
        "cannot write the report /nowhere/x.xml",
    );
    says(
        &[
            "-c",
            "config.json",
            "--keep-vm-state",
            "--test-script",
            "nowhere",
        ],
        "The flag '--keep-vm-state' is deprecated",
    );
}

#[test]
fn a_start_script_names_and_boots_its_machine() {
    let place = Place::new();
    let mut command = driver(
        &place,
        &[
            "--vlans",
            "1",
            "--start-scripts",
            "bin/run-web-vm",
            "--",
            "test-script",
        ],
    );
    std::fs::create_dir(place.path("bin")).unwrap();
    place.write(
        "test-script",
        "assert web.name == 'web'\nprint('machine:', machine.name)\nweb.start()\n",
    );
    Ended::of(&mut command).expect(
        1,
        &[
            "web: starting vm\n",
            "QEMU process exited with code 127 before connecting to monitor socket",
        ],
    );
}

#[test]
fn the_names_that_a_script_finds_are_listed() {
    let place = Place::new();
    let mut command = driver(
        &place,
        &[
            "--vlans",
            "2",
            "1",
            "--start-scripts",
            "/nowhere/run-web-1-vm",
            "/nowhere/run-db-vm",
            "--",
            "test-script",
        ],
    );
    place.write("test-script", "print('first line of the script')\n");
    let ended = Ended::of(&mut command);
    ended.expect(0, &[]);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "additionally exposed symbols:",
            "    db, web_1,",
            "    vlan1, vlan2,"
        ]
    );
    assert!(
        lines[3].starts_with("    start_all, ") && lines[3].contains(", t, "),
        "{ended}"
    );
    assert_eq!(lines[4..], ["first line of the script"]);
}

#[test]
fn a_machine_finds_the_state_that_it_left_if_that_is_to_be() {
    let place = Place::new();
    let run = |keep: &[&str], script: &str| {
        let scripts = [
            "--vlans",
            "1",
            "--start-scripts",
            "/nowhere/run-web-vm",
            "--",
            "test-script",
        ];
        let mut command = driver(&place, &[keep, &scripts].concat());
        place.write("test-script", script);
        Ended::of(&mut command).expect(0, &[]);
    };
    run(
        &["-K"],
        "assert web.keep_vm_state\n(web.state_dir / 'disk').write_text('x')\n",
    );
    let kept = place.path("run/vm-state-web/disk");
    assert!(kept.exists());
    assert_eq!(place.leftovers(), [place.path("run/vm-state-web")]);
    run(&[], "assert not (web.state_dir / 'disk').exists()\n");
    run(
        &["--keep-vm-state"],
        "t.assertEqual((web.state_dir / 'disk').read_text(), 'x')\n",
    );
}

#[test]
fn a_breakpoint_says_how_to_attach_and_gives_the_debugger_the_script() {
    let place = Place::new();
    let mut command = driver(
        &place,
        &[
            "--debug-hook=/bin/attach",
            "--vlans",
            "1",
            "--",
            "test-script",
        ],
    );
    place.write(
        "remote_pdb.py",
        "class RemotePdb:\n    def __init__(self, host, port): self.at = f'{host}:{port}'\n    \
         def set_trace(self, frame): print('stopped at', self.at, frame.f_code.co_filename, frame.f_lineno)\n",
    );
    place.write("test-script", "debug.breakpoint(port=5)\n1 / 0\n");
    let ended = Ended::of(command.env("PYTHONPATH", place.path(".")));
    ended.expect(
        1,
        &[
            "Breakpoint reached, run 'sudo /bin/attach ",
            "ZeroDivisionError",
        ],
    );
    let stops: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("stopped"))
        .collect();
    assert_eq!(
        stops,
        [
            "stopped at 127.0.0.1:5 <string> 1",
            "stopped at 127.0.0.1:4444 <string> 2"
        ]
    );
}
