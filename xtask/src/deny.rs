//! `cargo xtask deny`: licences, sources, bans and known holes of what we depend on, by cargo-deny.

use std::process::ExitCode;

use anyhow::bail;

use crate::run::{Job, Outcome, Runner};
use crate::workspace::{self, Workspace, find_program};

/// Runs the job.
///
/// # Errors
///
/// When there is no cargo-deny.
pub(crate) fn run(workspace: &Workspace, runner: &Runner) -> anyhow::Result<ExitCode> {
    if find_program("cargo-deny").is_none() {
        bail!("cargo-deny is not on PATH; `cargo install --locked cargo-deny` builds it");
    }
    let deny = |checks: &[&str]| {
        let job = Job::new(workspace::cargo())
            .args(["deny", "--workspace", "check"])
            .args(checks);
        runner.watch(
            &format!("cargo deny check {}", checks.join(" ")),
            &job.folder(workspace.root()),
            &mut |_| {},
        )
    };
    let tree = deny(&["bans", "licenses", "sources"])?;
    let holes = deny(&["advisories"])?;
    let unreachable = holes.tail.iter().any(|line| line.contains(UNREACHABLE));
    let tree_ok = verdict("bans, licences, sources", &tree);
    let holes_ok = if unreachable {
        println!("NOT CHECKED: advisories (their database cannot be reached)");
        true
    } else {
        verdict("advisories", &holes)
    };
    Ok(if tree_ok && holes_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What cargo-deny says when it has no network.
const UNREACHABLE: &str = "failed to fetch advisory database";

/// Prints what came of a check, and says whether it passed.
fn verdict(what: &str, outcome: &Outcome) -> bool {
    if outcome.success() {
        println!("ok: {what}");
    } else {
        println!(
            "FAILED: {what} ({})\n{}",
            outcome.describe(),
            outcome.tail.join("\n")
        );
    }
    outcome.success()
}
