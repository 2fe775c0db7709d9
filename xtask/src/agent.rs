//! The agent, which runs in guests: built without any shared library, and put where `hotbed` finds it.
//!
//! Hotbed works without an agent, so a machine that cannot build one is told so, and that is all.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::run::{Job, Runner};
use crate::workspace::{self, Workspace, find_program};

/// The target whose programs need nothing at all.
const MUSL: &str = "x86_64-unknown-linux-musl";
/// The next best: the C library is linked in.
const GNU: &str = "x86_64-unknown-linux-gnu";
/// The profile of the workspace's `Cargo.toml` that makes it small.
const PROFILE: &str = "agent";
const PROGRAM: &str = "hotbed-agent";

/// What the agent is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Rust's own musl.
    Musl,
    /// The host's C library, its static form.
    StaticGnu,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Musl => MUSL,
            Self::StaticGnu => GNU,
        })
    }
}

impl Target {
    /// The best target that the compiler has a standard library for; with `install`, rustup is asked for the best of all.
    ///
    /// # Errors
    ///
    /// On [`Interrupted`](crate::run::Interrupted), or when cargo cannot be started.
    pub(crate) fn choose(runner: &Runner, install: bool) -> anyhow::Result<Self> {
        if has_standard_library(runner)? {
            return Ok(Self::Musl);
        }
        if install && find_program("rustup").is_some() {
            println!("Adding Rust's target {MUSL}, for the agent that runs in guests.");
            let add = Job::new("rustup").args(["target", "add", MUSL]);
            let outcome = runner.watch("rustup target add", &add, &mut |_| {})?;
            if outcome.success() && has_standard_library(runner)? {
                return Ok(Self::Musl);
            }
        }
        Ok(Self::StaticGnu)
    }

    /// Builds the agent.
    pub(crate) fn job(self, workspace: &Workspace) -> Job {
        let job = Job::new(workspace::cargo())
            .args(["build", "--package", PROGRAM, "--profile", PROFILE])
            .args(["--target", &self.to_string()])
            .folder(workspace.root());
        match self {
            Self::Musl => job,
            Self::StaticGnu => job.env("RUSTFLAGS", "-C target-feature=+crt-static"),
        }
    }

    /// Puts what was built where `hotbed` and the tests find it; what is there already stays.
    ///
    /// Not beside `hotbed`: there cargo puts an agent of the development profile when it builds the workspace's tests, and
    /// that one needs the host's libraries.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn install(self, workspace: &Workspace) -> anyhow::Result<PathBuf> {
        let built = workspace
            .target()
            .join(self.to_string())
            .join(PROFILE)
            .join(PROGRAM);
        let place = workspace.target().join("libexec/hotbed");
        let program = place.join(PROGRAM);
        if !same(&built, &program) {
            std::fs::create_dir_all(&place)
                .with_context(|| format!("cannot make {}", place.display()))?;
            // A machine may be booting from the old one: it is replaced in one step.
            let new = place.join(format!("{PROGRAM}.new"));
            std::fs::copy(&built, &new)
                .and_then(|_| std::fs::rename(&new, &program))
                .with_context(|| format!("cannot copy {}", built.display()))?;
        }
        Ok(program)
    }
}

/// Builds the agent for `demo`; says so when it cannot be built.
///
/// # Errors
///
/// On [`Interrupted`](crate::run::Interrupted) only.
pub(crate) fn build(workspace: &Workspace, runner: &Runner, install: bool) -> anyhow::Result<()> {
    let target = Target::choose(runner, install)?;
    let label = format!("Building the agent, for guests ({target})");
    let outcome = runner.watch(&label, &target.job(workspace), &mut |_| {})?;
    let installed = if outcome.success() {
        target.install(workspace).map(|_| ())
    } else {
        Err(anyhow::anyhow!("{}", outcome.tail.join("\n  ")))
    };
    if let Err(error) = installed {
        println!("{}", without(&format!("{error:#}")));
    }
    Ok(())
}

/// What is said when there is no agent.
pub(crate) fn without(reason: &str) -> String {
    format!(
        "There is no agent, so commands and waits go through the guests' shell, which is slower; all else works.\n  {reason}"
    )
}

fn has_standard_library(runner: &Runner) -> anyhow::Result<bool> {
    // The one that cargo would run.
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let folder = Job::new(rustc).args(["--print", "target-libdir", "--target", MUSL]);
    let output = runner.ask(&folder)?;
    if !output.status.success() {
        bail!(
            "rustc does not say where its libraries are: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    Ok(names.any(|name| name.starts_with("libstd-")))
}

fn same(one: &Path, other: &Path) -> bool {
    match (std::fs::read(one), std::fs::read(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
