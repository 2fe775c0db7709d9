//! `cargo xtask fuzz`: fuzzes one target, or each of them for a while, with cargo-fuzz.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::run::{Job, Runner};
use crate::workspace::{self, Workspace, find_program};

/// How much longer than asked a target may take: it has to be compiled first.
const BUILD_ALLOWANCE: Duration = Duration::from_secs(30 * 60);

/// Arguments of the job.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The target; every one of them, when it is left out.
    target: Option<String>,
    /// How long to fuzz each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the job.
///
/// # Errors
///
/// When there is no cargo-fuzz or no such target.
pub(crate) fn run(
    workspace: &Workspace,
    runner: &Runner,
    arguments: &Arguments,
) -> anyhow::Result<ExitCode> {
    ensure!(
        find_program("cargo-fuzz").is_some(),
        "cargo-fuzz is not on PATH; `cargo install --locked cargo-fuzz` builds it"
    );
    let mut targets = targets(workspace)?;
    if let Some(target) = &arguments.target {
        ensure!(
            targets.contains(target),
            "there is no fuzz target {target:?}; there are: {}",
            targets.join(", ")
        );
        targets.retain(|name| name == target);
    }
    for target in targets {
        let found = workspace.scratch("corpus").join(&target);
        std::fs::create_dir_all(&found)
            .with_context(|| format!("cannot create {}", found.display()))?;
        let limit = BUILD_ALLOWANCE + Duration::from_secs(arguments.seconds.into());
        let job = job(workspace, &target, &found, arguments.seconds).limit(limit);
        let outcome = runner.hand_over(&job)?;
        if !outcome.success() {
            bail!(
                "fuzz target {target}: {} (see above; what broke it is in fuzz/artifacts/)",
                outcome.describe()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// With the address sanitizer on a nightly compiler; without it on stable, where it cannot be switched on.
///
/// What is found goes to a folder below `target/`; the corpus that is checked in is only read.
fn job(workspace: &Workspace, target: &str, found: &Path, seconds: u32) -> Job {
    let job = if has_nightly() {
        // Through rustup: the cargo that runs us is one toolchain's own.
        Job::new("rustup").args(["run", "nightly", "cargo", "fuzz", "run"])
    } else {
        Job::new(workspace::cargo()).args(["fuzz", "run", "--sanitizer", "none"])
    };
    let corpus = workspace.root().join("fuzz/corpus").join(target);
    job.args(["--fuzz-dir", "fuzz", target])
        .args([found])
        .args(corpus.is_dir().then_some(corpus))
        .args(["--", "-use_value_profile=1"])
        .args([format!("-max_total_time={seconds}")])
        .folder(workspace.root())
}

fn has_nightly() -> bool {
    Command::new("rustup")
        .args(["run", "nightly", "rustc", "--version"])
        .output()
        .is_ok_and(|out| out.status.success())
}

fn targets(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let folder = workspace.root().join("fuzz").join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in
        std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(
                file.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    targets.sort();
    Ok(targets)
}
