//! What QEMU is told: from a machine's configuration to arguments, without looking at anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hotbed_image::LogConsole;

use super::quoting::quote;
use crate::config::network::{mac, mac_text};
use crate::config::{ImageKind, ImageMachine, Net};

/// MiB of memory of a `micro` machine that does not say.
pub(crate) const MEMORY_MICRO: u32 = 256;
/// The port that the agent finds by its name.
const AGENT_PORT: &str = "virtserialport,chardev=agent,name=org.hotbed.agent";
/// What tells a guest that it is another one now.
const VMGENID: &str = "vmgenid";
/// MiB of memory of a `debian` machine that does not say, as a NixOS machine has.
const MEMORY_DEBIAN: u32 = 1024;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor, through `/dev/kvm`.
    Kvm,
    /// QEMU's translator: works everywhere, and is about ten times slower.
    Tcg,
}

impl Accelerator {
    /// What QEMU's `-accel` takes.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// What QEMU's `-cpu` takes.
    ///
    /// A guest that is told that `rep movsb` and `rep stosb` are fast (`erms`, `fsrm`) copies and clears all its memory by them. The
    /// translator does them a byte at a time: without, a copy in the guest takes a quarter of the time.
    fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "max",
            Self::Tcg => "max,-erms,-fsrm",
        }
    }
}

/// The sockets that QEMU and the driver meet at, below a machine's state directory.
pub(crate) struct Sockets {
    /// QMP: QEMU listens.
    pub(crate) qmp: PathBuf,
    /// The human monitor: the driver listens.
    pub(crate) monitor: PathBuf,
    /// The backdoor shell: the driver listens.
    pub(crate) shell: PathBuf,
    /// The agent: the driver listens.
    pub(crate) agent: PathBuf,
}

impl Sockets {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self {
            qmp: directory.join("qmp"),
            monitor: directory.join("monitor"),
            shell: directory.join("shell"),
            agent: directory.join("agent"),
        }
    }
}

/// What is appended to a start script, in the order that the NixOS driver has; paths are quoted for the shell where need be.
pub(crate) fn start_script(
    script: &str,
    sockets: &Sockets,
    allow_reboot: bool,
    display: bool,
    agent: bool,
) -> String {
    let path = |path: &Path| quote(&path.to_string_lossy());
    let mut line = format!(
        "{script} -qmp unix:{},server=on,wait=off -monitor unix:{} -chardev socket,id=shell,path={} -device virtio-serial \
         -device virtconsole,chardev=shell -device virtio-rng-pci -serial stdio",
        path(&sockets.qmp),
        path(&sockets.monitor),
        path(&sockets.shell)
    );
    if agent {
        // After the shell on the same bus, so that the shell stays the first console.
        line.push_str(&format!(
            " -chardev socket,id=agent,path={} -device {AGENT_PORT}",
            path(&sockets.agent)
        ));
    }
    if !allow_reboot {
        line.push_str(" -no-reboot");
    }
    if !display {
        line.push_str(" -nographic");
    }
    line
}

/// What an image machine is made of, beside its configuration and its image.
pub(crate) struct Parts<'p> {
    /// The machine's name.
    pub(crate) name: &'p str,
    /// The machine's number.
    pub(crate) number: u8,
    /// Its VLANs, each with the socket of its switch.
    pub(crate) vlans: &'p [(u8, PathBuf)],
    /// What runs it.
    pub(crate) accelerator: Accelerator,
    /// Where QEMU and the driver meet.
    pub(crate) sockets: &'p Sockets,
    /// Whether a guest that reboots boots again.
    pub(crate) allow_reboot: bool,
    /// Whether there is a port for the agent.
    pub(crate) agent: bool,
}

/// The arguments of QEMU for a machine that boots an image, which has arguments of its own.
pub(crate) fn image_machine(
    machine: &ImageMachine,
    parts: &Parts<'_>,
    image: &[OsString],
) -> Vec<OsString> {
    let mut line = Line::default();
    line.add("-name", parts.name)
        .flag("-nodefaults")
        .flag("-no-user-config")
        .add("-display", "none");
    // A machine's state is read by the same QEMU only, which needs no description of it. Without the machine's type in front, its
    // parts can be put together from several states (`hot`).
    line.add("-M", "q35,suppress-vmdesc=on")
        .add("-global", "migration.send-configuration=off")
        .add("-accel", parts.accelerator.argument())
        .add("-cpu", parts.accelerator.processor());
    line.add("-m", &memory(machine).to_string())
        .add("-smp", &machine.cpus.to_string());
    line.arguments.extend_from_slice(image);
    consoles(&mut line, machine.log, parts.sockets, parts.agent);
    line.add("-device", "virtio-rng-pci");
    if !machine.qemu_args.iter().any(|word| word.contains(VMGENID)) {
        // QEMU has one at most. It tells the guest's kernel when it was restored.
        line.add("-device", &format!("{VMGENID},guid=auto"));
    }
    for (index, (vlan, socket)) in (1_usize..).zip(parts.vlans) {
        let mac = mac(*vlan, parts.number);
        match machine.net {
            Net::Stream => stream_card(&mut line, index, mac, socket),
            Net::VhostUser => sharing_card(&mut line, index, mac, socket, parts.accelerator),
        }
    }
    if !parts.allow_reboot {
        line.flag("-no-reboot");
    }
    line.arguments
        .extend(machine.qemu_args.iter().map(OsString::from));
    line.arguments
}

/// MiB of memory: what the test asks for, else what its image runs well with.
pub(crate) fn memory(machine: &ImageMachine) -> u32 {
    let usual = match machine.image {
        ImageKind::Micro => MEMORY_MICRO,
        ImageKind::Debian => MEMORY_DEBIAN,
    };
    machine.memory.unwrap_or(usual)
}

/// Monitors, the backdoor shell (`/dev/hvc0`), the log (`/dev/hvc1` or `/dev/ttyS0`, on QEMU's standard output) and the agent.
fn consoles(line: &mut Line, log: LogConsole, sockets: &Sockets, agent: bool) {
    line.add_path("-qmp", "unix:", &sockets.qmp, ",server=on,wait=off");
    line.add_path("-monitor", "unix:", &sockets.monitor, "");
    line.add_path("-chardev", "socket,id=shell,path=", &sockets.shell, "");
    // Ctrl-C is the driver's: QEMU must not take it from the terminal.
    line.add("-chardev", "stdio,id=log,signal=off");
    let ports = if agent { 3 } else { 2 };
    line.add("-device", &format!("virtio-serial-pci,max_ports={ports}"))
        .add("-device", "virtconsole,chardev=shell");
    match log {
        LogConsole::Virtio => line.add("-device", "virtconsole,chardev=log"),
        LogConsole::Uart => line.add("-serial", "chardev:log"),
    };
    if agent {
        line.add_path("-chardev", "socket,id=agent,path=", &sockets.agent, "");
        line.add("-device", AGENT_PORT);
    }
}

/// A card that frames come to by a socket.
fn stream_card(line: &mut Line, index: usize, mac: [u8; 6], socket: &Path) {
    line.add_path(
        "-netdev",
        &format!("stream,id=vlan{index},server=off,addr.type=unix,addr.path="),
        socket,
        "",
    );
    line.add("-device", &network_card(index, mac));
}

/// A card whose queues the switch shares. It needs memory that can be shared.
fn sharing_card(
    line: &mut Line,
    index: usize,
    mac: [u8; 6],
    socket: &Path,
    accelerator: Accelerator,
) {
    line.add_path(
        "-chardev",
        &format!("socket,id=vlan{index},path="),
        socket,
        "",
    );
    line.add(
        "-netdev",
        &format!("vhost-user,id=vlan{index},chardev=vlan{index}"),
    );
    // QEMU 7.2 dies of MSI-X with such a card when it translates.
    let vectors = match accelerator {
        Accelerator::Tcg => ",vectors=0",
        Accelerator::Kvm => "",
    };
    line.add("-device", &(network_card(index, mac) + vectors));
}

/// One card, called `virtio-net-pci.<index>` as QEMU itself calls it in the NixOS driver's machines.
///
/// When it is restored, QEMU says by itself where it is; that the guest does so, too, is more work for all guests than anything else then.
fn network_card(index: usize, mac: [u8; 6]) -> String {
    format!(
        "virtio-net-pci,id=virtio-net-pci.{index},netdev=vlan{index},mac={},romfile=,guest_announce=off",
        mac_text(mac)
    )
}

/// A command line as it grows.
#[derive(Default)]
struct Line {
    arguments: Vec<OsString>,
}

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.arguments.push(name.into());
        self
    }

    fn add(&mut self, name: &str, value: &str) -> &mut Self {
        self.flag(name).flag(value)
    }

    /// Adds an option with a path in it; QEMU wants its commas doubled.
    fn add_path(&mut self, name: &str, before: &str, path: &Path, after: &str) -> &mut Self {
        let path = path.to_string_lossy().replace(',', ",,");
        self.add(name, &format!("{before}{path}{after}"))
    }
}
