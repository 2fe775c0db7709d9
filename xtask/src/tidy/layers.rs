//! A dependency between our crates only goes down.

use super::tree::Tree;

/// The layers, from the top. Crates of one layer know nothing of each other.
const LAYERS: &[&[&str]] = &[
    &["hotbed-cli"],
    &["hotbed-python"],
    // The agent runs in guests: it knows what it speaks, and nobody knows it.
    &["hotbed-agent", "hotbed-driver"],
    &[
        "hotbed-console",
        "hotbed-image",
        "hotbed-qmp",
        "hotbed-switch",
    ],
    // What tests of several parts share knows no part.
    &["hotbed-testing", "hotbed-vhost-user"],
];

/// Packages beside the layers: they may use any crate, and no crate may use them.
const BESIDE: &[&str] = &["hotbed-benches", "xtask"];

/// Edges that go up or sideways, and packages that have no layer.
///
/// Dependencies of tests count like all others: what a test of a part needs from another part belongs in a layer above.
pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        if BESIDE.contains(&package.name.as_str()) {
            continue;
        }
        let Some(from) = layer(&package.name) else {
            findings.push(format!(
                "{}: has no layer (LAYERS in xtask/src/tidy/layers.rs)",
                package.manifest_path
            ));
            continue;
        };
        for dependency in &package.dependencies {
            // A crate names itself to switch its own features on for its tests.
            if dependency.name == package.name || !tree.has_package(&dependency.name) {
                continue;
            }
            let way = match layer(&dependency.name) {
                Some(to) if to > from => continue,
                Some(to) if to == from => "sideways",
                Some(_) => "up",
                None => "out of the layers",
            };
            let kind = dependency
                .kind
                .as_deref()
                .map(|kind| format!("{kind}-"))
                .unwrap_or_default();
            findings.push(format!(
                "{}: the {kind}dependency on {} goes {way}; it may only go down",
                package.manifest_path, dependency.name
            ));
        }
    }
    findings
}

/// The number of a crate's layer, from the top.
fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}
