//! Why there is no image.

use std::io;
use std::path::PathBuf;

/// Why an image could not be built, found or given an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The head of a test asks for something that no image can have.
    #[error("{0}")]
    InvalidSpec(String),
    /// The driver gave a machine a name or an address that a guest cannot take.
    #[error("{0}")]
    InvalidIdentity(String),
    /// A program or file that a build needs is not installed.
    #[error("`{tool}` is not installed: it is in the package `{package}` of Debian and Ubuntu")]
    MissingTool {
        /// The program or file.
        tool: String,
        /// The package that brings it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status}){}", last_words.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Tool {
        /// What was being done.
        what: String,
        /// How the program ended.
        status: String,
        /// The last lines that it wrote, and what they mean where that is known.
        last_words: Vec<String>,
    },
    /// [`crate::Progress::is_interrupted`] said so.
    #[error("the build was interrupted")]
    Interrupted,
    /// This host is no system that images can be made on, or its package sources are of no use.
    #[error("{0}")]
    UnusableHost(String),
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where the cache is.
    #[error("no place for the cache: neither XDG_CACHE_HOME nor HOME is set to an absolute path")]
    NoCacheHome,
    /// The disk is full.
    #[error("no space left for {}", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the cache or the host could not be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that was downloaded or that the host has is not what it should be.
    #[error("{} is not usable: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
