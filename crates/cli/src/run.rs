//! `hotbed run`: a test, from its file to the verdict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anstream::eprintln;
use hotbed_driver::config::MachineKind;
use hotbed_driver::control::Server;
use hotbed_driver::log::Colours;
use hotbed_driver::log::report::junit::{Form, JunitReport};
use hotbed_driver::{AtTimeout, Log, Options, TestConfig, Testbed};
use hotbed_image::LogConsole;
use hotbed_python::{Interpreter, Outcome, RunRequest, Script};
use owo_colors::OwoColorize;

use crate::arguments::{AtFailure, RunOptions};
use crate::image;
use crate::keep;
use crate::report::{self, Exit};

/// Runs a test and says how it ended.
pub(crate) fn run(options: RunOptions) -> Exit {
    let start = now();
    let test = match Test::read(options) {
        Ok(test) => test,
        Err(exit) => return exit,
    };
    let (interpreter, script, note) = match test.compile() {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let testbed = match test.set_up() {
        Ok(testbed) => testbed,
        Err(exit) => return exit,
    };
    let control = test.listen(&testbed);
    let ready = image::prepare(&testbed, &interpreter).and_then(|()| test.begin(&testbed, &note));
    let exit = match ready {
        Ok(()) => {
            let outcome = hotbed_python::run(
                &interpreter,
                RunRequest {
                    script: &script,
                    text: &test.text,
                    testbed: &testbed,
                    debug_hook: None,
                    lists_symbols: false,
                    at_timeout: test.at_timeout(),
                    on_timeout: match test.at_timeout() {
                        AtTimeout::Kill => end_at_timeout(&testbed, start),
                        AtTimeout::Keep => keep_at_timeout(&testbed, start),
                    },
                },
            );
            end(&test, &testbed, &interpreter, outcome, start.elapsed())
        }
        Err(exit) => exit,
    };
    drop(control);
    match close_reports(testbed.log()) {
        Err(report_exit) if exit == Exit::Success => report_exit,
        _ => exit,
    }
}

/// Ends the log and its reports.
fn close_reports(log: &Log) -> Result<(), Exit> {
    log.close_reports().map_err(|errors| {
        for error in errors {
            report::error(&error);
        }
        Exit::HostFailed
    })
}

/// Ends a test whose script has ended, and says how it did.
fn end(
    test: &Test,
    testbed: &Arc<Testbed>,
    interpreter: &Interpreter,
    outcome: Outcome,
    elapsed: Duration,
) -> Exit {
    if outcome == Outcome::TimedOut(None) {
        keep::ended("a signal");
        testbed.stop();
        return Exit::TestFailed;
    }
    let has_failed = !matches!(outcome, Outcome::Passed | Outcome::Interrupted(_));
    if has_failed && test.options.at_failure == Some(AtFailure::Keep) {
        let exit = judge(testbed, outcome, elapsed);
        if keep::announce(testbed, elapsed, exit) {
            keep::wait(interpreter);
        }
        testbed.stop();
        return exit;
    }
    testbed.stop();
    hotbed_python::flush();
    judge(testbed, outcome, elapsed)
}

/// A test as the command line and its files describe it.
struct Test {
    config: TestConfig,
    /// `sys.argv`: the script and its arguments.
    argv: Vec<OsString>,
    /// The script's bytes: Python finds out how they are encoded.
    source: Vec<u8>,
    /// The same as text.
    text: String,
    options: RunOptions,
}

impl Test {
    fn read(options: RunOptions) -> Result<Self, Exit> {
        let (config, argv) = match &options.config {
            Some(path) => {
                let config = TestConfig::from_json_file(path, &read_text(path)?);
                let config = config.map_err(|error| usage(&error))?;
                let script = options.test_script.as_ref().unwrap_or(&config.script);
                let argv = vec![script.clone().into_os_string()];
                (config, argv)
            }
            None => {
                let path = PathBuf::from(options.script.first().cloned().unwrap_or_default());
                let config = TestConfig::from_python_file(&path, &read_text(&path)?);
                (
                    config.map_err(|error| usage(&error))?,
                    options.script.clone(),
                )
            }
        };
        let script = PathBuf::from(argv.first().cloned().unwrap_or_default());
        let source = read(&script)?;
        let mut test = Self {
            config: TestConfig { script, ..config },
            argv,
            text: String::from_utf8_lossy(&source).into_owned(),
            source,
            options,
        };
        test.apply_options();
        Ok(test)
    }

    fn apply_options(&mut self) {
        let options = &self.options;
        let config = &mut self.config;
        config.global_timeout = options.timeout.or(config.global_timeout);
        config.boot_timeout = options.boot_timeout.unwrap_or(config.boot_timeout);
        for machine in &mut config.machines {
            if let MachineKind::Image(image) = &mut machine.kind
                && options.serial
            {
                image.log = LogConsole::Uart;
            }
        }
    }

    fn at_timeout(&self) -> AtTimeout {
        match self.options.at_failure {
            Some(AtFailure::Keep) => AtTimeout::Keep,
            None => AtTimeout::Kill,
        }
    }

    /// Starts Python and compiles the script: what is wrong with it shows before anything boots.
    /// What comes with the script says what of it is skipped.
    fn compile(&self) -> Result<(Interpreter, Script, String), Exit> {
        let host_failed = |error: hotbed_python::Error| {
            report::error(&error);
            Exit::HostFailed
        };
        let interpreter = Interpreter::start(&self.argv).map_err(host_failed)?;
        let (path, source) = (&self.config.script, &self.source);
        let script = match &self.options.from_checkpoint {
            Some(name) => Script::compile_from(&interpreter, path, source, name),
            None => Script::compile(&interpreter, path, source).map(|it| (it, String::new())),
        };
        match script {
            Ok((script, note)) => Ok((interpreter, script, note)),
            Err(error @ hotbed_python::Error::Checkpoint(_)) => {
                report::error(&error);
                Err(Exit::Usage)
            }
            Err(hotbed_python::Error::Syntax(text)) => {
                eprintln!("{text}");
                let name = self.config.script.display();
                verdict_failed(&format!("{name} is not valid Python; nothing was booted"));
                Err(Exit::TestFailed)
            }
            Err(error) => Err(host_failed(error)),
        }
    }

    /// Has the machines ready for the script: at the checkpoint that it begins at, or about to be started.
    fn begin(&self, testbed: &Testbed, note: &str) -> Result<(), Exit> {
        let Some(name) = &self.options.from_checkpoint else {
            testbed.prestart();
            return Ok(());
        };
        image::before_script(testbed, |call| testbed.resume(name, call))?;
        testbed.log().info(note);
        Ok(())
    }

    /// Lets `hotbed shell` in.
    fn listen(&self, testbed: &Arc<Testbed>) -> Option<Server> {
        let files = [Some(&self.config.script), self.options.config.as_ref()];
        let files: Vec<&Path> = files.into_iter().flatten().map(PathBuf::as_path).collect();
        match Server::start(testbed, &files) {
            Ok(server) => Some(server),
            Err(error) => {
                let why = error.chain();
                testbed
                    .log()
                    .warning(&format!("`hotbed shell` will not find this test: {why}"));
                None
            }
        }
    }

    fn set_up(&self) -> Result<Arc<Testbed>, Exit> {
        let log = Arc::new(Log::stderr(Colours::Auto));
        log.set_level(self.options.log_level.into());
        log.print_serial_logs(!self.options.quiet);
        if let Some(path) = &self.options.junit_xml {
            let report = JunitReport::create(path, Form::BySuite).map_err(|error| {
                report::error(&error);
                Exit::Usage
            })?;
            log.add_report(Box::new(report));
        }
        let mut options = Options::default();
        options.out_dir.clone_from(&self.options.output_directory);
        options.keep_state = self.options.keep_machine_state;
        options.cold = self.options.cold;
        options.snapshots.clone_from(&self.options.snapshots);
        options.keep_checkpoints = self.options.keep_checkpoints;
        Testbed::new(self.config.clone(), options, log).map_err(|error| {
            report::error(&error);
            Exit::HostFailed
        })
    }
}

/// Says how the test ended, and where to look when it did not pass.
fn judge(testbed: &Testbed, outcome: Outcome, elapsed: Duration) -> Exit {
    testbed.log().flush();
    let seconds = format!("{:.1} s", elapsed.as_secs_f64());
    let (what, exit) = match outcome {
        Outcome::Passed => {
            eprintln!("{} in {seconds}", "passed".green().bold());
            return Exit::Success;
        }
        Outcome::Interrupted(signal) => {
            let verdict = "interrupted".yellow().bold().to_string();
            eprintln!("{verdict} by {} after {seconds}", signal.name());
            return Exit::Signal(signal);
        }
        Outcome::Exited(status) => (
            format!("the script ended with status {status} after {seconds}"),
            Exit::Script(status),
        ),
        Outcome::Failed(summary) => (format!("{summary} (after {seconds})"), Exit::TestFailed),
        Outcome::TimedOut(summary) => (
            format!("{} (after {seconds})", summary.unwrap_or_default()),
            Exit::TestFailed,
        ),
        Outcome::HostFailed(summary) => (
            format!("{summary} (after {seconds}; Hotbed or this host failed, not the test)"),
            Exit::HostFailed,
        ),
    };
    verdict_failed(&what);
    name_console_logs(testbed);
    exit
}

/// What is done when the test runs out of time: the script may hang, so the process ends here.
fn end_at_timeout(
    testbed: &Arc<Testbed>,
    start: Instant,
) -> Box<dyn FnOnce(Option<String>) + Send> {
    let testbed = Arc::clone(testbed);
    Box::new(move |place| {
        testbed.stop();
        testbed.log().flush();
        verdict_out_of_time(&testbed, place.as_deref(), start);
        // The test has failed either way.
        let _ = close_reports(testbed.log());
        Exit::TestFailed.end_process();
    })
}

/// What is done then if the machines are to be kept, and the script does not end.
fn keep_at_timeout(
    testbed: &Arc<Testbed>,
    start: Instant,
) -> Box<dyn FnOnce(Option<String>) + Send> {
    let testbed = Arc::clone(testbed);
    Box::new(move |place| {
        verdict_out_of_time(&testbed, place.as_deref(), start);
        // The test is over, and has failed either way.
        let _ = close_reports(testbed.log());
        if !keep::announce(&testbed, start.elapsed(), Exit::TestFailed) {
            testbed.stop();
            Exit::TestFailed.end_process();
        }
    })
}

fn verdict_out_of_time(testbed: &Testbed, place: Option<&str>, start: Instant) {
    testbed.log().flush();
    verdict_failed(&format!(
        "{} (after {:.1} s)",
        hotbed_python::out_of_time(place),
        start.elapsed().as_secs_f64()
    ));
    name_console_logs(testbed);
}

fn verdict_failed(what: &str) {
    eprintln!("{} {what}", "failed:".red().bold());
}

fn name_console_logs(testbed: &Testbed) {
    for machine in testbed.machines() {
        let path = machine.console_log_path();
        if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            eprintln!("console of {}: {}", machine.name(), path.display());
        }
    }
}

/// Says what is wrong with the head or the configuration.
fn usage(error: &hotbed_driver::config::Error) -> Exit {
    report::error(error);
    Exit::Usage
}

fn read_text(path: &Path) -> Result<String, Exit> {
    // Heads and configurations are UTF-8; what is not shows up as a mistake in its place.
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Exit> {
    std::fs::read(path).map_err(|error| {
        report::problem(format_args!("cannot read {}: {error}", path.display()));
        Exit::Usage
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a front's clock: how long the test took"
)]
fn now() -> Instant {
    Instant::now()
}
