//! What the rules look at.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::run::{Job, Runner};
use crate::workspace::{self, Workspace};

/// A checkout, as far as the rules care.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The text files, by path below the root.
    pub(super) files: BTreeMap<String, String>,
    /// The packages of the workspace.
    pub(super) packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest_path: String,
    pub(super) license: Option<String>,
    pub(super) description: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// An entry of a package's dependency tables.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` for a normal one, `dev` or `build`.
    pub(super) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Tree {
    /// Reads a checkout: what git tracks or would track, and cargo's view of it.
    pub(super) fn read(workspace: &Workspace, runner: &Runner) -> anyhow::Result<Self> {
        let root = workspace.root();
        let list = Job::new("git").args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let mut files = BTreeMap::new();
        for name in String::from_utf8_lossy(&stdout(runner, list.folder(root))?).split('\0') {
            // A file that is deleted but not yet committed, or that is not text, is no source file.
            if let Ok(text) = std::fs::read_to_string(root.join(name)) {
                files.insert(name.to_owned(), text);
            }
        }
        let ask =
            Job::new(workspace::cargo()).args(["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Metadata =
            serde_json::from_slice(&stdout(runner, ask.folder(root))?).context("cargo metadata")?;
        let mut packages = metadata.packages;
        for package in &mut packages {
            let below = Path::new(&package.manifest_path)
                .strip_prefix(root)
                .context("a package outside the checkout")?;
            package.manifest_path = below.to_string_lossy().into_owned();
        }
        Ok(Self { files, packages })
    }

    /// Whether a package of this name is ours.
    pub(super) fn has_package(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }
}

impl Package {
    /// The package's folder below the root, such as `crates/qmp`.
    pub(super) fn folder(&self) -> &str {
        self.manifest_path
            .strip_suffix("/Cargo.toml")
            .unwrap_or_default()
    }
}

fn stdout(runner: &Runner, job: Job) -> anyhow::Result<Vec<u8>> {
    let output = runner.ask(&job)?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}
