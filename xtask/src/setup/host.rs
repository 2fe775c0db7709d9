//! What this machine is, and what is on it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::workspace::find_program_in;

/// Where a need applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// On every machine.
    Everywhere,
    /// Where the user is not root.
    NotRoot,
    /// Where Debian's own keys are not part of the system.
    NotDebian,
    /// Where the package is: its relatives do not have all of Debian's.
    Debian,
}

/// Which package manager there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Debian itself.
    Debian,
    /// A relative of Debian, such as Ubuntu: apt, but other keys.
    Relative,
    /// Something else.
    Other,
}

/// This machine, as far as the set-up cares.
#[derive(Debug)]
pub(crate) struct Host {
    /// What the system calls itself.
    pub(crate) name: String,
    /// Which package manager it has.
    pub(crate) family: Family,
    /// Whether we may install things ourselves.
    pub(crate) root: bool,
    path: OsString,
    files: PathBuf,
}

impl Host {
    /// Looks at the machine that this process runs on.
    ///
    /// # Errors
    ///
    /// When it has no `/etc/os-release`.
    pub(crate) fn detect() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/etc/os-release")
            .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
        let release = Release::parse(&text.unwrap_or_default());
        Ok(Self {
            name: release.name,
            family: release.family,
            root: rustix::process::geteuid().is_root(),
            path: std::env::var_os("PATH").unwrap_or_default(),
            files: PathBuf::from("/"),
        })
    }

    /// Whether a need applies here.
    pub(crate) fn wants(&self, only: Only) -> bool {
        match only {
            Only::Everywhere => true,
            Only::NotRoot => !self.root,
            Only::NotDebian => self.family != Family::Debian,
            Only::Debian => self.family == Family::Debian,
        }
    }

    /// Finds a program.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        find_program_in(&self.path, name)
    }

    /// Whether a program needs no shared library.
    pub(crate) fn is_static(&self, file: &Path) -> bool {
        std::fs::read(file).is_ok_and(|bytes| is_static_elf(&bytes))
    }

    /// Whether a file is there; see [`super::needs::Probe::File`] for the pattern.
    pub(crate) fn has_file(&self, pattern: &str) -> bool {
        let python = if pattern.contains("{python}") {
            self.python()
        } else {
            String::new()
        };
        let pattern = pattern.replace("{python}", &python);
        match pattern.split_once("/*/") {
            None => self.below(&pattern).exists(),
            Some((folder, rest)) => {
                std::fs::read_dir(self.below(folder)).is_ok_and(|mut entries| {
                    entries.any(|entry| entry.is_ok_and(|entry| entry.path().join(rest).exists()))
                })
            }
        }
    }

    /// The name behind `/usr/bin/python3`, such as `python3.11`.
    fn python(&self) -> String {
        let target = std::fs::read_link(self.below("/usr/bin/python3")).unwrap_or_default();
        target
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    fn below(&self, path: &str) -> PathBuf {
        self.files.join(path.trim_start_matches('/'))
    }

    /// A made-up machine.
    #[cfg(test)]
    pub(super) fn made_up(family: Family, root: bool, files: &Path) -> Self {
        let path = files.join("usr/bin").into();
        Self {
            name: "made up".to_owned(),
            family,
            root,
            path,
            files: files.to_owned(),
        }
    }
}

/// What `/etc/os-release` says.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) family: Family,
}

impl Release {
    pub(super) fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        let family = match (value("ID").as_str(), value("ID_LIKE")) {
            ("debian", _) => Family::Debian,
            (_, like)
                if like
                    .split_whitespace()
                    .any(|word| matches!(word, "debian" | "ubuntu")) =>
            {
                Family::Relative
            }
            _ => Family::Other,
        };
        let name = Some(value("PRETTY_NAME")).filter(|name| !name.is_empty());
        Self {
            name: name.unwrap_or_else(|| "an unknown system".to_owned()),
            family,
        }
    }
}

/// Whether these are the bytes of a 64-bit ELF program that asks for no interpreter.
pub(super) fn is_static_elf(bytes: &[u8]) -> bool {
    const PROGRAM_INTERPRETER: u32 = 3;
    let word = |at: usize, len: usize| -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    let interpreted = || -> Option<bool> {
        let table = usize::try_from(word(32, 8)?).ok()?;
        let (size, count) = (
            usize::try_from(word(54, 2)?).ok()?,
            usize::try_from(word(56, 2)?).ok()?,
        );
        for index in 0..count {
            if word(table.checked_add(size.checked_mul(index)?)?, 4)?
                == u64::from(PROGRAM_INTERPRETER)
            {
                return Some(true);
            }
        }
        Some(false)
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && interpreted() == Some(false)
}
