//! The project's own jobs: `cargo xtask <job>`, one file per job.
//!
//! - [`demo`]: from a fresh machine to two guests that ping each other.
//! - [`test`](mod@test): every check and every test; what CI runs.
//! - [`tidy`]: rules of the source tree that no other tool checks.
//! - [`deny`]: licences and sources of what we depend on, by cargo-deny.
//! - [`parity`]: whether scripts find here what the NixOS driver has.
//! - [`fuzz`]: one fuzz target, or all of them for a while each.
//!
//! What the jobs share: [`setup`] installs what the machine lacks, [`agent`] builds what runs in guests, [`run`] starts
//! programs and takes them down again, [`ui`] shows what is going on, [`workspace`] knows where things are.
//!
//! Invariant: no job leaves a process behind, however it ends short of `kill -9`.

#![forbid(unsafe_code)]

mod agent;
mod demo;
mod deny;
#[expect(clippy::disallowed_types, reason = "asks rustup")]
mod fuzz;
mod nix;
mod parity;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the I/O shell"
)]
mod run;
mod setup;
mod stubs;
#[expect(clippy::disallowed_methods, reason = "steps are timed")]
mod test;
mod tidy;
mod ui;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::Runner;
use crate::ui::Ui;
use crate::workspace::Workspace;

/// The project's own jobs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Set up this machine, build, and let two machines ping each other.
    Demo(setup::Arguments),
    /// Set up this machine and run every check and test, as CI does.
    #[command(alias = "ci")]
    Test(test::Arguments),
    /// Check the rules of the source tree: layers, file sizes, READMEs, the map.
    Tidy,
    /// Check licences and sources of what we depend on (needs cargo-deny).
    Deny,
    /// Compare what test scripts find here with what the NixOS driver has.
    Parity,
    /// Fuzz one target, or each of them for a while (needs cargo-fuzz).
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::find().and_then(|workspace| {
        let runner = Runner::new(Ui::for_this_process())?;
        match arguments.job {
            Job::Demo(setup) => demo::run(&workspace, &runner, &setup),
            Job::Test(arguments) => test::run(&workspace, &runner, &arguments),
            Job::Tidy => tidy::run(&workspace, &runner),
            Job::Deny => deny::run(&workspace, &runner),
            Job::Parity => parity::run(&workspace, &runner),
            Job::Fuzz(arguments) => fuzz::run(&workspace, &runner, &arguments),
        }
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            run::exit_code_of(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_holds_together() {
        <super::Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
