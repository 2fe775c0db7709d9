//! Scripts find what a plain `python3` gives them.

use std::process::Command;

use crate::support::{Ended, ONE_MACHINE, Place};

/// What a script sees of its surroundings.
const SURROUNDINGS: &str = "import os, sys\n\
    print(sys.argv, os.getcwd(), __file__, __name__, sys.path, sys.executable, sys.prefix, sys.flags)\n\
    print(os.environ.get('FLAVOUR'), sys.modules['__main__'].__dict__ is globals(), __spec__, type(__loader__))\n\
    print(sys.stdout.encoding, sys.stdout.errors, sys.getfilesystemencoding(), sys.orig_argv[-2:])\n";

#[test]
fn arguments_environment_and_directory_are_those_of_plain_python() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).expect("a folder");
    place.write("sub/test.py", &format!("{ONE_MACHINE}{SURROUNDINGS}"));
    let arguments = ["sub/test.py", "--timeout", "ü", "-x", "a b", ""];
    let mut ours = place.command(&["run"]);
    let mut plain = Command::new("/usr/bin/python3");
    plain.current_dir(place.path(""));
    plain.env_remove("VIRTUAL_ENV").env_remove("PYTHONPATH");
    let [ours, plain] = [&mut ours, &mut plain].map(|command| {
        command.args(arguments).env("FLAVOUR", "vanilla");
        command.env("PYTHONPATH", "/somewhere:/else");
        Ended::of(command).stdout
    });
    assert_eq!(ours, plain);
    assert!(ours.contains("--timeout"), "{ours}");
}

#[test]
fn a_virtual_environment_counts() {
    let place = Place::new();
    let venv = place.path("venv");
    let made = Command::new("/usr/bin/python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(&venv)
        .output()
        .expect("python3 runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut packages = std::fs::read_dir(venv.join("lib")).expect("lib");
    let packages = packages
        .next()
        .expect("one")
        .expect("entry")
        .path()
        .join("site-packages");
    std::fs::write(packages.join("only_here.py"), "flavour = 'venv'\n").expect("a module");
    place.script("import only_here, sys\nprint(only_here.flavour, sys.prefix, sys.executable)\n");
    let mut command = place.command(&["run", "test.py"]);
    let ended = Ended::of(command.env("VIRTUAL_ENV", &venv));
    let venv = venv.display();
    assert_eq!(
        ended.stdout,
        format!("venv {venv} {venv}/bin/python3\n"),
        "{ended}"
    );
}

#[test]
fn another_python_first_in_the_path_changes_nothing() {
    let place = Place::new();
    place.script("import os, sys\nprint(sys.executable, os.__file__.startswith('/usr/lib/'))\n");
    std::fs::create_dir(place.path("bin")).expect("a folder");
    std::os::unix::fs::symlink("/bin/false", place.path("bin/python3")).expect("a link");
    let mut command = place.command(&["run", "test.py"]);
    command.env(
        "PATH",
        format!("{}:/usr/bin:/bin", place.path("bin").display()),
    );
    assert_eq!(Ended::of(&mut command).stdout, "/usr/bin/python3 True\n");
}

#[test]
fn modules_beside_the_test_are_found_and_see_the_machines() {
    let place = Place::new();
    place.write(
        "helper.py",
        "from test_driver.script import alice\nfrom test_driver.machine import QemuMachine\n\
         def kind() -> str:\n    return f'{alice!r} {isinstance(alice, QemuMachine)}'\n",
    );
    let ended = place.run_script("import helper\nprint(helper.kind())\n");
    ended.expect(0, &[]);
    assert_eq!(ended.stdout, "<QemuMachine 'alice'> True\n");
}

#[test]
fn sys_exit_is_honoured() {
    let place = Place::new();
    for (argument, code) in [
        ("", 0),
        ("None", 0),
        ("0", 0),
        ("7", 7),
        ("256", 0),
        ("-1", 255),
        ("True", 1),
    ] {
        let ended = place.run_script(&format!("import sys\nsys.exit({argument})\n"));
        assert_eq!(ended.code, Some(code), "{argument}: {ended}");
        assert_eq!(ended.stderr.contains("passed in"), code == 0, "{ended}");
    }
    place
        .run_script("import sys\nsys.exit('enough')\n")
        .expect(1, &["enough\n", "failed:"]);
}

#[test]
fn output_is_complete_and_in_order_in_a_pipe() {
    let place = Place::new();
    let ended = place.run_script(
        "import atexit, sys\natexit.register(print, 'at exit')\n\
         print('one')\nprint('two', end='')\nprint(' three', file=sys.stderr, end='')\n",
    );
    ended.expect(0, &[" three"]);
    assert_eq!(ended.stdout, "one\ntwoat exit\n");
}

#[test]
fn threads_are_waited_for_and_exit_functions_run_after_them() {
    let place = Place::new();
    let ended = place.run_script(
        "import atexit, threading, time\natexit.register(print, 'exit')\n\
         threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\nprint('main')\n",
    );
    ended.expect(0, &[]);
    assert_eq!(ended.stdout, "main\nthread\nexit\n");
}

#[test]
fn a_forked_child_ends_alone() {
    let place = Place::new();
    let ended = place.run_script(
        "import os\npid = os.fork()\n\
         if pid:\n    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n    \
             assert alice.state_dir.is_dir()\n    print('parent')\n\
         else:\n    print('child')\n",
    );
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, "child\nparent\n");
    assert_eq!(ended.stderr.matches("passed in").count(), 1, "{ended}");
}

#[test]
fn processes_of_multiprocessing_work() {
    let place = Place::new();
    let ended = place.run_script(
        "import multiprocessing\n\nif __name__ == '__main__':\n    for way in ['fork', 'spawn']:\n        \
             with multiprocessing.get_context(way).Pool(2) as pool:\n            \
                 print(way, pool.map(len, ['a', 'bb']))\n",
    );
    ended.expect(0, &["passed in"]);
    assert_eq!(ended.stdout, "fork [1, 2]\nspawn [1, 2]\n");
}
