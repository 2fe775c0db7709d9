//! `nixos-test-driver`: the command lines, logs and exit codes of the NixOS test driver.
//!
//! This program is that one when it is called by its name. What differs from `hotbed run` is the outside only: the script is
//! `<string>` in tracebacks, there is no verdict in words, every failure is status 1, and a test that runs out of time ends by
//! SIGTERM. Lines carry colours even in a pipe, as users of the original expect of its logs; `NO_COLOR` turns them off.

mod arguments;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anstream::eprintln;
use hotbed_driver::log::report::junit::{Form, JunitReport};
use hotbed_driver::log::report::xml::XmlReport;
use hotbed_driver::log::{Colours, Level};
use hotbed_driver::{AtTimeout, Log, Options, TestConfig, Testbed};
use hotbed_python::{Interpreter, Outcome, RunRequest, Script, Signal};
use owo_colors::OwoColorize;

use crate::report::{self, Exit};
use arguments::{Common, Config, Lists, Machines};

/// What the script is called in tracebacks.
const SCRIPT: &str = "<string>";

/// Whether the program was called by that name.
pub(crate) fn is_called(program: Option<&OsStr>) -> bool {
    program
        .map(Path::new)
        .and_then(Path::file_name)
        .is_some_and(|name| name == "nixos-test-driver")
}

/// Runs a test as the command line says.
pub(crate) fn run(arguments: &[OsString]) -> Exit {
    match Driver::new(arguments).and_then(|driver| driver.run()) {
        Ok(exit) | Err(exit) => exit,
    }
}

struct Driver {
    config: TestConfig,
    common: Common,
    keep_state: bool,
    log: Arc<Log>,
}

impl Driver {
    fn new(arguments: &[OsString]) -> Result<Self, Exit> {
        let arguments = arguments::parse(arguments);
        let common = arguments.common;
        let log = Arc::new(Log::stderr(colours()));
        let (form, level, keep_state, hint) = match &arguments.machines {
            Machines::Lists(lists) => (
                Form::ByCase,
                Level::Info,
                lists.keep_vm_state,
                "--keep-vm-state",
            ),
            Machines::Config(config) => (
                Form::BySuite,
                config.log_level.into(),
                config.keep_machine_state || config.keep_vm_state,
                "--keep-machine-state",
            ),
        };
        add_reports(&log, &common, form)?;
        log.set_level(level);
        if matches!(&arguments.machines, Machines::Config(config) if config.keep_vm_state) {
            warn_deprecated(
                "The flag '--keep-vm-state' is deprecated. Use '--keep-machine-state' instead.",
            );
        }
        if !keep_state {
            log.info(&format!(
                "Machine state will be reset. To keep it, pass {hint}"
            ));
        }
        let config = match arguments.machines {
            Machines::Lists(lists) => from_lists(lists),
            Machines::Config(config) => from_file(&config),
        }?;
        let not_yet = [
            (common.interactive, "an interactive session"),
            (
                config.ssh_backdoor,
                "the SSH backdoor (enable_ssh_backdoor)",
            ),
        ];
        if let Some((_, what)) = not_yet.into_iter().find(|(is_wanted, _)| *is_wanted) {
            report::problem(format_args!("{what} is not supported yet"));
            return Err(Exit::TestFailed);
        }
        Ok(Self {
            config,
            common,
            keep_state,
            log,
        })
    }

    fn run(&self) -> Result<Exit, Exit> {
        let source = read(&self.config.script)?;
        let argv = [self.config.script.clone().into_os_string()];
        let interpreter = Interpreter::start(&argv).map_err(|error| failed(&error))?;
        let script = Script::compile_text(&interpreter, SCRIPT, &source);
        let script = script.map_err(|error| match error {
            hotbed_python::Error::Syntax(text) => {
                eprintln!("{text}");
                Exit::TestFailed
            }
            error => failed(&error),
        })?;
        let mut options = Options::default();
        options.out_dir.clone_from(&self.common.output_directory);
        options.finds_state = self.keep_state;
        // Start scripts do not begin from snapshots; the original has no line that says so.
        options.cold = true;
        let testbed = Testbed::new(self.config.clone(), options, Arc::clone(&self.log));
        let testbed = testbed.map_err(|error| failed(&error))?;
        let request = RunRequest {
            script: &script,
            text: &String::from_utf8_lossy(&source),
            testbed: &testbed,
            lists_symbols: true,
            debug_hook: self.common.debug_hook_attach.as_deref(),
            at_timeout: AtTimeout::Kill,
            on_timeout: end_at_timeout(&testbed),
        };
        let outcome = hotbed_python::run(&interpreter, request);
        testbed.stop();
        hotbed_python::flush();
        Ok(close_reports(&self.log).unwrap_or(match outcome {
            Outcome::Passed => Exit::Success,
            Outcome::Failed(_) | Outcome::TimedOut(_) | Outcome::HostFailed(_) => Exit::TestFailed,
            Outcome::Exited(status) => Exit::Script(status),
            Outcome::Interrupted(signal) => Exit::Signal(signal),
        }))
    }
}

/// As the original: always, but for who asked for none.
fn colours() -> Colours {
    match std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        true => Colours::Never,
        false => Colours::Always,
    }
}

fn add_reports(log: &Log, common: &Common, form: Form) -> Result<(), Exit> {
    if let Some(path) = std::env::var_os("LOGFILE") {
        let report = XmlReport::create(Path::new(&path)).map_err(|error| failed(&error))?;
        log.add_report(Box::new(report));
    }
    if let Some(path) = &common.junit_xml {
        let folder = common.output_directory.clone().unwrap_or_default();
        let report = JunitReport::create(&folder.join(path), form);
        log.add_report(Box::new(report.map_err(|error| failed(&error))?));
    }
    Ok(())
}

/// Ends the reports; the exit code when one could not be written.
fn close_reports(log: &Log) -> Option<Exit> {
    let errors = log.close_reports().err()?;
    for error in errors {
        report::error(&error);
    }
    Some(Exit::TestFailed)
}

fn from_lists(lists: Lists) -> Result<TestConfig, Exit> {
    let listed = |given: Option<Vec<String>>, variable: &str| {
        given.unwrap_or_else(|| {
            let value = std::env::var(variable).unwrap_or_default();
            value.split_whitespace().map(str::to_owned).collect()
        })
    };
    let containers = listed(lists.container_start_scripts, "containerStartScripts");
    if !containers.is_empty() {
        report::problem(
            "containers are not supported yet: the test has start scripts of containers",
        );
        return Err(Exit::TestFailed);
    }
    let mut scripts = listed(lists.start_scripts, "startScripts");
    scripts.extend(listed(lists.vm_start_scripts, "vmStartScripts"));
    let vlans = listed(lists.vlans, "vlans");
    let timeout = lists.global_timeout.map(Duration::from_secs);
    TestConfig::from_start_scripts(&scripts, &vlans, timeout, lists.test_script)
        .map_err(|error| failed(&error))
}

fn from_file(config: &Config) -> Result<TestConfig, Exit> {
    let text = read(&config.config)?;
    let text = String::from_utf8_lossy(&text);
    let mut test =
        TestConfig::from_json_file(&config.config, &text).map_err(|error| failed(&error))?;
    if let Some(script) = &config.test_script {
        test.script.clone_from(script);
    }
    Ok(test)
}

/// What is done when the test runs out of time: the script may hang, so the process ends here.
fn end_at_timeout(testbed: &Arc<Testbed>) -> Box<dyn FnOnce(Option<String>) + Send> {
    let testbed = Arc::clone(testbed);
    Box::new(move |_| {
        testbed.stop();
        let _ = close_reports(testbed.log());
        Exit::Signal(Signal::TERMINATE).end_process();
    })
}

/// As Python's warnings look there.
fn warn_deprecated(message: &str) {
    let kind = "??? Warning (DeprecationWarning):".bright_yellow();
    eprintln!("{kind} {message}");
}

fn failed(error: &dyn std::error::Error) -> Exit {
    report::error(error);
    Exit::TestFailed
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Exit> {
    std::fs::read(path).map_err(|error| {
        report::problem(format_args!("cannot read {}: {error}", path.display()));
        Exit::TestFailed
    })
}
