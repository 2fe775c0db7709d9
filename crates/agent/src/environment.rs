//! What commands find around them: variables, and where their errors go.

use rustix::process::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What every command has, unless it says otherwise, as the backdoor shell gives it.
const DEFAULTS: [(&str, &str); 5] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("USER", "root"),
    ("DISPLAY", ":0.0"),
    ("PAGER", ""),
];

/// What commands find around them.
#[derive(Debug)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    log: Option<File>,
    directory: &'static str,
    /// What a login shell would add is not known yet.
    is_profile_unread: bool,
}

/// What a login shell reads first.
const PROFILE: &str = "/etc/profile";

/// Where NixOS has its programs.
const NIXOS: &str = "/run/current-system/sw/bin";

/// Where commands run that do not say where.
const DIRECTORIES: [&str; 2] = ["/tmp", "/"];

impl Environment {
    /// The agent's own environment, and its own standard error as the log unless there is another.
    pub(crate) fn own(log: Option<&Path>) -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            log: log.and_then(open_log),
            directory: find_directory(),
            is_profile_unread: false,
        }
    }

    /// What a service has in this guest, and its console as the log unless there is another. What a login shell would add is known
    /// when the first shell has [read](Self::shell) it.
    pub(crate) fn of_guest(log: Option<&Path>) -> Self {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for (name, value) in DEFAULTS {
            if matches!(name, "PATH" | "HOME" | "USER") {
                // What a service or PID 1 has is less, or another.
                variables.insert(name.into(), value.into());
            } else {
                variables.entry(name.into()).or_insert_with(|| value.into());
            }
        }
        if Path::new(NIXOS).is_dir() {
            let path = format!("/run/wrappers/bin:{NIXOS}:{}", DEFAULTS[0].1);
            variables.insert("PATH".into(), path.into());
        }
        for name in [
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "SYSTEMD_EXEC_PID",
            "NOTIFY_SOCKET",
        ] {
            variables.remove(&OsString::from(name));
        }
        Self {
            variables,
            log: log.and_then(open_log).or_else(open_console),
            directory: find_directory(),
            is_profile_unread: Path::new(PROFILE).exists(),
        }
    }

    /// Whether what a login shell would add is still to be learned, from a shell that was started with this.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_profile_unread
    }

    /// A bash with this environment, for a program of its language. While the profile is unread, it reads that before: a second bash
    /// then has what the profile exports, and nothing else of it.
    pub(crate) fn shell(&self, program: &str) -> Command {
        const BARE: [&str; 3] = ["--norc", "--noprofile", "-c"];
        let mut command = Command::new("bash");
        command.args(BARE);
        if self.is_profile_unread {
            let mask = rustix::process::umask(rustix::fs::Mode::empty());
            rustix::process::umask(mask);
            let script = format!(
                ". {PROFILE} >/dev/null 2>&1 </dev/null; PAGER=; umask {:o}; cd {}; exec bash {} \"$0\" bash",
                mask.bits(),
                self.directory,
                BARE.join(" "),
            );
            command.arg(script).arg(program);
        } else {
            command.arg(program).arg("bash");
        }
        self.apply(&mut command);
        command
    }

    /// Takes over what a shell has that has read the profile.
    pub(crate) fn learn(&mut self, shell: Pid) {
        self.is_profile_unread = false;
        let path = format!("/proc/{}/environ", shell.as_raw_nonzero());
        let Ok(text) = std::fs::read(path) else {
            return;
        };
        let mut variables = BTreeMap::new();
        for entry in text.split(|byte| *byte == 0) {
            if let Some(at) = entry.iter().position(|byte| *byte == b'=') {
                let name = OsString::from_vec(entry[..at].to_vec());
                let value = OsString::from_vec(entry[at + 1..].to_vec());
                if name != "_" && name != "SHLVL" {
                    variables.insert(name, value);
                }
            }
        }
        if !variables.is_empty() {
            self.variables = variables;
        }
    }

    /// Does without the profile: no shell survives it.
    pub(crate) fn skip_profile(&mut self) {
        self.is_profile_unread = false;
    }

    /// Gives a command these variables, and nothing else, and its folder.
    pub(crate) fn apply(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.directory);
    }

    /// Where errors go.
    pub(crate) fn log(&self) -> Stdio {
        let copy = self.log.as_ref().and_then(|log| log.try_clone().ok());
        copy.map_or_else(Stdio::inherit, Stdio::from)
    }
}

fn find_directory() -> &'static str {
    let there = DIRECTORIES.iter().find(|path| Path::new(path).is_dir());
    there.unwrap_or(&"/")
}

/// The guest's console, or its log.
pub(crate) fn open_console() -> Option<File> {
    let paths = ["/dev/console", "/dev/kmsg"];
    paths.iter().find_map(|path| open_log(Path::new(path)))
}

fn open_log(path: &Path) -> Option<File> {
    let mut options = File::options();
    // It is nobody's controlling terminal.
    let flags = rustix::fs::OFlags::NOCTTY.bits();
    options.append(true).custom_flags(flags.cast_signed());
    options.open(path).ok()
}
