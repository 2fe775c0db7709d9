//! Set-up: installs what this machine lacks, and nothing else.
//!
//! - [`needs`]: the one table of what is needed, where it is looked for, and which package brings it.
//! - [`host`]: what this machine is.
//! - [`apt`]: asks apt what it would do, says so, and lets it.
//!
//! Things are looked for as programs and files, so what came from elsewhere (a backport, a build of one's own) counts.
//! Package sources are never touched.

pub(crate) mod apt;
mod host;
pub(crate) mod needs;

use anyhow::bail;

use self::host::{Family, Host};
use self::needs::{Need, Purpose};
use crate::run::Runner;

/// Arguments that every job with a set-up takes.
#[derive(Debug, clap::Args)]
#[group(id = "setup")]
pub(crate) struct Arguments {
    /// Only say what is missing; install nothing.
    #[arg(long)]
    pub(crate) no_install: bool,
}

/// Makes sure that what the purposes need is there.
///
/// # Errors
///
/// When something is missing and cannot or shall not be installed.
pub(crate) fn ensure(
    runner: &Runner,
    purposes: &[Purpose],
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let host = Host::detect()?;
    let missing = missing(&host, purposes);
    if missing.is_empty() {
        return Ok(());
    }
    println!("This machine ({}) lacks:", host.name);
    print!("{}", describe(&missing));
    let packages = packages(&missing);
    if host.family == Family::Other {
        bail!(
            "install the programs above with this system's package manager; Debian and Ubuntu call them: {}",
            packages.join(" ")
        );
    }
    if arguments.no_install {
        let sudo = if host.root { "" } else { "sudo " };
        bail!(
            "to install it: {sudo}apt-get install --no-install-recommends {} (if apt does not know them: \
             {sudo}apt-get update)",
            packages.join(" ")
        );
    }
    apt::install(runner, &host, &packages)?;
    let still: Vec<_> = self::missing(&host, purposes);
    if !still.is_empty() {
        bail!(
            "apt is done, but this is not where it was expected:\n{}",
            describe(&still)
        );
    }
    Ok(())
}

fn missing(host: &Host, purposes: &[Purpose]) -> Vec<&'static Need> {
    let wanted = needs::TABLE
        .iter()
        .filter(|need| purposes.contains(&need.purpose) && host.wants(need.only));
    wanted.filter(|need| !need.probe.is_met(host)).collect()
}

/// One line per need: what, why, and the package.
fn describe(missing: &[&Need]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for need in missing {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {:<36} {} (package {})",
            need.probe.to_string(),
            need.reason,
            need.package
        );
    }
    text
}

/// The packages of some needs, each once, in the table's order.
fn packages(missing: &[&Need]) -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = Vec::new();
    for need in missing {
        if !packages.contains(&need.package) {
            packages.push(need.package);
        }
    }
    packages
}

#[cfg(test)]
mod tests;
