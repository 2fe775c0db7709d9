//! The guest itself: its clock, its random numbers, its name and addresses, its power.

use crate::failure::Failure;
use crate::{netlink, sys};
use hotbed_console::agent::wire::{FailureKind, System};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::path::Path;
use std::process::{Command, Stdio};

/// What is done when the answer has gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Off,
    Reboot,
}

/// What this agent can do here, by name.
pub(crate) fn capabilities() -> Vec<String> {
    let all = [("bash", has_program("bash")), ("systemd", has_systemd())];
    all.iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

fn has_program(name: &str) -> bool {
    let path = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin";
    path.split(':')
        .any(|folder| Path::new(folder).join(name).exists())
}

/// Whether systemd is PID 1.
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The kernel's name for this boot.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

/// Does what the host asks for; what ends the machine is left to [`turn`].
pub(crate) fn act(action: &System, payload: &[u8]) -> Result<Option<Power>, Failure> {
    match action {
        System::SetClock { nanos } => set_clock(*nanos)?,
        System::AddEntropy => add_entropy(payload)?,
        System::SetIdentity {
            hostname,
            interfaces,
            hosts,
            machine_id,
        } => set_identity(hostname, interfaces, (hosts, machine_id))?,
        System::PowerOff => return Ok(Some(Power::Off)),
        System::Reboot => return Ok(Some(Power::Reboot)),
    }
    Ok(None)
}

fn set_clock(nanos: u64) -> Result<(), Failure> {
    let time = Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or_default(),
    };
    clock_settime(ClockId::Realtime, time)
        .map_err(|error| Failure::os("cannot set the clock", error))
}

fn add_entropy(bytes: &[u8]) -> Result<(), Failure> {
    let fail =
        |error: std::io::Error| Failure::os("cannot add to the kernel's random numbers", error);
    let device = std::fs::File::options()
        .write(true)
        .open("/dev/random")
        .map_err(fail)?;
    for piece in bytes.chunks(sys::ENTROPY_MAX) {
        sys::add_entropy(&device, piece).map_err(|error| fail(error.into()))?;
    }
    Ok(())
}

/// Changes nothing unless all of it makes sense here.
fn set_identity(
    hostname: &str,
    interfaces: &[(String, [u8; 6], Vec<String>)],
    (hosts, machine_id): (&str, &str),
) -> Result<(), Failure> {
    let mut wanted = Vec::new();
    for (name, mac, addresses) in interfaces {
        if name.contains('/') || !Path::new("/sys/class/net").join(name).exists() {
            let message = format!("there is no interface {name}");
            return Err(Failure::new(FailureKind::NotFound, message));
        }
        let addresses: Result<Vec<_>, _> = addresses
            .iter()
            .map(|address| netlink::parse(address))
            .collect();
        let addresses = addresses.map_err(|address| {
            let message = format!("{address} is no address with a prefix length");
            Failure::new(FailureKind::Invalid, message)
        })?;
        wanted.push((name, *mac, addresses));
    }
    let fail = |error: rustix::io::Errno| Failure::os("cannot set the host name", error);
    rustix::system::sethostname(hostname.as_bytes()).map_err(fail)?;
    // Whoever asks a file is answered, where there is one that can be written.
    let _ = std::fs::write("/etc/hostname", format!("{hostname}\n"));
    if !machine_id.is_empty() {
        let _ = std::fs::write("/etc/machine-id", machine_id);
    }
    std::fs::write("/etc/hosts", hosts)
        .map_err(|error| Failure::os("cannot write /etc/hosts", error))?;
    for (name, mac, addresses) in wanted {
        netlink::set_interface(name, mac, &addresses).map_err(|error| {
            Failure::os(format_args!("cannot set up the interface {name}"), error)
        })?;
    }
    Ok(())
}

/// Powers the machine off, or reboots it, by its init where it has one that does so.
pub(crate) fn turn(power: Power) {
    let (verb, command) = match power {
        Power::Off => ("poweroff", RebootCommand::PowerOff),
        Power::Reboot => ("reboot", RebootCommand::Restart),
    };
    if has_systemd() {
        let mut systemctl = Command::new("systemctl");
        systemctl.args(["--no-block", verb]).stdin(Stdio::null());
        systemctl.env("PATH", "/run/current-system/sw/bin:/usr/bin:/bin");
        if systemctl.spawn().is_ok() {
            return;
        }
    }
    rustix::fs::sync();
    let _ = reboot(command);
}
