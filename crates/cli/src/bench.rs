//! `hotbed bench`: how long machines take to come up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anstream::{eprintln, println};
use hotbed_driver::boot_times::{Report, Series, Span, Start, measure, starting};
use hotbed_driver::{Call, Error, Log, Options, TestConfig, Testbed};
use hotbed_image::Progress;
use owo_colors::OwoColorize;

use crate::arguments::{BenchCommand, BootOptions};
use crate::progress;
use crate::report::{self, Exit};
use crate::signals::Signals;

/// What is measured when no test is named.
const STANDARD: &str =
    "# /// hotbed\n# [machines.micro]\n# [machines.debian]\n# image = \"debian\"\n# ///\n";
/// What a signal's number is added to for an exit code.
const STATUS_BASE: i32 = 128;

/// Runs `hotbed bench …`.
pub(crate) fn run(command: &BenchCommand) -> Exit {
    let BenchCommand::Boot(options) = command;
    match boot(options) {
        Ok(()) => Exit::Success,
        Err(exit) => exit,
    }
}

fn boot(options: &BootOptions) -> Result<(), Exit> {
    let config = read_config(options.file.as_deref())?;
    let signals = Signals::watch()?;
    let call = Call {
        until: None,
        interrupt: &signals,
    };
    let mut starts = Vec::new();
    if !options.hot {
        starts.push(Start::Cold);
    }
    if !options.cold {
        starts.push(Start::Hot);
    }
    let mut all = Report {
        accelerator: String::new(),
        series: Vec::new(),
    };
    for start in starts {
        let config = starting(config.clone(), start);
        let measured =
            progress::show(|progress| measure_all(config, start, options, progress, &call));
        let (accelerator, series) = measured.map_err(|error| failed(&error, &signals))?;
        for one in &series {
            print(one, &accelerator);
        }
        all.accelerator = accelerator;
        all.series.extend(series);
    }
    if let Some(path) = &options.json {
        write(path, &format!("{:#}\n", all.to_json()))?;
    }
    if let Some(path) = &options.svg {
        write(path, &all.to_svg())?;
    }
    Ok(())
}

pub(crate) fn read_config(file: Option<&Path>) -> Result<TestConfig, Exit> {
    let config = match file {
        None => TestConfig::from_python_file(Path::new("bench.py"), STANDARD),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                report::problem(format_args!("cannot read {}: {error}", path.display()));
                Exit::Usage
            })?;
            TestConfig::from_python_file(path, &text)
        }
    };
    config.map_err(|error| {
        report::error(&error);
        Exit::Usage
    })
}

/// Measures all machines, one after the other. Nothing of it is left.
fn measure_all(
    config: TestConfig,
    start: Start,
    options: &BootOptions,
    progress: &dyn Progress,
    call: &Call<'_>,
) -> Result<(String, Vec<Series>), Error> {
    let log = Log::to(Box::new(std::io::sink()), false);
    let testbed = Testbed::new(config, Options::default(), log.into())?;
    let measured = testbed.prepare_images(progress, call).and_then(|()| {
        let verdict = testbed.accelerator(call)?;
        // Behind the colon it says why.
        let accelerator = verdict.split(": ").next().unwrap_or_default().to_owned();
        let runs = usize::from(options.runs);
        let series = testbed
            .machines()
            .iter()
            .map(|machine| measure(machine, start, runs, progress, call))
            .collect::<Result<_, _>>()?;
        Ok((accelerator, series))
    });
    testbed.stop();
    measured
}

pub(crate) fn failed(error: &Error, signals: &Signals) -> Exit {
    if matches!(error, Error::Interrupted) {
        return Exit::Script(STATUS_BASE + signals.number());
    }
    report::error(error);
    match error {
        Error::Argument(_)
        | Error::Image {
            source: hotbed_image::Error::InvalidSpec(_),
            ..
        } => Exit::Usage,
        _ => Exit::HostFailed,
    }
}

fn print(series: &Series, accelerator: &str) {
    let count = series.boots.len();
    let starts = if count == 1 { "start" } else { "starts" };
    println!(
        "{}, {}: {count} {starts}, {accelerator}",
        series.machine.bold(),
        series.start.name()
    );
    println!("  {:<16}{:>12}{:>12}{:>12}", "", "median", "min", "max");
    for (name, span) in series.phases() {
        row(name, span);
    }
    let rows = [
        ("first answer", series.totals()),
        ("QEMU's CPU time", series.processor()),
    ];
    for (name, span) in rows {
        if let Some(span) = span {
            row(name, span);
        }
    }
}

fn row(name: &str, span: Span) {
    let [median, min, max] = [span.median, span.min, span.max].map(written);
    println!("  {name:<16}{median:>12}{min:>12}{max:>12}");
}

fn written(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn write(path: &PathBuf, text: &str) -> Result<(), Exit> {
    std::fs::write(path, text).map_err(|error| {
        report::problem(format_args!("cannot write {}: {error}", path.display()));
        Exit::HostFailed
    })?;
    eprintln!("written: {}", path.display());
    Ok(())
}
