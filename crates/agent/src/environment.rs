//! What commands find around them: variables, and where their errors go.

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
}

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
        }
    }

    /// What a login shell would have in this guest, and its console as the log unless there is another.
    pub(crate) fn learn(log: Option<&Path>) -> Self {
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
        let mut environment = Self {
            variables,
            log: log.and_then(open_log).or_else(open_console),
            directory: find_directory(),
        };
        if Path::new("/etc/profile").exists() {
            environment.read_profile();
        }
        environment
    }

    /// Has a shell read `/etc/profile`, and takes over what it exports.
    fn read_profile(&mut self) {
        let script =
            ". /etc/profile >/dev/null 2>&1 </dev/null; PAGER=; exec \"$0\" print-environment";
        let mut command = Command::new("bash");
        command
            .args(["--norc", "--noprofile", "-c", script])
            .arg(format!("/proc/{}/exe", std::process::id()))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        self.apply(&mut command);
        let Ok(output) = command.output() else {
            return;
        };
        if !output.status.success() || output.stdout.is_empty() {
            return;
        }
        self.variables.clear();
        for entry in output.stdout.split(|byte| *byte == 0) {
            if let Some(at) = entry.iter().position(|byte| *byte == b'=') {
                let name = OsString::from_vec(entry[..at].to_vec());
                let value = OsString::from_vec(entry[at + 1..].to_vec());
                if name != "_" && name != "SHLVL" {
                    self.variables.insert(name, value);
                }
            }
        }
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

/// Prints the environment, each variable with a NUL at its end.
pub(crate) fn print() {
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = Vec::new();
    for (name, value) in std::env::vars_os() {
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        text.push(0);
    }
    let _ = std::io::stdout().write_all(&text);
}

fn find_directory() -> &'static str {
    let there = DIRECTORIES.iter().find(|path| Path::new(path).is_dir());
    there.unwrap_or(&"/")
}

fn open_console() -> Option<File> {
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
