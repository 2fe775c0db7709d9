//! What a source file may hold.

use super::tree::Tree;

/// The most lines of a Rust file, tests not counted.
const LINES_MAX: usize = 500;

/// What must not stay in a source file, and why. In two halves, or this file would break its own rule.
const LEFT_BEHIND: &[(&str, &str, &str)] = &[
    ("TO", "DO", "do it, or write an issue"),
    ("FIX", "ME", "fix it, or write an issue"),
    ("dbg", "!(", "left from a search for a bug"),
    ("#[ign", "ore", "a test that does not run proves nothing"),
];

/// Endings of files in which something may have been left behind.
const ENDINGS: &[&str] = &[".rs", ".py", ".pyi", ".nix", ".sh", ".toml"];

/// Files that are too long, and what was left behind in some.
pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        let lines = lines_without_tests(path, text);
        if path.ends_with(".rs") && lines > LINES_MAX {
            findings.push(format!(
                "{path}: {lines} lines without tests, more than {LINES_MAX}: split it by subject"
            ));
        }
        if ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            findings.extend(left_behind(path, text));
        }
    }
    findings
}

fn left_behind(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (head, tail, why) in LEFT_BEHIND {
            let word = format!("{head}{tail}");
            if contains_word(line, &word) {
                findings.push(format!("{path}:{}: {word}: {why}", number + 1));
            }
        }
    }
    findings
}

/// Whether a line holds a word that is not part of a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..]
            .chars()
            .next()
            .filter(|_| word.ends_with(char::is_alphanumeric));
        !before.is_some_and(is_part_of_word) && !after.is_some_and(is_part_of_word)
    })
}

fn is_part_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Counts the lines of a Rust file outside its `#[cfg(test)] mod … { }`; none in a file that is all tests.
///
/// The source is formatted, so that the block ends at the brace that is indented as its attribute is.
fn lines_without_tests(path: &str, text: &str) -> usize {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return 0;
    }
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let block = lines
            .peek()
            .is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if line.trim_start() == "#[cfg(test)]" && block {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            lines.by_ref().find(|line| *line == end);
        } else {
            count += 1;
        }
    }
    count
}
