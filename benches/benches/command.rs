//! A command's round trip over the backdoor shell, and waits, in a micro guest.
//!
//! `command/succeed_true/<who>` runs `true` in the guest: `hotbed` through the driver, `nixos_protocol` by the NixOS test
//! driver's two exchanges (`bash -c … | (base64 -w 0; echo)`, then `echo ${PIPESTATUS[0]}`) in another guest of the
//! same image, so that the guest's share is the same. `wait/open_port/…` is how long `wait_for_open_port` takes.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench reads the clock and starts what it measures"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hotbed_benches::machines::{call, testbed};
use hotbed_driver::machine::Execute;
use hotbed_image::{Cache, Identity, LogConsole, Silent, Spec};

criterion_group!(benches, commands, waits);
criterion_main!(benches);

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command/succeed_true");
    group
        .sample_size(50)
        .measurement_time(Duration::from_secs(5));
    let testbed = testbed("# /// hotbed\n# [machines.m]\n# ///\n");
    let machine = &testbed.machines()[0];
    machine.connect(&call()).expect("the guest boots");
    group.bench_function("hotbed", |b| {
        b.iter(|| machine.succeed(&["true"], None, &call()).expect("true"));
    });
    group.bench_function("hotbed_with_timeout", |b| {
        let options = Execute::default();
        b.iter(|| {
            let output = machine
                .execute("true", &options, &call())
                .expect("an answer");
            assert_eq!(output.status, 0);
        });
    });
    testbed.stop();

    let mut guest = PlainGuest::boot();
    group.bench_function("nixos_protocol", |b| {
        b.iter(|| assert_eq!(guest.execute("set -euo pipefail; true"), (0, String::new())));
    });
    group.finish();
}

fn waits(c: &mut Criterion) {
    let mut group = c.benchmark_group("wait/open_port");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    let testbed = testbed("# /// hotbed\n# [machines.m]\n# ///\n");
    let machine = &testbed.machines()[0];
    machine.connect(&call()).expect("the guest boots");
    let timeout = Duration::from_secs(60);
    let listen = |delay: &str, port: u16| {
        let command =
            format!("(sleep {delay}; exec nc -l -p {port} -e true) >/dev/null 2>&1 </dev/null &");
        machine
            .succeed(&[&command], None, &call())
            .expect("a listener");
    };
    let mut port = 20_000;
    group.bench_function("opens_in_300_ms", |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                port += 1;
                let start = Instant::now();
                listen("0.3", port);
                machine
                    .wait_for_open_port(port, "localhost", timeout, &call())
                    .expect("it opens");
                total += start.elapsed();
            }
            total
        });
    });
    group.finish();
    testbed.stop();
}

/// A micro guest without the driver: QEMU, a socket, the NixOS driver's protocol.
struct PlainGuest {
    qemu: Child,
    shell: BufReader<UnixStream>,
    _directory: tempfile::TempDir,
}

impl PlainGuest {
    fn boot() -> Self {
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
            .args(["-m", "256", "-device", "virtio-serial-pci,max_ports=2"])
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
        let mut shell = BufReader::new(stream);
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

    /// As the NixOS driver does it; `command` must hold no single quote.
    fn execute(&mut self, command: &str) -> (i32, String) {
        let output = self.ask(&format!(" bash -c '{command}' | (base64 -w 0; echo)\n"));
        let status = self.ask("echo ${PIPESTATUS[0]}\n");
        (status.trim().parse().expect("a status"), {
            output.trim().to_owned()
        })
    }

    fn ask(&mut self, line: &str) -> String {
        self.shell
            .get_mut()
            .write_all(line.as_bytes())
            .expect("the guest listens");
        let mut answer = String::new();
        self.shell.read_line(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for PlainGuest {
    fn drop(&mut self) {
        self.qemu.kill().expect("QEMU can be killed");
        self.qemu.wait().expect("QEMU ends");
    }
}
