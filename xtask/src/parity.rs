//! `cargo xtask parity`: does a test script find here what the NixOS driver has?
//!
//! The rows are in `parity.txt`, made from the contract. Each is looked up in a running script (`look.py`), which gives its
//! signature, and in the sources of tests and examples, where something must use it. What is not there, has no test, or is
//! marked as waiting although it is there, is a finding.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::run::{Job, Runner};
use crate::test::Context;
use crate::workspace::{self, Workspace};

mod uses;

use uses::Sources;

/// What the NixOS driver has.
const ROWS: &str = include_str!("../parity.txt");
/// The script that looks the rows up.
const LOOK: &str = include_str!("parity/look.py");
/// Stands before the reason why a row waits.
const NOT_YET: &str = "not yet:";

/// One symbol of the contract.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    section: &'a str,
    symbol: &'a str,
    /// Why it is not there yet.
    waits_for: Option<&'a str>,
}

/// Runs the job.
///
/// # Errors
///
/// When Hotbed cannot be built or started.
pub(crate) fn run(workspace: &Workspace, runner: &Runner) -> anyhow::Result<ExitCode> {
    let build = Job::new(workspace::cargo()).args(["build", "--package", "hotbed-cli"]);
    let built = runner.watch("build", &build.folder(workspace.root()), &mut |_| {})?;
    ensure!(built.success(), "{}", built.tail.join("\n"));
    let (table, findings) = compare(workspace, runner)?;
    print!("{table}");
    for finding in &findings {
        println!("{finding}");
    }
    println!("parity: {} found", findings.len());
    Ok(match findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// When Hotbed cannot be started.
pub(crate) fn check(context: &mut Context<'_>) -> anyhow::Result<()> {
    let (_, findings) = compare(context.workspace, context.runner)?;
    match findings.as_slice() {
        [] => context.tally.pass(),
        findings => context.tally.fail("parity", &findings.join("\n")),
    }
    Ok(())
}

/// The table of all rows, and what is wrong with them.
fn compare(workspace: &Workspace, runner: &Runner) -> anyhow::Result<(String, Vec<String>)> {
    let rows = parse(ROWS);
    let found = look(workspace, runner, &rows)?;
    let sources = Sources::read(workspace)?;
    let width = |of: fn(&Row<'_>) -> usize| rows.iter().map(of).max().unwrap_or_default();
    let (wide, long) = (
        width(|row| row.section.len()),
        width(|row| row.symbol.len()),
    );
    let (mut table, mut findings) = (String::new(), Vec::new());
    for row in &rows {
        let signature = found.iter().find(|(symbol, _)| symbol == row.symbol);
        let signature = signature.map(|(_, signature)| signature.as_str());
        let test = sources.test_of(row.symbol);
        findings.extend(finding(row, signature, test.as_deref()));
        let says = match (signature, row.waits_for) {
            (None, Some(reason)) => format!("- ({NOT_YET} {reason})"),
            (signature, _) => format!(
                "{}  [{}]",
                signature.unwrap_or("MISSING"),
                test.as_deref().unwrap_or("NO TEST")
            ),
        };
        table.push_str(&format!(
            "{:wide$}  {:long$}  {says}\n",
            row.section, row.symbol
        ));
    }
    Ok((table, findings))
}

/// What is wrong with a row.
fn finding(row: &Row<'_>, signature: Option<&str>, test: Option<&str>) -> Option<String> {
    let what = match (signature, test, row.waits_for) {
        (None, _, None) => "is missing",
        (Some(_), _, Some(_)) => "is there, and still marked as waiting",
        (Some(_), None, None) => "has no test",
        _ => return None,
    };
    Some(format!("{} ({}) {what}", row.symbol, row.section))
}

fn parse(text: &str) -> Vec<Row<'_>> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let (symbol, waits_for) = match line.split_once(NOT_YET) {
            Some((symbol, reason)) => (symbol.trim(), Some(reason.trim())),
            None => (line.trim(), None),
        };
        if !symbol.is_empty() {
            rows.push(Row {
                section,
                symbol,
                waits_for,
            });
        }
    }
    rows
}

/// Each symbol that a script has, with its signature or its kind.
fn look(
    workspace: &Workspace,
    runner: &Runner,
    rows: &[Row<'_>],
) -> anyhow::Result<Vec<(String, String)>> {
    let folder = workspace.scratch("parity");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let symbols: Vec<_> = rows.iter().map(|row| row.symbol).collect();
    for (name, text) in [("rows", symbols.join("\n").as_str()), ("look.py", LOOK)] {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let program = folder.join("nixos-test-driver");
    if std::fs::symlink_metadata(&program).is_err() {
        std::os::unix::fs::symlink(workspace.hotbed(), &program)
            .with_context(|| format!("cannot create {}", program.display()))?;
    }
    let job = Job::new(program)
        .args([
            "--vlans",
            "1",
            "--start-scripts",
            "/nowhere/run-web-vm",
            "--",
            "look.py",
        ])
        .env("HOTBED_PARITY_ROWS", folder.join("rows"))
        .folder(&folder);
    let output = runner.ask(&job)?;
    ensure!(
        output.status.success(),
        "the script that looks symbols up failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(symbol, signature)| (symbol.to_owned(), signature.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests;
