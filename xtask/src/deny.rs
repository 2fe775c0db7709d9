//! `cargo xtask deny`: licences, sources, bans and known holes of what we depend on, by cargo-deny.

use std::process::ExitCode;

use anyhow::bail;

use crate::run::{Job, Runner};
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
    for (what, outcome) in [("bans, licences, sources", &tree), ("advisories", &holes)] {
        if outcome.success() {
            println!("ok: {what}");
        } else {
            println!("FAILED: {what}\n{}", outcome.tail.join("\n"));
        }
    }
    Ok(if tree.success() && holes.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
