//! `hotbed doctor`: what this host has, and what is missing.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anstream::{eprintln, println};
use hotbed_driver::capacity::Capacity;
use hotbed_driver::config::{BOOT_TIMEOUT, TestConfig};
use hotbed_driver::{AgentProgram, Call, Log, Options, Testbed};
use hotbed_image::Cache;
use owo_colors::OwoColorize;

use crate::report::{self, Exit};

/// What machines and images need: the program, Debian's package, what for.
const PROGRAMS: [(&str, &str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86", "runs the machines"),
    ("apt-get", "apt", "downloads kernels and packages"),
    ("dpkg-deb", "dpkg", "unpacks kernels"),
    ("busybox", "busybox-static", "is most of the micro image"),
    (
        "bash-static",
        "bash-static",
        "is the shell of the micro image",
    ),
    ("mmdebstrap", "mmdebstrap", "builds debian images"),
    ("mkfs.erofs", "erofs-utils", "packs debian images"),
];
/// Less free space than this is not enough to build a debian image.
const SPACE_MIN: u64 = 2 << 30;
/// What a machine takes that shares its snapshot's memory with others, as measured under TCG: with the default of memory, and idle.
const MICRO_BYTES: u64 = 45 << 20;
const DEBIAN_BYTES: u64 = 110 << 20;
/// Folders for administrators, which are not in every user's `PATH`.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Runs `hotbed doctor`: exit code 0 when nothing is missing, else 3.
pub(crate) fn run() -> Exit {
    let mut is_well = true;
    for (program, package, purpose) in PROGRAMS {
        match find(program) {
            Some(path) => good(program, path.display()),
            None => {
                is_well = false;
                bad(
                    program,
                    format_args!("missing; it {purpose}: apt-get install {package}"),
                );
            }
        }
    }
    is_well &= check_agent();
    is_well &= check_space(
        "images",
        Cache::open().map(|cache| cache.root().to_owned()).ok(),
    );
    is_well &= check_space("temporary files", Some(std::env::temp_dir()));
    say_capacity();
    if is_well {
        is_well = check_accelerator();
    }
    if is_well {
        Exit::Success
    } else {
        Exit::HostFailed
    }
}

/// What goes into guests as their agent. All works without it, too.
fn check_agent() -> bool {
    match AgentProgram::find(None) {
        Ok(AgentProgram::Found(agent)) => good("agent", agent.path().display()),
        Ok(AgentProgram::Missing) => note(
            "agent",
            "none found beside this program or in ../libexec/hotbed, nor named by HOTBED_AGENT; machines work without it, slower, and without spawn",
        ),
        Ok(AgentProgram::Off) => note("agent", "none, as HOTBED_AGENT is empty"),
        Err(error) => {
            bad("agent", report::chain(&error));
            return false;
        }
    }
    true
}

fn check_space(what: &str, folder: Option<PathBuf>) -> bool {
    let Some(folder) = folder else {
        bad(what, "no folder: set HOME or XDG_CACHE_HOME");
        return false;
    };
    let free =
        rustix::fs::statvfs(&folder).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    match free {
        Ok(free) if free >= SPACE_MIN => {
            good(
                what,
                format_args!("{} ({} GiB free)", folder.display(), free >> 30),
            );
            true
        }
        Ok(free) => {
            let (free, least) = (free >> 20, SPACE_MIN >> 20);
            bad(
                what,
                format_args!(
                    "{} has {free} MiB free; {least} are needed",
                    folder.display()
                ),
            );
            false
        }
        Err(error) => {
            bad(what, format_args!("{}: {error}", folder.display()));
            false
        }
    }
}

/// How many machines there may be before the host swaps, and everything is slow.
fn say_capacity() {
    let capacity = Capacity::of_host();
    let Some(memory) = capacity.memory else {
        note("memory", "the system does not say how much is available");
        return;
    };
    let holds = |bytes| capacity.holds(bytes).unwrap_or_default();
    good(
        "memory",
        format_args!(
            "{} MiB available: before it swaps, this host holds about {} micro or {} debian machines that begin from a snapshot",
            memory >> 20,
            holds(MICRO_BYTES),
            holds(DEBIAN_BYTES)
        ),
    );
}

/// Finds out what runs guests here, by booting one unless that was done before.
fn check_accelerator() -> bool {
    eprintln!("finding out what runs machines here; this may boot one …");
    let log = Log::to(Box::new(std::io::sink()), false);
    let config = TestConfig {
        machines: Vec::new(),
        vlans: Vec::new(),
        global_timeout: None,
        boot_timeout: BOOT_TIMEOUT,
        script: PathBuf::from("doctor"),
        ssh_backdoor: false,
    };
    let found = Testbed::new(config, Options::default(), log.into()).and_then(|testbed| {
        let verdict = testbed.accelerator(&Call::unlimited());
        testbed.stop();
        verdict
    });
    match found {
        Ok(verdict) => {
            good("accelerator", verdict);
            true
        }
        Err(error) => {
            bad("accelerator", report::chain(&error));
            false
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ADMINISTRATORS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn good(what: &str, found: impl Display) {
    println!("{} {what}: {found}", "ok ".green());
}

fn note(what: &str, found: impl Display) {
    println!("{} {what}: {found}", "-- ".yellow());
}

fn bad(what: &str, problem: impl Display) {
    println!("{} {what}: {problem}", "BAD".red().bold());
}
