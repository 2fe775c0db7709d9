//! What the tests share: a testbed of one fake or real machine, and a log that can be read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hotbed_driver::config::{MachineConfig, MachineKind};
use hotbed_driver::machine::Execute;
use hotbed_driver::{AgentProgram, Call, Error, Log, Machine, Never, Options, TestConfig, Testbed};

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// Longer than what is waited for takes.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// Shorter than what is waited for in vain.
pub(crate) const SHORT: Duration = Duration::from_millis(600);

/// The words of an unmet demand.
#[track_caller]
pub(crate) fn test_failure<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::TestFailed(message)) => message,
        other => panic!("not a failure of the test: {other:?}"),
    }
}

/// Whether there is an agent for guests; says so when a test does without.
pub(crate) fn has_agent() -> bool {
    let found = matches!(AgentProgram::find(None), Ok(AgentProgram::Found(_)));
    if !found {
        eprintln!("SKIPPED: there is no agent: `cargo xtask demo` builds it");
    }
    found
}

/// A sink for a log.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        if std::env::var_os("HOTBED_TEST_LOG").is_some() {
            std::io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A testbed in a directory of its own, both gone at the end.
pub(crate) struct Bed {
    pub(crate) testbed: Arc<Testbed>,
    pub(crate) sink: Sink,
    pub(crate) directory: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn new(config: TestConfig) -> Self {
        Self::with(config, Options::default())
    }

    /// With a cache or a QEMU of its own, or so that all machines boot from power-on.
    pub(crate) fn with(config: TestConfig, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            out_dir: Some(directory.path().to_owned()),
            temporary_root: Some(directory.path().to_owned()),
            ..options
        };
        let sink = Sink::default();
        let log = Arc::new(Log::to(Box::new(sink.clone()), false));
        Self {
            testbed: Testbed::new(config, options, log).unwrap(),
            sink,
            directory,
        }
    }

    /// One machine called `m`, which is a fake QEMU that behaves like that.
    pub(crate) fn fake(behaviour: &str) -> Self {
        Self::new(fake_config(&[("m", behaviour)]))
    }

    pub(crate) fn m(&self) -> &Machine {
        &self.testbed.machines()[0]
    }

    pub(crate) fn log(&self) -> String {
        self.testbed.log().flush();
        self.sink.text()
    }
}

/// A test with fake machines, by name and behaviour.
pub(crate) fn fake_config(machines: &[(&str, &str)]) -> TestConfig {
    let machine = |(number, (name, behaviour)): (u8, &(&str, &str))| MachineConfig {
        clone_of: None,
        name: (*name).to_owned(),
        number,
        vlans: Vec::new(),
        kind: MachineKind::StartScript(format!("{} {behaviour}", example("fake_qemu").display())),
        agent: true,
    };
    TestConfig {
        machines: (1..).zip(machines).map(machine).collect(),
        vlans: vec![1],
        global_timeout: None,
        boot_timeout: LONG,
        script: PathBuf::from("it.py"),
        ssh_backdoor: false,
    }
}

/// An example of this crate, which `cargo test` builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.exists(),
        "build the examples first: cargo test -p hotbed-driver --no-run"
    );
    program
}

/// A call that ends in time for the test to fail clearly.
pub(crate) fn call() -> Call<'static> {
    call_for(LONG)
}

pub(crate) fn call_for(duration: Duration) -> Call<'static> {
    Call {
        until: Some(Instant::now() + duration),
        interrupt: &Never,
    }
}

/// What a command wrote, and its status.
pub(crate) fn run(machine: &Machine, command: &str) -> (i32, String) {
    let output = machine
        .execute(command, &Execute::default(), &call())
        .unwrap();
    (output.status, output.text().into_owned())
}

/// How long something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// By the clock.
    pub(crate) clock: Duration,
    /// Of that, while some process of the host waited for a processor: a host that is busy otherwise proves nothing.
    pub(crate) starved: Duration,
}

impl Took {
    /// Fails when it took longer, on a host that had the time.
    #[track_caller]
    pub(crate) fn at_most(self, bound: Duration) {
        assert!(
            self.clock.saturating_sub(self.starved) <= bound,
            "{self:?} is more than {bound:?}"
        );
    }

    /// Fails when it took less.
    #[track_caller]
    pub(crate) fn at_least(self, bound: Duration) {
        assert!(self.clock >= bound, "{self:?} is less than {bound:?}");
    }
}

/// How long processes of this host have waited for a processor; not known everywhere.
fn starved() -> Duration {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = pressure
        .lines()
        .next()
        .and_then(|some| some.rsplit('=').next()?.parse().ok());
    Duration::from_micros(total.unwrap_or_default())
}

/// The value, and how long it took to come.
pub(crate) fn timed<T>(body: impl FnOnce() -> T) -> (T, Took) {
    let (begin, before) = (Instant::now(), starved());
    let value = body();
    let clock = begin.elapsed();
    (
        value,
        Took {
            clock,
            starved: starved().saturating_sub(before),
        },
    )
}

/// Waits until something is so, and says whether it became so.
pub(crate) fn eventually(within: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !so() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Sends a signal to all of a process group.
pub(crate) fn signal_group(leader: u32, signal: &str) {
    let kill = format!("kill -s {signal} -- -{leader}");
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}
