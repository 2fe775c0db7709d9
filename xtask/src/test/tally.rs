//! What a step counted.

use std::path::Path;

/// How many lines of a failure are shown again at the end.
const SHOWN_LINES: usize = 80;

/// Counts of one step, or of several.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Tests and checks that passed.
    pub(crate) passed: u32,
    /// Tests and checks that failed.
    pub(crate) failed: u32,
    /// What tests said when they skipped something.
    pub(crate) skipped: Vec<String>,
    /// One text per failure, to be shown at the end.
    pub(crate) failures: Vec<String>,
    block: Option<Vec<String>>,
    blocks: Vec<String>,
}

impl Tally {
    /// Reads one line that a program printed: the results of Rust's test harness, and what was skipped.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.blocks.extend(
                self.block
                    .take()
                    .filter(|block| block.len() > 1)
                    .map(|block| block.join("\n")),
            );
        } else if line == "failures:" && self.block.is_none() {
            self.block = Some(vec![line.to_owned()]);
        } else if let Some(block) = self
            .block
            .as_mut()
            .filter(|block| block.len() < SHOWN_LINES)
        {
            block.push(line.to_owned());
        }
        if line.trim_start().to_lowercase().starts_with("skip") {
            self.skipped.push(line.trim().to_owned());
        }
    }

    /// Counts a program as one check when it had no tests, and as a failure when it failed without saying which.
    pub(crate) fn settle(
        &mut self,
        name: &str,
        success: bool,
        how: &str,
        tail: &[String],
        log: &Path,
    ) {
        if success && self.failed == 0 {
            if self.passed == 0 {
                self.passed = 1;
            }
            return;
        }
        self.failed = self.failed.max(1);
        let shown = if self.blocks.is_empty() {
            tail.get(tail.len().saturating_sub(SHOWN_LINES)..)
                .unwrap_or_default()
                .join("\n")
        } else {
            self.blocks.join("\n")
        };
        self.failures.push(format!(
            "{name} ({how}; all of it: {})\n{shown}",
            log.display()
        ));
    }

    /// Counts one check that passed.
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    /// Counts one check that failed.
    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        self.failures.push(format!("{name}\n{why}"));
    }

    /// Adds the counts of another.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
    }
}

/// Finds the number before a word, as in `ok. 12 passed; 0 failed`.
fn count(text: &str, word: &str) -> u32 {
    let part = text
        .split(['.', ';'])
        .find_map(|part| part.trim().strip_suffix(word));
    part.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}
