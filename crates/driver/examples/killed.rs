//! A driver that is killed: starts a testbed of fake machines, says what it started, and waits to be killed.
//!
//! `killed DIRECTORY FAKE-QEMU`
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hotbed_driver::config::{MachineConfig, MachineKind};
use hotbed_driver::log::Colours;
use hotbed_driver::{Call, Log, Options, TestConfig, Testbed};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (directory, fake) = (
        arguments.next().map(PathBuf::from),
        arguments.next().unwrap_or_default(),
    );
    let machine = |(number, behaviour): (u8, &str)| MachineConfig {
        clone_of: None,
        name: behaviour.to_owned(),
        number,
        vlans: Vec::new(),
        kind: MachineKind::StartScript(format!("{fake} {behaviour}")),
        agent: true,
    };
    let config = TestConfig {
        machines: (1..)
            .zip(["children", "guest", "silent"])
            .map(machine)
            .collect(),
        vlans: vec![1, 2],
        global_timeout: None,
        boot_timeout: Duration::from_secs(60),
        script: PathBuf::from("killed.py"),
        ssh_backdoor: false,
    };
    let options = Options {
        out_dir: directory.clone(),
        temporary_root: directory,
        ..Options::default()
    };
    let testbed =
        Testbed::new(config, options, Arc::new(Log::stderr(Colours::Never))).expect("a testbed");
    testbed
        .start_all(&Call::unlimited())
        .expect("fake machines start");
    println!("{}", testbed.directory().display());
    let _ = testbed.machines()[0].succeed(&["sleep 1000"], None, &Call::unlimited());
}
