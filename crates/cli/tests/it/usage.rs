//! Bad input: one clear message, the right exit code, nothing booted.

use crate::support::{Ended, ONE_MACHINE, Place};

/// Runs a test file with this head (without comment signs).
fn run_head(head: &str) -> Ended {
    let place = Place::new();
    let lines: String = head.lines().map(|line| format!("# {line}\n")).collect();
    place.write(
        "test.py",
        &format!("# /// hotbed\n{lines}# ///\nprint('ran')\n"),
    );
    let ended = place.run(&["run", "test.py"]);
    assert!(!ended.stdout.contains("ran"), "{ended}");
    assert!(place.leftovers().is_empty());
    ended
}

#[test]
fn no_arguments_explain_themselves() {
    Place::new().run(&[]).expect(2, &["Usage: hotbed"]);
    Place::new()
        .run(&["run"])
        .expect(2, &["FILE.py", "Usage: hotbed run"]);
}

#[test]
fn unknown_options_and_commands_are_named() {
    Place::new()
        .run(&["run", "--tiemout", "3", "x.py"])
        .expect(2, &["--tiemout", "--timeout"]);
    Place::new().run(&["rnu"]).expect(2, &["rnu"]);
}

#[test]
fn a_timeout_is_a_number_above_zero() {
    for wrong in ["0", "-1", "soon", "NaN", "inf", "1e300"] {
        let option = format!("--timeout={wrong}");
        Place::new()
            .run(&["run", &option, "x.py"])
            .expect(2, &["--timeout", "number of seconds"]);
    }
}

#[test]
fn an_output_directory_must_be_there() {
    let place = Place::new();
    place.script("");
    place
        .run(&["run", "-o", "nowhere", "test.py"])
        .expect(2, &["nowhere is not a directory"]);
}

#[test]
fn a_test_file_that_is_not_there_is_named() {
    Place::new()
        .run(&["run", "nowhere.py"])
        .expect(2, &["cannot read nowhere.py", "No such file"]);
}

#[test]
fn a_test_file_and_a_configuration_exclude_each_other() {
    let place = Place::new();
    place.script("");
    place
        .run(&["run", "--config", "x.json", "test.py"])
        .expect(2, &["cannot be used with"]);
    place
        .run(&["run", "--test-script", "x.py", "test.py"])
        .expect(2, &["--test-script"]);
}

#[test]
fn a_file_without_a_head_is_told_how_to_write_one() {
    let place = Place::new();
    place.write("test.py", "print('ran')\n");
    place
        .run(&["run", "test.py"])
        .expect(2, &["test.py", "no head", "# /// hotbed"]);
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one() {
    run_head("[machines.a]\nimgae = \"micro\"").expect(2, &["test.py:3", "imgae", "image"]);
}

#[test]
fn an_unknown_image_gets_the_nearest_known_one() {
    run_head("[machines.a]\nimage = \"debain\"").expect(2, &["test.py:3", "debain", "debian"]);
}

#[test]
fn a_machine_name_is_valid_and_there_once() {
    run_head("[machines.a-b]\n[machines.a_b]").expect(2, &["test.py:", "a-b", "a_b"]);
    run_head("[machines.a]\n[machines.a]").expect(2, &["test.py:3"]);
    run_head("[machines.\"a/b\"]").expect(2, &["test.py:2", "a/b"]);
}

#[test]
fn a_vlan_is_from_1_to_255() {
    run_head("[machines.a]\nvlans = [256]").expect(2, &["test.py:3", "256", "1 to 255"]);
    run_head("[machines.a]\nvlans = [0]").expect(2, &["test.py:3", "1 to 255"]);
}

#[test]
fn more_than_254_machines_are_too_many() {
    let head: String = (0..255).map(|n| format!("[machines.m{n}]\n")).collect();
    run_head(&head).expect(2, &["255 machines", "254"]);
}

#[test]
fn a_kernel_that_is_not_there_is_named() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.a]\n# kernel = \"/nowhere/bzImage\"\n# ///\na.start()\n",
    );
    place
        .run(&["run", "test.py"])
        .expect(3, &["/nowhere/bzImage"]);
    assert!(place.leftovers().is_empty());
}

#[test]
fn a_missing_qemu_is_named_with_what_to_do() {
    let place = Place::new();
    place.script("alice.start()\n");
    let mut command = place.command(&["run", "test.py"]);
    let ended = Ended::of(command.env("HOTBED_QEMU", "/nowhere/qemu-system-x86_64"));
    ended.expect(
        3,
        &["/nowhere/qemu-system-x86_64", "package `qemu-system-x86`"],
    );
    assert!(place.leftovers().is_empty());
}

#[test]
fn a_syntax_error_shows_before_anything_boots() {
    let place = Place::new();
    let ended = place.run_script("print('ran')\nx = (1\n");
    ended.expect(
        1,
        &[
            "test.py\", line 5",
            "x = (1\n        ^",
            "SyntaxError: '(' was never closed",
            "failed:",
            "nothing was booted",
        ],
    );
    assert_eq!(ended.stdout, "");
    assert!(place.leftovers().is_empty());
}

#[test]
fn text_that_is_not_python_at_all_is_a_syntax_error() {
    let place = Place::new();
    place.run_script("\0").expect(1, &["null bytes", "failed:"]);
    let mut bytes = ONE_MACHINE.as_bytes().to_vec();
    bytes.extend(b"print('\xff')\n");
    std::fs::write(place.path("test.py"), bytes).expect("a file");
    place
        .run(&["run", "test.py"])
        .expect(1, &["SyntaxError", "line 4", "failed:"]);
}

#[test]
fn json_that_is_wrong_names_the_place() {
    let place = Place::new();
    place.write("bad.json", "{ \"vms\": { \"a\": ");
    place
        .run(&["run", "--config", "bad.json"])
        .expect(2, &["bad.json:1"]);
    place.write("bad.json", r#"{"vms": {"a": {"name": "a"}}, "containers": {}, "vlans": [1], "global_timeout": 5, "enable_ssh_backdoor": false, "test_script": "/x"}"#);
    place
        .run(&["run", "--config", "bad.json"])
        .expect(2, &["bad.json", "vms.a", "start_script"]);
    place
        .run(&["run", "--config", "nowhere.json"])
        .expect(2, &["cannot read nowhere.json"]);
}

#[test]
fn a_configuration_names_its_script_and_the_command_line_another() {
    let place = Place::new();
    let one = place.write("one.py", "import sys; print('one', sys.argv)\n");
    place.write("two.py", "print('two', machine.name)\n");
    let config = format!(
        r#"{{"vms": {{"a": {{"name": "a", "start_script": "/nowhere/run-a-vm"}}}}, "containers": {{}}, "vlans": [1], "global_timeout": 60, "enable_ssh_backdoor": false, "test_script": "{}"}}"#,
        one.display()
    );
    place.write("c.json", &config);
    let ended = place.run(&["run", "--config", "c.json"]);
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, format!("one ['{}']\n", one.display()));
    let ended = place.run(&["run", "-c", "c.json", "--test-script", "two.py"]);
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, "two a\n");
}
