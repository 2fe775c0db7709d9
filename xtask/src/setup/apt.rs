//! Lets apt install packages, after saying what that will do.

use anyhow::{Context as _, bail};

use super::host::Host;
use crate::run::{Job, Runner};
use crate::workspace::find_program;

/// How long apt may wait for another package manager to finish.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// What apt says that it would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Packages to unpack, new or newer.
    pub(crate) installs: Vec<String>,
    /// Packages to take away.
    pub(crate) removals: Vec<String>,
}

impl Plan {
    /// Reads the output of `apt-get --simulate install`.
    pub(crate) fn parse(text: &str) -> Self {
        let names = |verb: &str| {
            let rest = text
                .lines()
                .filter_map(|line| line.strip_prefix(verb)?.strip_prefix(' '));
            rest.filter_map(|rest| rest.split_whitespace().next())
                .map(str::to_owned)
                .collect()
        };
        Self {
            installs: names("Inst"),
            removals: names("Remv"),
        }
    }
}

/// Installs packages.
///
/// # Errors
///
/// When apt cannot, or when we may not become root.
pub(super) fn install(runner: &Runner, host: &Host, packages: &[&str]) -> anyhow::Result<()> {
    if !host.root && find_program("sudo").is_none() {
        bail!(
            "not root, and there is no sudo; as root: apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    let plan = match simulate(runner, packages)? {
        Ok(plan) => plan,
        Err(_) => {
            println!(
                "apt does not know them all yet: refreshing its package lists (apt-get update)"
            );
            as_root(runner, host, &["update"])?;
            simulate(runner, packages)?
                .map_err(|words| anyhow::anyhow!("apt cannot install them:\n{words}"))?
        }
    };
    println!("apt will install: {}", plan.installs.join(" "));
    if !plan.removals.is_empty() {
        println!(
            "apt will REMOVE:  {} (in the way of the above)",
            plan.removals.join(" ")
        );
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    if as_root(runner, host, &arguments).is_ok() {
        return Ok(());
    }
    runner.check()?;
    println!("that failed; once more with fresh package lists (apt-get update)");
    as_root(runner, host, &["update"])?;
    as_root(runner, host, &arguments)
}

/// Asks apt what it would do; the inner error is what apt said.
fn simulate(runner: &Runner, packages: &[&str]) -> anyhow::Result<Result<Plan, String>> {
    let job = Job::new("apt-get")
        .args(["--simulate", "install", "--no-install-recommends"])
        .args(packages);
    let output = runner
        .ask(
            &job.env("LC_ALL", "C")
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
        .context("apt")?;
    if output.status.success() {
        return Ok(Ok(Plan::parse(&String::from_utf8_lossy(&output.stdout))));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr)
        .trim()
        .to_owned()))
}

fn as_root(runner: &Runner, host: &Host, arguments: &[&str]) -> anyhow::Result<()> {
    // sudo drops the environment, so `env` sets it behind sudo.
    let mut words = if host.root { vec![] } else { vec!["sudo"] };
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        LOCK_TIMEOUT,
    ]);
    words.extend(arguments);
    let (program, rest) = words.split_first().context("no words")?;
    let status = runner.converse(&Job::new(program).args(rest))?;
    if !status.success() {
        bail!(
            "apt-get {} failed ({status})",
            arguments.first().unwrap_or(&"")
        );
    }
    Ok(())
}
