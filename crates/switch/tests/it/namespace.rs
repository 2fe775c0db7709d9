//! Network namespaces that a test makes for itself: it runs itself again in a fresh one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Running, have};

/// Set for a test that runs in a namespace of its own.
const INSIDE: &str = "HOTBED_TEST_NAMESPACE";

/// Tells whether the caller, the test `name`, is in a network namespace of its own. If it is not, it has been run in one,
/// and passed; or that is not possible here, and this was said.
pub(crate) fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshared = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]).args(arguments);
        command.env(INSIDE, "1");
        command
    };
    if !have("unshare", "--version") || !have("ip", "-Version") {
        return false;
    }
    let probe = "ip link set lo up && exec 3<>/dev/net/tun";
    let probed = unshared(&["bash", "-c", probe]).output().unwrap();
    if !probed.status.success() {
        let why = String::from_utf8_lossy(&probed.stderr);
        println!("SKIPPED: no network namespace with a tap can be made here: {why}");
        return false;
    }
    let test = std::env::current_exe().unwrap();
    let test = test.to_str().unwrap();
    let output = unshared(&[test, "--exact", name, "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in its namespace:\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Runs a program in the caller's namespace.
pub(crate) fn run(line: &str) {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}`: {why}");
}

/// Another namespace, which lives as long as this.
pub(crate) struct Other(Running);

impl Other {
    pub(crate) fn make() -> Other {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "bash", "-c", "echo ready; read"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut line = String::new();
        let stdout = running.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Other(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// Runs a program there.
    pub(crate) fn run(&self, line: &str) {
        let line = line.replace('\'', r"'\''");
        run(&format!(
            "nsenter --target {} --net bash -c '{line}'",
            self.pid()
        ));
    }
}
