//! The older command lines of the NixOS test driver: start scripts and VLANs as lists, no file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{BOOT_TIMEOUT, Error, MACHINES_MAX, MachineConfig, MachineKind, TestConfig};
use crate::machine::quoting::quote;

/// What a machine is called whose start script does not say.
const DEFAULT_NAME: &str = "machine";

/// Makes the configuration; machines are called as their scripts say, VLANs keep their order of numbers.
pub(super) fn parse(
    scripts: &[String],
    vlans: &[String],
    global_timeout: Option<Duration>,
    script: PathBuf,
) -> Result<TestConfig, Error> {
    let error = |message: String| Error {
        file: script.clone(),
        line: None,
        place: None,
        message,
    };
    if scripts.len() > MACHINES_MAX {
        let count = scripts.len();
        return Err(error(format!(
            "{count} start scripts are too many: a test has at most {MACHINES_MAX} machines"
        )));
    }
    let mut named: Vec<(String, &String)> = scripts
        .iter()
        .map(|script| (machine_name(script), script))
        .collect();
    named.sort();
    let pairs = named.iter().zip(named.iter().skip(1));
    if let Some(((name, one), (_, other))) = pairs.into_iter().find(|(one, other)| one.0 == other.0)
    {
        return Err(error(format!(
            "the start scripts {one} and {other} would both be machine {name:?}"
        )));
    }
    let machines = named
        .into_iter()
        .zip(1_u8..)
        .map(|((name, script), number)| machine(name, number, quote(script)));
    let mut numbers = vlans
        .iter()
        .map(|vlan| match vlan.parse::<u8>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(error(format!(
                "{vlan:?} is not the number of a VLAN, which is 1 to 255"
            ))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(TestConfig {
        machines: machines.collect(),
        vlans: numbers,
        global_timeout,
        boot_timeout: BOOT_TIMEOUT,
        script: script.clone(),
        ssh_backdoor: false,
    })
}

/// A machine that a shell command starts.
pub(super) fn machine(name: String, number: u8, command: String) -> MachineConfig {
    MachineConfig {
        name,
        number,
        vlans: Vec::new(),
        kind: MachineKind::StartScript(command),
        clone_of: None,
        agent: true,
    }
}

/// `web` for `…/bin/run-web-vm`.
pub(super) fn machine_name(script: &str) -> String {
    let file = Path::new(script).file_name().unwrap_or_default();
    file.to_string_lossy()
        .strip_prefix("run-")
        .and_then(|name| name.strip_suffix("-vm"))
        .filter(|name| !name.is_empty())
        .unwrap_or(DEFAULT_NAME)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_texts(scripts: &[&str], vlans: &[&str]) -> Result<TestConfig, Error> {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        parse(&texts(scripts), &texts(vlans), None, "test.py".into())
    }

    #[test]
    fn machines_are_called_as_their_start_scripts() {
        let config = parse_texts(
            &[
                "/nix/store/x-vm/bin/run-web-server-vm",
                "/run/boot",
                "/a b/run-a-vm",
            ],
            &["2", "1", "2"],
        )
        .unwrap();
        let names: Vec<_> = config
            .machines
            .iter()
            .map(|machine| (machine.name.as_str(), machine.number))
            .collect();
        assert_eq!(names, [("a", 1), ("machine", 2), ("web-server", 3)]);
        let quoted = MachineKind::StartScript("'/a b/run-a-vm'".to_owned());
        assert_eq!(config.machines[0].kind, quoted);
        assert_eq!(config.vlans, [1, 2]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let shown =
            |scripts: &[&str], vlans: &[&str]| parse_texts(scripts, vlans).unwrap_err().to_string();
        let twice = shown(&["/a/run-x-vm", "/b/run-x-vm"], &[]);
        assert!(
            twice.contains("/a/run-x-vm and /b/run-x-vm would both be machine \"x\""),
            "{twice}"
        );
        for vlan in ["0", "256", "-1", "one", ""] {
            let text = shown(&[], &[vlan]);
            assert!(text.contains("is not the number of a VLAN"), "{text}");
        }
        let many: Vec<String> = (0..255)
            .map(|number| format!("/run-m{number}-vm"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(shown(&many, &[]).contains("255 start scripts are too many"));
    }
}
