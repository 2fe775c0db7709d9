//! A micro guest without the driver: QEMU, a socket, and the NixOS test driver's protocol.

#![expect(
    clippy::disallowed_types,
    reason = "a bench starts what it measures against"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use hotbed_image::{Cache, Identity, LogConsole, Silent, Spec};

/// A running guest; it dies with the value.
#[derive(Debug)]
pub struct PlainGuest {
    qemu: Child,
    shell: BufReader<UnixStream>,
    _directory: tempfile::TempDir,
}

impl PlainGuest {
    /// Boots, and waits for the root shell.
    ///
    /// # Panics
    ///
    /// When the host does not give what is needed, or the guest does not boot.
    #[must_use]
    pub fn boot(memory: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open().expect("the cache");
        let image = hotbed_image::build(&cache, &Spec::Micro, &Silent).expect("the image");
        let initrd = directory.path().join("initrd");
        let identity = Identity {
            hostname: "plain".to_owned(),
            ..Identity::default()
        };
        image
            .write_initrd(&identity, &initrd)
            .expect("the initramfs");
        let path = directory.path().join("shell");
        let listener = UnixListener::bind(&path).expect("a socket");
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-m", &memory.to_string()])
            .args(["-device", "virtio-serial-pci,max_ports=2"])
            .arg("-chardev")
            .arg(format!("socket,id=shell,path={}", path.display()))
            .args(["-device", "virtconsole,chardev=shell"])
            .args(["-chardev", "null,id=log"])
            .args(["-device", "virtconsole,chardev=log"])
            .args(["-device", "virtio-rng-pci"])
            .args(image.arguments(&initrd, LogConsole::Virtio))
            .stdin(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        let (stream, _) = listener.accept().expect("QEMU connects");
        let mut shell = BufReader::with_capacity(1 << 20, stream);
        let mut said = Vec::new();
        while !said.ends_with(b"Spawning backdoor root shell...\n") {
            let read = shell
                .read_until(b'\n', &mut said)
                .expect("the guest speaks");
            assert!(read > 0, "the guest died while it booted");
        }
        Self {
            qemu,
            shell,
            _directory: directory,
        }
    }

    /// Runs a command as the NixOS driver does; `command` must hold no single quote. Gives its status and its output in base64.
    ///
    /// # Panics
    ///
    /// When the guest does not answer.
    pub fn execute(&mut self, command: &str) -> (i32, String) {
        let output = self.ask(&format!(" bash -c '{command}' | (base64 -w 0; echo)\n"));
        let status = self.ask("echo ${PIPESTATUS[0]}\n");
        (status.trim().parse().expect("a status"), {
            output.trim().to_owned()
        })
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        let mut answer = String::new();
        self.shell.read_line(&mut answer).expect("an answer");
        answer
    }

    fn send(&mut self, line: &str) {
        self.shell
            .get_mut()
            .write_all(line.as_bytes())
            .expect("the guest listens");
    }
}

impl Drop for PlainGuest {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
