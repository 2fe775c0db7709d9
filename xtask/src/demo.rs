//! `cargo xtask demo`: from a fresh machine to two guests that ping each other.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::agent;
use crate::run::{Job, Runner};
use crate::setup::{self, needs::Purpose};
use crate::ui::seconds;
use crate::workspace::{self, Workspace};

/// The test that the demo runs.
const TEST: &str = "examples/ping.py";

/// Runs the job.
///
/// # Errors
///
/// When the set-up or the build fails; not when the test does.
pub(crate) fn run(
    workspace: &Workspace,
    runner: &Runner,
    arguments: &setup::Arguments,
) -> anyhow::Result<ExitCode> {
    setup::ensure(runner, &[Purpose::Build, Purpose::Guests], arguments)?;
    build(workspace, runner)?;
    agent::build(workspace, runner, !arguments.no_install)?;
    println!("Running {TEST}: two machines boot and ping each other.");
    println!(
        "(The first time, what they boot is downloaded and built; after that it comes from the cache.)\n"
    );
    let started = clock();
    let job = Job::new(workspace.hotbed())
        .args(["run", TEST])
        .folder(workspace.root());
    let outcome = runner.hand_over(&job)?;
    let elapsed = seconds(started.elapsed());
    if !outcome.success() {
        println!(
            "\nThe demo did not pass ({}, after {elapsed}): the reason is above.",
            outcome.describe()
        );
        return Ok(ExitCode::FAILURE);
    }
    println!("\n{}", summary(&elapsed));
    Ok(ExitCode::SUCCESS)
}

fn build(workspace: &Workspace, runner: &Runner) -> anyhow::Result<()> {
    let job = Job::new(workspace::cargo())
        .args(["build", "--package", "hotbed-cli"])
        .folder(workspace.root());
    let outcome = runner.watch(
        "Building hotbed (the first time takes a few minutes)",
        &job,
        &mut |_| {},
    )?;
    if !outcome.success() {
        if !runner.shows_lines() {
            println!("{}", outcome.tail.join("\n"));
        }
        bail!(
            "hotbed does not build ({}): the reason is above",
            outcome.describe()
        );
    }
    let built = workspace.hotbed();
    built
        .exists()
        .then_some(())
        .with_context(|| format!("cargo built no {}", built.display()))
}

fn summary(elapsed: &str) -> String {
    format!(
        "\
The demo passed, in {elapsed}. What just happened:

  - Hotbed read the machines `alice` and `bob` from the first lines of {TEST}.
  - It started a virtual machine for each under QEMU, and joined the two with a network switch of its own.
  - The rest of the file, plain Python, ran against them: each machine pinged the other by name, IPv4 and IPv6.
  - Everything was taken down again. Nothing is left running.

What to try next:

  target/debug/hotbed run {TEST}         the same without cargo; edit the file and run it again
  target/debug/hotbed run examples/nginx.py        a web server and a client on Debian with systemd
  cargo xtask test                                 every check and test of the project

README.md shows how to write a test of your own; ARCHITECTURE.md is the map of the source."
    )
}

#[expect(clippy::disallowed_methods, reason = "the demo says how long it took")]
fn clock() -> Instant {
    Instant::now()
}
