//! The Python stubs, checked by mypy and, as NixOS does now, by ty: by themselves, with the scripts in `crates/python/tests/typing/`, and with every
//! example, so that stubs and examples cannot drift apart.
//!
//! mypy lives in a virtual environment below `target/`, made once for its pinned versions and the interpreter at hand.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::run::Job;
use crate::test::Context;

/// mypy and all it depends on, and ty, pinned.
const REQUIREMENTS: &str = include_str!("../mypy.txt");

/// The interpreter whose standard library the stubs are checked against.
const PYTHON: &str = "/usr/bin/python3";

/// The script that is as NixOS gives scripts to ty.
const VALUES: &str = "crates/python/tests/typing/nixpkgs_values.py";

/// Written last: a virtual environment without it is half made.
const READY: &str = "hotbed-ready";

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// When the virtual environment cannot be made.
pub(crate) fn check(context: &mut Context<'_>) -> anyhow::Result<()> {
    let stubs = context.workspace.root().join("crates/python/stubs");
    ensure!(stubs.is_dir(), "there are no stubs at {}", stubs.display());
    // Scripts that must pass, and lines that must not: --strict reports an ignore comment without its mistake.
    let mut scripts = python_files(&context.workspace.root().join("crates/python/tests/typing"))?;
    let Some(venv) = environment(context)? else {
        return Ok(());
    };
    let examples = declared_examples(context)?;
    scripts.extend(examples.iter().cloned());
    let job = Job::new(venv.join("bin/python"))
        .args([
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--cache-dir",
        ])
        .args([context.workspace.scratch("mypy-cache"), stubs.clone()])
        .args(scripts)
        .env("MYPYPATH", &stubs);
    context.run("", job)?;
    // It does not know names that are declared without a value, which scripts for mypy have.
    let values = context.workspace.root().join(VALUES);
    let job = Job::new(venv.join("bin/ty"))
        .args(["check", "--error-on-warning", "--color", "never"])
        .args(["--python".as_ref(), venv.as_os_str()])
        .args(["--extra-search-path".as_ref(), stubs.as_os_str()])
        .args([values])
        .args(examples);
    context.run("ty", job)?;
    Ok(())
}

/// Copies of the examples that begin with what the driver defines for them.
fn declared_examples(context: &Context<'_>) -> anyhow::Result<Vec<PathBuf>> {
    let folder = context.workspace.scratch("typing");
    remove(&folder)?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut copies = Vec::new();
    for example in python_files(&context.workspace.root().join("examples"))? {
        let text = std::fs::read_to_string(&example)
            .with_context(|| format!("cannot read {}", example.display()))?;
        // Not named as the example is: `users` and the like may be modules of the standard library.
        let stem = example.file_stem().unwrap_or_default().to_string_lossy();
        let copy = folder.join(format!("example_{stem}.py"));
        std::fs::write(&copy, declare(&text))
            .with_context(|| format!("cannot write {}", copy.display()))?;
        copies.push(copy);
    }
    Ok(copies)
}

/// What every script has. A name that is only declared is none for ty.
const DECLARED: &str = "from typing import cast
from test_driver.script import *
def _machine() -> QemuMachine: return cast(QemuMachine, None)
";

/// Puts the names that the driver defines in front of a script, its machines among them.
fn declare(script: &str) -> String {
    let mut machines: Vec<(String, usize)> = Vec::new();
    for line in script.lines() {
        let name = line
            .strip_prefix("# [machines.")
            .and_then(|rest| rest.split(['.', ']']).next());
        let name = name.map(|name| (name.trim_matches('"').replace('-', "_"), 0));
        machines.extend(name.filter(|name| machines.last().is_none_or(|last| last.0 != name.0)));
        let count = line
            .strip_prefix("# count = ")
            .and_then(|count| count.trim().parse().ok());
        if let (Some(count), Some((_, clones))) = (count, machines.last_mut()) {
            *clones = count;
        }
    }
    let mut declared = String::from(DECLARED);
    for (name, clones) in machines {
        match clones {
            0 => declared.push_str(&format!("{name} = _machine()\n")),
            _ => declared.push_str(&format!("{name}s = [_machine()]\n")),
        }
        for number in 1..=clones {
            declared.push_str(&format!("{name}{number} = _machine()\n"));
        }
    }
    declared + script
}

/// The Python files of a folder.
pub(crate) fn python_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    files_of(folder, "py")
}

/// The files of a folder that have this extension, sorted; none when there is no such folder.
pub(crate) fn files_of(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|its| its == extension));
    files.sort();
    Ok(files)
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

#[cfg(test)]
mod tests {
    use super::{DECLARED, declare};

    #[test]
    fn machines_of_the_head_are_declared_once() {
        let script = "# /// hotbed\n# [machines.web-1]\n# [machines.web-1.files.\"/x\"]\n# [machines.b]\n# ///\nb.start()\n";
        let declared = declare(script);
        assert!(declared.starts_with(&format!(
            "{DECLARED}web_1 = _machine()\nb = _machine()\n# ///"
        )));
        assert!(declared.ends_with(script));
    }

    #[test]
    fn clones_are_declared_one_by_one_and_as_a_list() {
        let declared = declare("# [machines.w]\n# count = 2\n# [machines.b]\n");
        assert!(
            declared.starts_with(&format!(
                "{DECLARED}ws = [_machine()]\nw1 = _machine()\nw2 = _machine()\nb = _machine()\n"
            )),
            "{declared}"
        );
    }
}
