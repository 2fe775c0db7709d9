//! A machine and a raw talker to its shell: what the driver and the console crate do properly.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_image::{Identity, Image, Interface, LogConsole};

/// A running QEMU; it dies with the value.
pub(crate) struct Machine {
    qemu: Child,
    shell: UnixStream,
    folder: tempfile::TempDir,
}

/// Says why a test cannot run here, and that it did not.
pub(crate) fn qemu_is_missing() -> bool {
    let is_missing = Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err();
    if is_missing {
        eprintln!("SKIPPED: qemu-system-x86_64 is not installed");
    }
    is_missing
}

/// The identity of machine `number` with one interface for each VLAN, by the NixOS scheme.
pub(crate) fn identity(hostname: &str, number: u8, vlans: &[u8]) -> Identity {
    let interfaces = vlans.iter().zip(1..).map(|(&vlan, index)| Interface {
        name: format!("eth{index}"),
        mac: [0x52, 0x54, 0x00, 0x12, vlan, number],
        ipv4: (Ipv4Addr::new(192, 168, vlan, number), 24),
        ipv6: (
            Ipv6Addr::new(0x2001, 0xdb8, vlan.into(), 0, 0, 0, 0, number.into()),
            64,
        ),
    });
    Identity {
        hostname: hostname.to_owned(),
        interfaces: interfaces.collect(),
        hosts: Vec::new(),
    }
}

impl Machine {
    /// Powers on and waits for the shell, printing how long it took.
    pub(crate) fn boot(image: &Image, identity: &Identity, log: LogConsole) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let initrd = folder.path().join("initrd");
        image.write_initrd(identity, &initrd).unwrap();
        let listener = UnixListener::bind(folder.path().join("shell")).unwrap();
        let mut command = command(image, identity, log, &initrd);
        command.current_dir(folder.path());
        let start = Instant::now();
        let qemu = command.stdin(Stdio::null()).spawn().unwrap();
        let (shell, _) = listener.accept().unwrap();
        let spawned = start.elapsed();
        let mut machine = Self {
            qemu,
            shell,
            folder,
        };
        machine.read_until("Spawning backdoor root shell...\n");
        let (kind, booted, cpu) = (image.kind, start.elapsed(), machine.cpu_time());
        println!(
            "{kind:?}: QEMU there {spawned:.2?}, shell {booted:.2?} after power-on, {cpu:.2?} of CPU time"
        );
        machine
    }

    /// Runs a command in a shell of its own and gives its output, without the line's end, and its status.
    pub(crate) fn run(&mut self, command: &str) -> (String, i32) {
        writeln!(self.shell, "({command}\n); printf '\\n@@END %s\\n' $?").unwrap();
        let output = self.read_until("\n@@END ").trim_end().to_owned();
        (output, self.read_until("\n").parse().unwrap())
    }

    /// Runs a command that must succeed.
    pub(crate) fn succeed(&mut self, command: &str) -> String {
        let (output, status) = self.run(command);
        assert_eq!(status, 0, "{command}: {output}\n{}", self.log());
        output
    }

    /// What the log console has shown.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap()).into_owned()
    }

    /// Switches the machine off by its shell and waits for QEMU's end.
    pub(crate) fn power_off(mut self) {
        writeln!(self.shell, "poweroff").unwrap();
        let mut rest = Vec::new();
        self.shell.read_to_end(&mut rest).unwrap();
        assert!(self.qemu.wait().unwrap().success());
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Reads byte by byte, so that what follows stays for the next reader.
    fn read_until(&mut self, end: &str) -> String {
        self.shell.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(end.as_bytes()) {
            match self.shell.read(&mut byte) {
                Ok(1..) => text.push(byte[0]),
                other => panic!(
                    "{other:?} while waiting for {end:?}; so far {:?}; the log:\n{}",
                    String::from_utf8_lossy(&text),
                    self.log()
                ),
            }
        }
        text.truncate(text.len() - end.len());
        String::from_utf8_lossy(&text).into_owned()
    }

    /// User and system time of QEMU so far.
    fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap();
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2);
        Duration::from_millis(fields.map(|field| field.parse::<u64>().unwrap() * 10).sum())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill(); // It may have ended.
        let _ = self.qemu.wait();
    }
}

/// The command line of QEMU, as the crate's README says.
fn command(image: &Image, identity: &Identity, log: LogConsole, initrd: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-M",
        "q35",
    ]);
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-m",
        "1024",
        "-smp",
        "1",
    ]);
    command.args(image.arguments(initrd, log));
    command.args([
        "-device",
        "virtio-serial-pci,max_ports=2",
        "-chardev",
        "socket,id=shell,path=shell",
    ]);
    command.args([
        "-device",
        "virtconsole,chardev=shell",
        "-chardev",
        "file,id=log,path=log",
    ]);
    match log {
        LogConsole::Virtio => command.args(["-device", "virtconsole,chardev=log"]),
        LogConsole::Uart => command.args(["-serial", "chardev:log"]),
    };
    // The cards are plugged in from the last to the first: the guest must go by their addresses.
    for (index, interface) in identity.interfaces.iter().enumerate().rev() {
        let mac: Vec<String> = interface
            .mac
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        command.args([
            "-netdev",
            &format!("hubport,hubid={index},id=vlan{index}"),
            "-device",
        ]);
        command.arg(format!(
            "virtio-net-pci,netdev=vlan{index},mac={},romfile=",
            mac.join(":")
        ));
    }
    command
}

const PATIENCE: Duration = Duration::from_secs(180);
