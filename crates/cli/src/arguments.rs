//! What can be typed: commands, options, their meaning in a sentence each.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hotbed_driver::log::Level;
use hotbed_image::cache::Limit;

/// A warm testbed for virtual machines: boots the machines of a test, joins them, runs the test's script against them.
#[derive(Debug, Parser)]
#[command(name = "hotbed", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a test.
    Run(RunOptions),
    /// Open a shell in a machine of a running test.
    Shell(ShellOptions),
    /// Build or list images.
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// See what is kept of earlier runs, and make room.
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Make snapshots for runs in other places, where nothing may be written, such as a build of Nix.
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Measure something on this host.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Say what this host has and what is missing.
    Doctor,
}

/// What `hotbed run` can be told.
#[derive(Debug, Args)]
#[command(
    override_usage = "hotbed run [OPTIONS] FILE.py [ARGS]...\n       \
        hotbed run [OPTIONS] --config FILE.json [--test-script FILE.py]",
    after_help = "Options of Hotbed come before FILE.py; what follows it is the script's sys.argv.\n\n\
        With --from-checkpoint NAME, machines and networks are as they were when `testbed.checkpoint(NAME)` was called, frames under \
        way included; only the wall clock and random numbers are new. The script begins with the statement after that call, which must \
        be one of its own, or of a `with subtest(...)` block. Of what comes before, only imports, functions, classes, and assignments \
        that neither call anything nor look into an object are run; the log says what is skipped. The script may have changed since. \
        When the machines have, or QEMU, an image or Hotbed, the checkpoint is refused. `hotbed cache list` shows checkpoints; they go, \
        as snapshots do, when there is no room.\n\n\
        Exit codes: 0 passed, 1 the test failed, 2 bad usage, head or configuration, 3 Hotbed or the host failed.\n\
        A script that calls sys.exit(n) ends Hotbed with n; a signal ends Hotbed by that signal."
)]
pub(crate) struct RunOptions {
    /// The test file, then arguments for it (`sys.argv`).
    #[arg(
        value_name = "FILE.py",
        trailing_var_arg = true,
        required_unless_present = "config",
        conflicts_with_all = ["config", "test_script"]
    )]
    pub(crate) script: Vec<OsString>,

    /// Take the machines from a JSON file of the NixOS test framework.
    #[arg(short, long, value_name = "FILE.json")]
    pub(crate) config: Option<PathBuf>,

    /// Run this script in place of the one that the JSON file names.
    #[arg(long, value_name = "FILE.py", requires = "config")]
    pub(crate) test_script: Option<PathBuf>,

    /// Put console logs, and what the test copies from its machines, into this directory.
    #[arg(short, long, value_name = "DIR", value_parser = output_directory)]
    pub(crate) output_directory: Option<PathBuf>,

    /// Write a JUnit report to this file.
    #[arg(long, value_name = "PATH")]
    pub(crate) junit_xml: Option<PathBuf>,

    /// End the test after so many seconds, whatever it does [default: what the test says, else 3600].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,

    /// Give a machine so many seconds from power-on to its shell [default: what the test says, else 300].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) boot_timeout: Option<Duration>,

    /// Keep the directory with the machines' sockets and disks.
    #[arg(short = 'K', long)]
    pub(crate) keep_machine_state: bool,

    /// Say more or less.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,

    /// When the test fails or runs out of time, keep its machines until Ctrl-C or the timeout, and say how to get into them.
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "keep"
    )]
    pub(crate) at_failure: Option<AtFailure>,

    /// Begin with power-on: neither take machines from snapshots of earlier boots, which are made when a boot is over, nor make any.
    #[arg(long)]
    pub(crate) cold: bool,

    /// Take images and snapshots from this directory, if the cache has none: `hotbed snapshot build` makes it.
    #[arg(long, value_name = "DIR", value_parser = snapshots)]
    pub(crate) snapshots: Option<PathBuf>,

    /// Keep what `testbed.checkpoint(NAME)` saves in the cache, for `--from-checkpoint` in later runs.
    #[arg(long)]
    pub(crate) keep_checkpoints: bool,

    /// Begin at this checkpoint, which an earlier run of this test took with --keep-checkpoints.
    #[arg(long, value_name = "NAME", conflicts_with = "cold")]
    pub(crate) from_checkpoint: Option<String>,

    /// Do not show the lines of the machines' consoles; they are kept all the same.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Let the guests log to the emulated serial port: slow, but there from the kernel's first line on.
    #[arg(long)]
    pub(crate) serial: bool,
}

/// What `--at-failure` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AtFailure {
    /// Keep the machines.
    Keep,
}

/// What `hotbed shell` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "A terminal gets a terminal in the machine: leave it with `exit` or Ctrl-]. Anything else on standard input is a script \
        for bash.\n\nExit codes: the shell's; 2 no such test or machine, 3 the machine is off, or the test has ended."
)]
pub(crate) struct ShellOptions {
    /// The test file that runs.
    #[arg(value_name = "FILE.py")]
    pub(crate) file: PathBuf,

    /// The machine's name in the test.
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: String,

    /// Which process, if the test runs more than once.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pid: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image (`micro`, `debian`), or those that a test file needs.
    Build {
        /// `micro`, `debian` or a test file.
        #[arg(value_name = "NAME|FILE.py")]
        what: PathBuf,
        /// Also put them into this directory, for `--snapshots`: a new one, or one that such a command has made.
        #[arg(short, long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// List the images in the cache.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List images, snapshots and checkpoints: sizes, age, uses, last use.
    List,
    /// Show all about one entry.
    Show {
        /// The beginning of its key.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Make room: remove the snapshots and checkpoints that were of no use for longest, and images that no test used for long.
    Gc {
        /// How much room these may take, such as 512M or 20G [default: $HOTBED_CACHE_LIMIT, else 8G].
        #[arg(long, value_name = "SIZE")]
        limit: Option<Limit>,
        /// When all is more than the limit, remove images that were not used for so many days, too [default: 30].
        #[arg(long, value_name = "DAYS", value_parser = days)]
        unused: Option<Duration>,
    },
    /// Read every byte, and remove what is damaged.
    Verify,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Put the images and snapshots of a test's machines into a directory. What there is none of yet is built and booted.
    Build(SnapshotOptions),
}

/// What `hotbed snapshot build` can be told.
#[derive(Debug, Args)]
pub(crate) struct SnapshotOptions {
    /// The test file; only its head counts.
    #[arg(value_name = "FILE.py")]
    pub(crate) file: PathBuf,

    /// Only this machine; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Vec<String>,

    /// Where to put them: a new directory, or one that this command has made.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Take images from this directory, which such a command has made, if the cache has none.
    #[arg(long, value_name = "DIR", value_parser = snapshots)]
    pub(crate) snapshots: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How long machines take from the call to the answer to their first command, phase by phase.
    Boot(BootOptions),
}

/// What `hotbed bench boot` can be told.
#[derive(Debug, Args)]
pub(crate) struct BootOptions {
    /// Take the machines from this test's head [default: one machine of each image: micro, debian].
    #[arg(value_name = "FILE.py")]
    pub(crate) file: Option<PathBuf>,

    /// How often each machine starts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=RUNS_MAX))]
    pub(crate) runs: u16,

    /// Only from power-on [default: both].
    #[arg(long, conflicts_with = "hot")]
    pub(crate) cold: bool,

    /// Only from a snapshot [default: both].
    #[arg(long)]
    pub(crate) hot: bool,

    /// Write all numbers to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw all starts into this file: a bar for each phase.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// The most starts of one machine that can be asked for.
const RUNS_MAX: i64 = 1000;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warning => Self::Warning,
            LogLevel::Error => Self::Error,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a timeout is a number of seconds above 0".to_owned()),
    }
}

fn days(text: &str) -> Result<Duration, String> {
    let days: u32 = text
        .parse()
        .map_err(|_| "not a number of days".to_owned())?;
    Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60))
}

pub(crate) fn output_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_dir() {
        return Err(format!("{text} is not a directory"));
    }
    rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)
        .map_err(|_| format!("{text} is not a writable directory"))?;
    Ok(path)
}

fn snapshots(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.join("entries").is_dir() {
        true => Ok(path),
        false => Err("not a directory that `hotbed snapshot build` has made".to_owned()),
    }
}
