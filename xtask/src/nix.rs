//! The flake, evaluated without network and without nixpkgs.
//!
//! `nix/tests/evaluate.nix` calls the outputs of `flake.nix` with a stand-in for nixpkgs, and returns what is wrong
//! with them. So every expression is parsed and evaluated, and nothing is fetched or built.

use anyhow::{Context as _, bail};

use crate::run::Job;
use crate::test::Context;

/// The step of `cargo xtask test`.
///
/// # Errors
///
/// When Nix cannot be started.
pub(crate) fn check(context: &mut Context<'_>) -> anyhow::Result<()> {
    // The dummy store keeps an evaluation from needing /nix.
    let job = Job::new("nix-instantiate")
        .args([
            "--store",
            "dummy://",
            "--eval",
            "--strict",
            "--json",
            "nix/tests/evaluate.nix",
        ])
        .folder(context.workspace.root());
    let output = context.runner.ask(&job)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the flake does not evaluate ({}):\n{}",
            output.status,
            words.trim()
        );
    }
    let checks: std::collections::BTreeMap<String, bool> =
        serde_json::from_slice(&output.stdout)
            .context("nix/tests/evaluate.nix gives something else than checks")?;
    for (name, holds) in &checks {
        if *holds {
            context.tally.pass()
        } else {
            context.tally.fail("nix", name)
        }
    }
    Ok(())
}
