//! The two command lines of `nixos-test-driver`: with lists of start scripts (to 25.11), and with `--config` (from 26.05).
//!
//! They are told apart by `--config`. Options may be shortened as far as they stay unique *within their own form*, which is why
//! there are two parsers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::arguments::{LogLevel, output_directory};

/// What was typed, or stands in the environment.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) machines: Machines,
    pub(super) common: Common,
}

/// Where the machines and the script come from.
#[derive(Debug)]
pub(super) enum Machines {
    /// Lists.
    Lists(Lists),
    /// A JSON file.
    Config(Config),
}

/// What both forms have.
#[derive(Debug, Default, Args)]
pub(super) struct Common {
    /// Start an interactive session in place of the script.
    #[arg(short = 'I', long, overrides_with = "no_interactive")]
    pub(super) interactive: bool,

    /// Run the script (the default).
    #[arg(long, overrides_with = "interactive")]
    pub(super) no_interactive: bool,

    /// The directory for what the test copies from its machines [default: the current one].
    #[arg(short, long = "output_directory", value_name = "DIR", value_parser = output_directory)]
    pub(super) output_directory: Option<PathBuf>,

    /// Write a JUnit report to this file, which is in the output directory unless it is absolute.
    #[arg(long, value_name = "PATH")]
    pub(super) junit_xml: Option<PathBuf>,

    /// Enable breakpoints, and run this command at each.
    #[arg(long, value_name = "CMD")]
    pub(super) debug_hook_attach: Option<String>,
}

/// Runs a NixOS integration test: the command line of NixOS up to 25.11. (`--config FILE` selects that of 26.05.)
#[derive(Debug, Parser)]
#[command(name = "nixos-test-driver", version, infer_long_args = true)]
pub(super) struct Lists {
    /// Keep the machines' state in vm-state-NAME of earlier runs.
    #[arg(short = 'K', long)]
    pub(super) keep_vm_state: bool,

    /// Start scripts of virtual machines [default from environment: startScripts].
    #[arg(long, value_name = "START-SCRIPT", num_args = 0.., overrides_with = "start_scripts")]
    pub(super) start_scripts: Option<Vec<String>>,

    /// Start scripts of virtual machines [default from environment: vmStartScripts].
    #[arg(long, value_name = "START-SCRIPT", num_args = 0.., overrides_with = "vm_start_scripts")]
    pub(super) vm_start_scripts: Option<Vec<String>>,

    /// Start scripts of containers [default from environment: containerStartScripts].
    #[arg(long, value_name = "START-SCRIPT", num_args = 0.., overrides_with = "container_start_scripts")]
    pub(super) container_start_scripts: Option<Vec<String>>,

    /// The numbers of the VLANs [default from environment: vlans].
    #[arg(long, value_name = "VLAN", num_args = 0.., overrides_with = "vlans")]
    pub(super) vlans: Option<Vec<String>>,

    /// End the test after so many seconds.
    #[arg(long, value_name = "SECONDS", env = "globalTimeout")]
    pub(super) global_timeout: Option<u64>,

    /// Say how to reach each machine's SSH server by vsock, whose addresses begin here.
    #[arg(long, value_name = "OFFSET")]
    pub(super) dump_vsocks: Option<u32>,

    #[command(flatten)]
    pub(super) common: Common,

    /// The test script.
    #[arg(value_name = "testscript", env = "testScript")]
    pub(super) test_script: PathBuf,
}

/// Runs a NixOS integration test: the command line of NixOS from 26.05 on.
#[derive(Debug, Parser)]
#[command(name = "nixos-test-driver", version, infer_long_args = true)]
pub(super) struct Config {
    /// The JSON file that describes the test.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: PathBuf,

    /// Run this script in place of the one that the JSON file names.
    #[arg(long, value_name = "FILE")]
    pub(super) test_script: Option<PathBuf>,

    /// Keep the machines' state in vm-state-NAME of earlier runs.
    #[arg(short = 'K', long)]
    pub(super) keep_machine_state: bool,

    /// The older name of --keep-machine-state.
    #[arg(long, hide = true)]
    pub(super) keep_vm_state: bool,

    /// Say more or less.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "logLevel")]
    pub(super) log_level: LogLevel,

    #[command(flatten)]
    pub(super) common: Common,
}

/// Reads the command line; ends the process when it is wrong, or when help was asked for.
pub(super) fn parse(arguments: &[OsString]) -> Arguments {
    match has_config(arguments) {
        true => {
            let mut config = Config::parse_from(arguments);
            Arguments {
                common: std::mem::take(&mut config.common),
                machines: Machines::Config(config),
            }
        }
        false => {
            let mut lists = Lists::parse_from(arguments);
            Arguments {
                common: std::mem::take(&mut lists.common),
                machines: Machines::Lists(lists),
            }
        }
    }
}

/// Whether `-c` or `--config`, or what may be short for it, is among the options.
fn has_config(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .skip(1)
        .map(|argument| argument.to_string_lossy())
        .take_while(|argument| argument != "--")
        .any(|argument| match argument.strip_prefix("--") {
            Some(long) => {
                let name = long.split('=').next().unwrap_or_default();
                !name.is_empty() && "config".starts_with(name)
            }
            None => argument.strip_prefix('-').is_some_and(|short| {
                // A value follows `-o`.
                short.chars().take_while(|&c| c != 'o').any(|c| c == 'c')
            }),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        let words = line.split_whitespace().map(OsString::from);
        std::iter::once("nixos-test-driver".into())
            .chain(words)
            .collect()
    }

    #[test]
    fn the_form_is_told_by_its_option() {
        for with in [
            "-c f",
            "--config f",
            "--config=f",
            "--conf f",
            "-Kc f",
            "-cf",
            "t -c f",
        ] {
            assert!(has_config(&arguments(with)), "{with}");
        }
        for without in [
            "t",
            "-K t",
            "-o c t",
            "-oc t",
            "--container-start-scripts a",
            "-- -c",
            "",
            "--",
        ] {
            assert!(!has_config(&arguments(without)), "{without}");
        }
    }

    #[test]
    fn options_may_be_shortened() {
        let line = "--start-scripts /a/run-a-vm /b/run-b-vm --vlans 1 2 --glob 60 --junit=j.xml --debug-hook=/x --keep -I t.py";
        let lists = Lists::try_parse_from(arguments(line)).unwrap();
        assert_eq!(lists.start_scripts.unwrap(), ["/a/run-a-vm", "/b/run-b-vm"]);
        assert_eq!(lists.vlans.unwrap(), ["1", "2"]);
        assert_eq!(lists.global_timeout, Some(60));
        assert!(lists.keep_vm_state && lists.common.interactive);
        assert_eq!(lists.common.junit_xml, Some("j.xml".into()));
        assert_eq!(lists.common.debug_hook_attach, Some("/x".into()));
        assert_eq!(lists.test_script, PathBuf::from("t.py"));

        let line = "-c c.json --test t.py --keep-m --log debug --no-i";
        let config = Config::try_parse_from(arguments(line)).unwrap();
        assert_eq!(config.config, PathBuf::from("c.json"));
        assert_eq!(config.test_script, Some("t.py".into()));
        assert!(config.keep_machine_state && !config.common.interactive);
        assert!(matches!(config.log_level, LogLevel::Debug));
        let ambiguous = Config::try_parse_from(arguments("-c c.json --keep"));
        assert_eq!(ambiguous.unwrap_err().exit_code(), 2);
    }
}
