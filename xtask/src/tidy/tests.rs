use super::tree::{Dependency, Package};
use super::*;

/// A crate that breaks no rule, in a tree of its own.
fn tree(name: &str, dependencies: &[(&str, Option<&str>)]) -> Tree {
    let folder = format!("crates/{}", name.trim_start_matches("hotbed-"));
    let mut tree = Tree::default();
    tree.files
        .insert("ARCHITECTURE.md".to_owned(), format!("### `{folder}`\n"));
    tree.files
        .insert(format!("{folder}/README.md"), "A line.\n".repeat(20));
    tree.files.insert(
        format!("{folder}/Cargo.toml"),
        "[lints]\nworkspace = true\n".to_owned(),
    );
    tree.files
        .insert(format!("{folder}/src/lib.rs"), "//! A crate.\n".to_owned());
    tree.packages.push(package(name, &folder, dependencies));
    tree
}

fn package(name: &str, folder: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
        name: (*name).to_owned(),
        kind: kind.map(str::to_owned),
    };
    Package {
        name: name.to_owned(),
        manifest_path: format!("{folder}/Cargo.toml"),
        license: Some("MIT OR Apache-2.0".to_owned()),
        description: Some("a crate".to_owned()),
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn all(tree: &Tree) -> Vec<String> {
    [
        layers::findings(tree),
        packages::findings(tree),
        sources::findings(tree),
    ]
    .concat()
}

/// A tree in which one crate depends on another, and what the layers' rule says about that.
fn edge(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
    let mut tree = tree(from, &[(to, kind), ("serde", None)]);
    tree.packages.push(package(to, "elsewhere", &[]));
    layers::findings(&tree)
}

#[test]
fn good_tree_has_no_findings() {
    assert_eq!(all(&tree("hotbed-qmp", &[])), [""; 0]);
}

#[test]
fn edge_may_go_down_over_any_number_of_layers() {
    assert_eq!(edge("hotbed-driver", "hotbed-qmp", None), [""; 0]);
    assert_eq!(edge("hotbed-cli", "hotbed-image", Some("dev")), [""; 0]);
}

#[test]
fn edge_up_is_found() {
    let findings = edge("hotbed-qmp", "hotbed-driver", None);
    assert_eq!(
        findings,
        ["crates/qmp/Cargo.toml: the dependency on hotbed-driver goes up; it may only go down"]
    );
}

#[test]
fn edge_sideways_is_found_in_tests_and_build_scripts_too() {
    for (kind, word) in [
        (None, "dependency"),
        (Some("dev"), "dev-dependency"),
        (Some("build"), "build-dependency"),
    ] {
        let findings = edge("hotbed-switch", "hotbed-qmp", kind);
        assert_eq!(findings.len(), 1, "{kind:?}");
        assert!(
            findings[0].contains(&format!("the {word} on hotbed-qmp goes sideways")),
            "{findings:?}"
        );
    }
}

#[test]
fn crate_may_name_itself_in_its_tests() {
    assert_eq!(
        layers::findings(&tree("hotbed-qmp", &[("hotbed-qmp", Some("dev"))])),
        [""; 0]
    );
}

#[test]
fn nothing_in_the_layers_may_use_what_stands_beside_them() {
    assert!(edge("hotbed-qmp", "xtask", Some("dev"))[0].contains("out of the layers"));
    assert_eq!(edge("hotbed-benches", "hotbed-cli", None), [""; 0]);
}

#[test]
fn crate_without_a_layer_is_found() {
    assert!(layers::findings(&tree("hotbed-new", &[]))[0].contains("has no layer"));
}

#[test]
fn crate_without_readme_is_found_and_a_stub_is_not_enough() {
    let mut tree = tree("hotbed-qmp", &[]);
    tree.files.insert(
        "crates/qmp/README.md".to_owned(),
        "# hotbed-qmp\n".to_owned(),
    );
    assert!(all(&tree)[0].contains("crates/qmp/README.md: is a stub"));
    tree.files.remove("crates/qmp/README.md");
    assert_eq!(all(&tree), ["crates/qmp: has no README.md"]);
}

#[test]
fn crate_missing_from_the_map_is_found() {
    let mut tree = tree("hotbed-qmp", &[]);
    tree.files.insert(
        "ARCHITECTURE.md".to_owned(),
        "### `crates/qmp-something-else`\n".to_owned(),
    );
    assert_eq!(
        all(&tree),
        ["crates/qmp: is missing from the map: no `crates/qmp` in ARCHITECTURE.md"]
    );
}

#[test]
fn crate_without_the_workspace_lints_licence_or_description_is_found() {
    let mut tree = tree("hotbed-qmp", &[]);
    tree.files.insert(
        "crates/qmp/Cargo.toml".to_owned(),
        "[lints]\n\n[workspace]\nworkspace = true\n".to_owned(),
    );
    tree.packages[0].license = None;
    tree.packages[0].description = None;
    let findings = all(&tree).join("\n");
    assert!(
        findings.contains("[lints]")
            && findings.contains("license")
            && findings.contains("description"),
        "{findings}"
    );
}

#[test]
fn long_file_is_found() {
    let mut tree = tree("hotbed-qmp", &[]);
    tree.files
        .insert("crates/qmp/src/lib.rs".to_owned(), "// x\n".repeat(500));
    assert_eq!(all(&tree), [""; 0]);
    tree.files
        .insert("crates/qmp/src/lib.rs".to_owned(), "// x\n".repeat(501));
    assert_eq!(all(&tree).len(), 1);
}

#[test]
fn tests_do_not_count_as_lines() {
    let mut tree = tree("hotbed-qmp", &[]);
    let (code, test) = ("// x\n".repeat(400), "    // y\n".repeat(400));
    let block = format!("{code}#[cfg(test)]\nmod tests {{\n    mod inner {{\n    }}\n{test}}}\n");
    tree.files
        .insert("crates/qmp/src/lib.rs".to_owned(), block.clone());
    tree.files.insert(
        "crates/qmp/src/state/tests.rs".to_owned(),
        "// y\n".repeat(900),
    );
    tree.files.insert(
        "crates/qmp/tests/it/main.rs".to_owned(),
        "// y\n".repeat(900),
    );
    assert_eq!(all(&tree), [""; 0]);
    tree.files.insert(
        "crates/qmp/src/lib.rs".to_owned(),
        format!("{block}{}", "// z\n".repeat(101)),
    );
    assert_eq!(all(&tree).len(), 1, "code after the block counts");
}

#[test]
fn what_was_left_behind_is_found_by_line() {
    for (text, found) in [
        (concat!("// TO", "DO: this\n"), true),
        (concat!("let x = dbg", "!(y);\n"), true),
        (concat!("#[ign", "ore = \"slow\"]\n"), true),
        (concat!("// FIX", "MES are not words\n"), false),
        ("debug!(x);\n", false),
    ] {
        let mut tree = tree("hotbed-qmp", &[]);
        tree.files.insert(
            "crates/qmp/src/lib.rs".to_owned(),
            format!("//! A crate.\n{text}"),
        );
        assert_eq!(
            all(&tree)
                .iter()
                .any(|finding| finding.starts_with("crates/qmp/src/lib.rs:2:")),
            found,
            "{text}"
        );
    }
}
