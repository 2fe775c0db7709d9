//! `cargo xtask tidy`: rules of the source tree that no other tool checks.
//!
//! - [`tree`]: the text of every source file, and what cargo says about our packages.
//! - [`layers`]: a dependency between our crates only goes down.
//! - [`packages`]: each crate has a README, the workspace's lints and licence, and a place on the map.
//! - [`sources`]: a Rust file has at most 500 lines without tests, and nothing was left behind in it.
//!
//! The rules are functions from a tree to findings, so that a test can hand them a small made-up tree.

mod layers;
mod packages;
mod sources;
mod tree;

use std::process::ExitCode;

use self::tree::Tree;
use crate::run::Runner;
use crate::workspace::Workspace;

/// Runs the job.
///
/// # Errors
///
/// When the tree cannot be read; not when a rule is broken.
pub(crate) fn run(workspace: &Workspace, runner: &Runner) -> anyhow::Result<ExitCode> {
    let findings = findings(workspace, runner)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: all is well"),
        count => println!("tidy: {count} found"),
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that breaks a rule, one line each.
///
/// # Errors
///
/// When the tree cannot be read.
pub(crate) fn findings(workspace: &Workspace, runner: &Runner) -> anyhow::Result<Vec<String>> {
    let tree = Tree::read(workspace, runner)?;
    Ok([
        layers::findings(&tree),
        packages::findings(&tree),
        sources::findings(&tree),
    ]
    .concat())
}

#[cfg(test)]
mod tests;
