//! The Python stubs: what a test script may call, checked by mypy.
//!
//! mypy lives in a virtual environment below `target/`, made once for its pinned versions and the interpreter at hand.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::run::Job;
use crate::test::Context;

/// mypy and all it depends on, pinned.
const REQUIREMENTS: &str = include_str!("../mypy.txt");

/// The interpreter whose standard library the stubs are checked against.
const PYTHON: &str = "/usr/bin/python3";

/// Written last: a virtual environment without it is half made.
const READY: &str = "hotbed-ready";

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// When the virtual environment cannot be made.
pub(crate) fn check(context: &mut Context<'_>) -> anyhow::Result<()> {
    let stubs = context.workspace.root().join("crates/python/stubs");
    // Scripts that must pass, and lines that must not: --strict reports an ignore comment without its mistake.
    let scripts = context.workspace.root().join("crates/python/tests/typing");
    ensure!(stubs.is_dir(), "there are no stubs at {}", stubs.display());
    let Some(venv) = environment(context)? else {
        return Ok(());
    };
    let job = Job::new(venv.join("bin/python"))
        .args([
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--cache-dir",
        ])
        .args([
            context.workspace.scratch("mypy-cache"),
            stubs.clone(),
            scripts,
        ])
        .env("MYPYPATH", stubs);
    context.run("", job)?;
    Ok(())
}

/// Makes the virtual environment unless it is there; `None` when that failed and has been counted.
fn environment(context: &mut Context<'_>) -> anyhow::Result<Option<PathBuf>> {
    let venv = context.workspace.scratch("mypy");
    let python = std::fs::canonicalize(PYTHON).with_context(|| format!("{PYTHON} is not there"))?;
    let stamp = format!("{}\n{REQUIREMENTS}", python.display());
    if std::fs::read_to_string(venv.join(READY)).is_ok_and(|made| made == stamp) {
        return Ok(Some(venv));
    }
    remove(&venv)?;
    let tally = context.tally.clone(); // Making the place for a check is not a check.
    let made = context.run("venv", Job::new(PYTHON).args(["-m", "venv"]).args([&venv]))?
        && context.run(
            "mypy",
            install(&venv, &context.workspace.root().join("xtask/mypy.txt")),
        )?;
    if !made {
        return Ok(None);
    }
    context.tally = tally;
    std::fs::write(venv.join(READY), stamp)
        .context("cannot mark the virtual environment as ready")?;
    Ok(Some(venv))
}

fn install(venv: &Path, requirements: &Path) -> Job {
    Job::new(venv.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--requirement",
        ])
        .args([requirements])
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
