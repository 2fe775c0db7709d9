//! The `hotbed` command: arguments in, exit code out.
//!
//! - [`arguments`]: what can be typed.
//! - [`run`]: a test, from its file to the verdict.
//! - [`keep`]: the machines of a failed test, kept for who wants to look; [`shell`]: into a machine of a running test.
//! - [`cache`]: what is kept, and how much room it takes.
//! - [`nixos`]: the same program as a drop-in `nixos-test-driver`.
//! - [`image`]: images, built ahead and listed.
//! - [`bench`](mod@bench): how long machines take to come up.
//! - [`snapshot`]: snapshots as files, for runs in other places.
//! - [`doctor`]: what this host has, and what is missing.
//! - [`progress`]: what is shown while images are built.
//! - [`signals`]: what asks us to end, where no Python runs.
//! - [`report`]: errors and verdicts, and the exit code that each has.
//!
//! Invariant: the process ends in one place for each command, after everything that it started is gone.

mod arguments;
mod bench;
mod cache;
mod doctor;
mod image;
mod keep;
mod nixos;
mod progress;
mod report;
mod run;
mod shell;
mod signals;
mod snapshot;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() {
    let words: Vec<_> = std::env::args_os().collect();
    if nixos::is_called(words.first().map(|word| word.as_os_str())) {
        nixos::run(&words).end_process();
    }
    let arguments = Arguments::parse();
    let exit = match arguments.command {
        Command::Run(options) => run::run(options),
        Command::Image { command } => image::run(&command),
        Command::Shell(options) => shell::run(&options),
        Command::Cache { command } => cache::run(&command),
        Command::Bench { command } => bench::run(&command),
        Command::Snapshot { command } => snapshot::run(&command),
        Command::Doctor => doctor::run(),
    };
    exit.end_process();
}
