//! Which test or example uses a symbol.

use std::path::Path;

use anyhow::Context as _;

use crate::stubs;
use crate::workspace::Workspace;

/// Where tests of scripts are: Rust files with scripts in them.
const FOLDERS: [&str; 2] = ["crates/cli/tests/it", "crates/python/tests/it"];
/// What a test begins with.
const TEST: &str = "#[test]";

/// Tests and examples.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Name and text of each.
    tests: Vec<(String, String)>,
}

impl Sources {
    /// Reads those of the checkout.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub(super) fn read(workspace: &Workspace) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        for folder in FOLDERS {
            for file in stubs::files_of(&workspace.root().join(folder), "rs")? {
                sources.add_tests(&read(&file)?);
            }
        }
        for file in stubs::python_files(&workspace.root().join("examples"))? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            sources
                .tests
                .push((format!("examples/{name}"), read(&file)?));
        }
        Ok(sources)
    }

    /// Takes the tests of a Rust file.
    pub(super) fn add_tests(&mut self, text: &str) {
        for test in text.split(TEST).skip(1) {
            let name = test.split_once("fn ").map_or("?", |(_, rest)| rest);
            let name = name.split('(').next().unwrap_or_default();
            self.tests.push((name.to_owned(), test.to_owned()));
        }
    }

    /// The first test that uses a symbol: what has an owner stands behind a dot, what stands alone does not.
    pub(super) fn test_of(&self, symbol: &str) -> Option<String> {
        let (is_member, name) = match symbol.rsplit_once('.') {
            Some((_, name)) => (true, name),
            None => (false, symbol),
        };
        let uses = |(_, text): &&(String, String)| is_used(text, name, is_member);
        self.tests.iter().find(uses).map(|(name, _)| name.clone())
    }
}

fn is_used(text: &str, name: &str, is_member: bool) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        // A line break in a Rust literal.
        let before = before.strip_suffix("\\n").map_or(before, |_| "\n");
        !after.starts_with(is_part)
            && !before.ends_with(is_part)
            && before.ends_with('.') == is_member
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
