//! QEMU's front end for any vhost-user device, with Debian's kernel as the guest.
//!
//! It needs a QEMU of 10.2 or later. Where the one that is installed is older, Debian 13's packages (with backports) are fetched
//! once and unpacked into the target folder; nothing is installed.

use super::{BASH, INIT, check_guest, config, wait_for, wait_ready};
use hotbed_console::Shell;
use hotbed_console::device::vhost_user::{Happened, Service};
use hotbed_testing::{Initramfs, Vmm};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the guest's console is in QEMU.
const DEVICE: &str = "vhost-user-test-device-pci";

/// The guest's modules, as far as its kernel has them as files: in this order.
const MODULES: [&str; 6] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
];

/// How long fetching may take, on however slow a host.
const FETCHING_MAX: Duration = Duration::from_secs(600);

/// After so long without a byte more, the packages are out of reach. `apt` gives up a server before.
const STALLED_MAX: Duration = Duration::from_secs(90);

/// How often it is told how far fetching has come.
const TELLING: Duration = Duration::from_secs(10);

/// Fetches the packages into `$1`, which is there as a whole or not at all.
const FETCH: &str = r#"
set -eu
rm -rf "$1.part"
timeout -k 5 "$2" mmdebstrap --variant=extract --mode=auto --architectures=amd64 --format=directory \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "1"' --aptopt='Acquire::http::Timeout "15"' \
    --setup-hook='mkdir -p "$1"/etc/apt/preferences.d
printf "Package: src:qemu src:seabios src:ipxe\nPin: release a=*-backports\nPin-Priority: 900\n" >"$1"/etc/apt/preferences.d/qemu' \
    --include=qemu-system-x86,linux-image-cloud-amd64 trixie "$1.part" \
    'deb http://deb.debian.org/debian trixie main' 'deb http://deb.debian.org/debian trixie-backports main'
mv "$1.part" "$1"
"#;

/// Debian's packages, unpacked.
struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Finds them, or fetches them; or says why there are none.
    fn obtain() -> Result<Packages, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(folder).unwrap();
        let root = folder.join("qemu-trixie-backports-1");
        // Another run of the tests may be at it.
        let lock = File::create(folder.join("qemu-trixie-backports.lock")).unwrap();
        lock.lock().unwrap();
        if !root.exists() {
            tell("fetching Debian's newest QEMU and a kernel, once");
            let seconds = FETCHING_MAX.as_secs().to_string();
            let target = root.display().to_string();
            let words = ["-c", FETCH, "fetch", &target, &seconds].map(str::to_owned);
            let fetching = Vmm::start("/bin/sh", &words)?;
            watch(&fetching, &root.with_extension("part"));
            if !root.exists() {
                let said = fetching.said();
                let reason = said.lines().rev().find(|line| line.starts_with("E:"));
                return Err(reason
                    .or(said.lines().last())
                    .unwrap_or("no reason")
                    .to_owned());
            }
        }
        Ok(Packages { root })
    }

    fn path(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    /// QEMU, started by its own dynamic linker: the program, and what comes before its arguments.
    fn qemu(&self) -> (String, Vec<String>) {
        let libraries = "usr/lib/x86_64-linux-gnu";
        let words = vec![
            "--library-path".to_owned(),
            self.path(libraries),
            self.path("usr/bin/qemu-system-x86_64"),
            "-L".to_owned(),
            self.path("usr/share/qemu"),
            "-L".to_owned(),
            self.path("usr/share/seabios"),
        ];
        (
            self.path("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
            words,
        )
    }

    /// The kernel, and the folder of its modules.
    fn kernel(&self) -> Result<(PathBuf, PathBuf), String> {
        let versions = fs::read_dir(self.root.join("usr/lib/modules"));
        let versions = versions.map_err(|error| format!("no modules: {error}"))?;
        let version = versions.flatten().next().ok_or("no kernel")?.file_name();
        let version = version.to_str().unwrap();
        let kernel = self.root.join(format!("boot/vmlinuz-{version}"));
        Ok((
            kernel,
            self.root
                .join("usr/lib/modules")
                .join(version)
                .join("kernel/drivers"),
        ))
    }

    /// The modules' files, unpacked into `folder`.
    fn modules(&self, drivers: &Path, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let mut modules = Vec::new();
        for name in MODULES {
            let packed = ["virtio", "char"]
                .map(|class| drivers.join(class).join(format!("{name}.ko.xz")))
                .into_iter()
                .find(|path| path.exists());
            let Some(packed) = packed else {
                continue; // In the kernel itself.
            };
            let target = folder.join(format!("{name}.ko"));
            let mut reader = lzma_rust2::XzReader::new(File::open(packed).unwrap(), true);
            std::io::copy(&mut reader, &mut File::create(&target).unwrap())
                .map_err(|error| format!("{name}: {error}"))?;
            modules.push(target);
        }
        Ok(modules)
    }
}

/// Waits until fetching has ended, or goes no further, and tells how far it is.
fn watch(fetching: &Vmm, folder: &Path) {
    let begin = Instant::now();
    let (mut size, mut grown) = (0, begin);
    // It ends by itself soon after its own time limit.
    while begin.elapsed() < FETCHING_MAX + TELLING && grown.elapsed() < STALLED_MAX {
        fetching.wait_end(Instant::now() + TELLING);
        if fetching.has_ended() {
            return;
        }
        let now = size_of_folder(folder);
        if now != size {
            (size, grown) = (now, Instant::now());
        }
        let seconds = begin.elapsed().as_secs();
        tell(&format!("{} MiB after {seconds} s", size >> 20));
    }
}

/// Says something at once: what tests print is shown at their end, or never.
fn tell(what: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "QEMU for a test: {what}");
}

/// How many bytes the files below a folder have; those that go meanwhile do not count.
fn size_of_folder(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_folder(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Whether this QEMU has the device.
fn has_device(program: &str, words: &[String]) -> bool {
    let help = Command::new(program)
        .args(words)
        .args(["-device", &format!("{DEVICE},help")])
        .stdin(Stdio::null())
        .output();
    help.is_ok_and(|help| {
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("num_vqs")
    })
}

/// Starts the guest, or says why there is none.
fn start(folder: &Path, socket: &Path) -> Result<Vmm, String> {
    let packages = Packages::obtain()?;
    let (mut program, mut words) = ("qemu-system-x86_64".to_owned(), Vec::new());
    if !has_device(&program, &words) {
        (program, words) = packages.qemu();
        if !has_device(&program, &words) {
            return Err(format!("QEMU has no {DEVICE}"));
        }
    }
    let (kernel, drivers) = packages.kernel()?;
    let initrd = folder.join("initrd");
    let guest = Initramfs {
        init: INIT,
        modules: &packages.modules(&drivers, folder)?,
        programs: &[BASH],
    };
    guest.write(&initrd)?;
    let queues = 2 + 2 * super::PORTS.len();
    let arguments = format!(
        "-nodefaults -no-user-config -display none -serial stdio -m 256M -smp 1 -accel tcg \
         -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=256M,share=on \
         -chardev socket,id=console,path={socket} \
         -device {DEVICE},virtio-id=3,num_vqs={queues},config_size=12,chardev=console \
         -kernel {kernel} -initrd {initrd}",
        socket = socket.display(),
        kernel = kernel.display(),
        initrd = initrd.display(),
    );
    words.extend(arguments.split_whitespace().map(str::to_owned));
    words.extend([
        "-append".to_owned(),
        "console=ttyS0 panic=-1 tsc=unstable".to_owned(),
    ]);
    Vmm::start(&program, &words)
}

#[test]
fn qemu_has_its_consoles_on_our_back_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let mut shell = Shell::new(service.stream(0).unwrap()).unwrap();
    let (mut one, mut two) = (service.stream(1).unwrap(), service.stream(2).unwrap());
    let running = service.start().unwrap();
    let vmm = match start(folder.path(), &socket) {
        Ok(vmm) => vmm,
        Err(why) => return println!("SKIPPED: no QEMU of 10.2 or later: {why}"),
    };
    wait_ready(&vmm, &mut shell);
    check_guest(&mut shell, &mut one, &mut two, &running);
    drop(vmm);
    wait_for(&running, |happened| {
        matches!(happened, Happened::Disconnected(None))
    });
    drop(running);
    assert!(!socket.exists(), "the socket is gone");
}
