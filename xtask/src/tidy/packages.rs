//! What every crate has.

use super::tree::{Package, Tree};

/// The fewest lines of a README that says something.
const README_LINES_MIN: usize = 10;

/// Where the map of the source is.
const MAP: &str = "ARCHITECTURE.md";

/// Packages that lack something.
pub(super) fn findings(tree: &Tree) -> Vec<String> {
    tree.packages
        .iter()
        .flat_map(|package| package_findings(tree, package))
        .collect()
}

fn package_findings(tree: &Tree, package: &Package) -> Vec<String> {
    let folder = package.folder();
    let mut findings = Vec::new();
    match tree.files.get(&format!("{folder}/README.md")) {
        None => findings.push(format!("{folder}: has no README.md")),
        Some(text) if text.lines().count() < README_LINES_MIN => {
            findings.push(format!(
                "{folder}/README.md: is a stub (fewer than {README_LINES_MIN} lines)"
            ));
        }
        Some(_) => {}
    }
    let mapped = tree
        .files
        .get(MAP)
        .is_some_and(|map| map.contains(&format!("`{folder}`")));
    if !mapped {
        findings.push(format!(
            "{folder}: is missing from the map: no `{folder}` in {MAP}"
        ));
    }
    let manifest = tree
        .files
        .get(&package.manifest_path)
        .map(String::as_str)
        .unwrap_or_default();
    if !has_workspace_lints(manifest) {
        findings.push(format!(
            "{}: lacks `[lints] workspace = true`",
            package.manifest_path
        ));
    }
    if package.license.is_none() {
        findings.push(format!(
            "{}: lacks `license.workspace = true`",
            package.manifest_path
        ));
    }
    if package.description.is_none() {
        findings.push(format!("{}: lacks a description", package.manifest_path));
    }
    findings
}

fn has_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[lints]")
        .skip(1);
    lines
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| line.replace(' ', "") == "workspace=true")
}
