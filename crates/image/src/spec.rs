//! What is wanted: the image of a machine, as the head of a test names it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;

/// The image that a machine boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Spec {
    /// A kernel, busybox and bash: boots in little time and has no systemd.
    #[default]
    Micro,
    /// Debian with systemd.
    Debian(DebianSpec),
}

/// What goes into a `debian` image beside the base system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebianSpec {
    /// Packages by name; their order and repetitions do not matter. What they recommend is not installed.
    pub packages: Vec<String>,
    /// Files by absolute path in the guest, owned by root; written after the packages are in.
    pub files: BTreeMap<String, FileSpec>,
    /// Commands of bash, run in this order inside the root at build time, after the files: as root, with no services.
    pub run: Vec<String>,
}

/// One file of a [`DebianSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// What is in it.
    pub content: String,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
}

impl Spec {
    /// Says what no image can have, without building anything.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Micro => Ok(()),
            Self::Debian(spec) => spec.check(),
        }
    }
}

impl DebianSpec {
    /// Says what no image can have, without building anything.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        for name in &self.packages {
            let is_word = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.:=~".contains(&byte));
            let is_first = name.starts_with(|first: char| first.is_ascii_alphanumeric());
            // apt would remove a package whose name ends in a hyphen.
            if !is_word || !is_first || name.ends_with('-') || name.len() > NAME_MAX {
                return wrong(format!("{name:?} is not the name of a package"));
            }
        }
        for (path, file) in &self.files {
            let is_plain = path
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "" | "." | ".."));
            if !path.starts_with('/')
                || !is_plain
                || path.contains(['\0', '\n'])
                || path.len() > PATH_MAX
            {
                return wrong(format!(
                    "{path:?} is not the absolute path of a file, without `.` and `..`"
                ));
            }
            if file.mode > 0o7777 {
                return wrong(format!(
                    "the mode {:o} of {path} has more than four octal digits",
                    file.mode
                ));
            }
            if file.content.contains('\0') || file.content.len() > TEXT_MAX {
                return wrong(format!(
                    "{path} holds a zero byte, or more than {TEXT_MAX} bytes"
                ));
            }
        }
        match self
            .run
            .iter()
            .find(|command| command.contains('\0') || command.len() > COMMAND_MAX)
        {
            Some(command) => wrong(format!(
                "the command {:.40?} holds a zero byte or is too long",
                command
            )),
            None => Ok(()),
        }
    }

    /// The packages, each once, in order.
    pub(crate) fn sorted_packages(&self) -> Vec<&str> {
        let sorted: BTreeSet<&str> = self.packages.iter().map(String::as_str).collect();
        sorted.into_iter().collect()
    }
}

fn wrong<T>(message: String) -> Result<T, Error> {
    Err(Error::InvalidSpec(message))
}

const NAME_MAX: usize = 200;
const PATH_MAX: usize = 1024;
const TEXT_MAX: usize = 16 << 20;
/// The kernel takes no longer argument.
const COMMAND_MAX: usize = 100 << 10;

#[cfg(test)]
mod tests;
