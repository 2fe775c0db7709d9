//! What runs guests on this host: found out by trying, once per boot of the host.
//!
//! `/dev/kvm` may be there and yet never bring a Linux guest up (in some virtual machines it runs nothing but real-mode code).
//! So the micro image is booted with KVM, and the verdict is kept beside the images, under a key of the host's boot, QEMU and the
//! processor.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_image::{Identity, LogConsole, Spec};

use crate::call::now;
use crate::machine::command_line::{Accelerator, MEMORY_MICRO};
use crate::process::wait_readable;
use crate::site::Site;
use crate::{Call, Error};

/// Overrides the verdict: `kvm` or `tcg`.
const OVERRIDE: &str = "HOTBED_ACCEL";
/// How long the trial may take on a processor that says it can virtualize.
const TRIAL: Duration = Duration::from_secs(10);
/// How long it may take on one that does not.
const TRIAL_WITHOUT_FLAGS: Duration = Duration::from_secs(3);
/// What a guest says when its shell is there.
const MARKER: &[u8] = b"Spawning backdoor root shell...";
/// The most output of the trial that is looked at.
const OUTPUT_MAX: usize = 1 << 20;
/// The file with the verdict, beside the images.
const FILE: &str = "accelerator";

/// What runs guests, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) accelerator: Accelerator,
    pub(crate) reason: String,
}

impl Verdict {
    fn new(accelerator: Accelerator, reason: impl Into<String>) -> Self {
        Self {
            accelerator,
            reason: reason.into(),
        }
    }

    pub(crate) fn says(&self) -> String {
        match self.accelerator {
            Accelerator::Kvm => format!("guests run with KVM: {}", self.reason),
            Accelerator::Tcg => format!(
                "guests run with TCG, QEMU's translator (slow): {}",
                self.reason
            ),
        }
    }
}

impl Site {
    /// What runs guests here.
    pub(crate) fn accelerator(&self, call: &Call<'_>) -> Result<Accelerator, Error> {
        Ok(self.accelerator_verdict(call)?.accelerator)
    }

    /// What runs guests here, and why; the first call finds it out and says so.
    pub(crate) fn accelerator_verdict(&self, call: &Call<'_>) -> Result<Verdict, Error> {
        let mut known = self
            .verdict
            .take(call, &|| "finding out what runs guests".to_owned())?;
        if let Some(verdict) = known.as_ref() {
            return Ok(verdict.clone());
        }
        let verdict = self.decide(call)?;
        self.log.info(&verdict.says());
        *known = Some(verdict.clone());
        Ok(verdict)
    }

    fn decide(&self, call: &Call<'_>) -> Result<Verdict, Error> {
        match std::env::var(OVERRIDE).as_deref() {
            Ok("kvm") => {
                return Ok(Verdict::new(
                    Accelerator::Kvm,
                    format!("{OVERRIDE} says so"),
                ));
            }
            Ok("tcg") => {
                return Ok(Verdict::new(
                    Accelerator::Tcg,
                    format!("{OVERRIDE} says so"),
                ));
            }
            Ok("") | Err(_) => {}
            Ok(other) => {
                return Err(Error::Argument(format!(
                    "{OVERRIDE} must be `kvm` or `tcg`, not `{other}`"
                )));
            }
        }
        if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
            return Ok(Verdict::new(
                Accelerator::Tcg,
                format!("/dev/kvm cannot be opened ({error})"),
            ));
        }
        let key = key(&self.qemu);
        let file = self.cache_root().map(|root| root.join(FILE));
        if let Some(verdict) = file.as_deref().and_then(|file| read_verdict(file, &key)) {
            return Ok(verdict);
        }
        let verdict = self.log.nested(
            None,
            "finding out whether KVM runs a Linux guest here",
            || self.try_kvm(call),
        )?;
        if let Some(file) = file {
            // Without it, the next run tries again.
            let _ = write_verdict(&file, &key, &verdict);
        }
        Ok(verdict)
    }

    /// Boots the micro image with KVM.
    fn try_kvm(&self, call: &Call<'_>) -> Result<Verdict, Error> {
        let image = self.image("accelerator", &Spec::Micro, call)?;
        let initrd = self.directory.join("accelerator.initrd");
        let identity = Identity {
            hostname: "accelerator".to_owned(),
            ..Identity::default()
        };
        image
            .write_initrd(&identity, &initrd)
            .map_err(Error::image("accelerator"))?;
        let mut command = Command::new(&self.qemu);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-M",
            "q35",
            "-accel",
            "kvm",
            "-cpu",
            "max",
        ]);
        command.arg("-m").arg(MEMORY_MICRO.to_string());
        command.args(image.arguments(&initrd, LogConsole::Virtio));
        command.args([
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "stdio,id=shell,signal=off",
            "-device",
            "virtconsole,chardev=shell",
        ]);
        let (output, both) = io::pipe().map_err(Error::host("cannot make a pipe"))?;
        let stdout = both
            .try_clone()
            .map_err(Error::host("cannot make a pipe"))?;
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(both);
        let process = self
            .spawn(command)
            .map_err(Error::host(format!("cannot start {}", self.qemu.display())))?;
        let limit = if processor_virtualizes() {
            TRIAL
        } else {
            TRIAL_WITHOUT_FLAGS
        };
        let said = read_until_marker(output, now() + limit, call);
        process.kill();
        let _ = fs::remove_file(&initrd);
        Ok(match said? {
            Seen::Marker => Verdict::new(Accelerator::Kvm, "a Linux guest came up with it"),
            Seen::End(words) => Verdict::new(
                Accelerator::Tcg,
                format!("QEMU does not run with KVM here ({})", words.trim()),
            ),
            Seen::Nothing => Verdict::new(
                Accelerator::Tcg,
                format!(
                    "/dev/kvm is there, but a Linux guest did not come up with it in {} s",
                    limit.as_secs()
                ),
            ),
        })
    }
}

/// What the trial showed.
enum Seen {
    Marker,
    End(String),
    Nothing,
}

fn read_until_marker(
    mut output: PipeReader,
    until: Instant,
    call: &Call<'_>,
) -> Result<Seen, Error> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let slice = call.slice(&|| "trying KVM".to_owned())?.min(until);
        if wait_readable(&[output.as_fd()], slice).map_err(Error::host("cannot wait for QEMU"))? {
            let count = output
                .read(&mut buffer)
                .map_err(Error::host("cannot read QEMU's output"))?;
            if count == 0 {
                let words = String::from_utf8_lossy(&said);
                return Ok(Seen::End(
                    words.lines().last().unwrap_or("it said nothing").to_owned(),
                ));
            }
            said.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if said.windows(MARKER.len()).any(|window| window == MARKER) {
                return Ok(Seen::Marker);
            }
        }
        if now() >= until || said.len() > OUTPUT_MAX {
            return Ok(Seen::Nothing);
        }
    }
}

/// All that the verdict depends on, as one line.
fn key(qemu: &Path) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let qemu = which(qemu).map_or_else(String::new, |path| {
        let stamp = fs::metadata(&path)
            .map(|file| format!("{} {} {}", file.ino(), file.size(), file.mtime()))
            .unwrap_or_default();
        format!("{} {stamp}", path.display())
    });
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    format!("{} | {} | {}", boot.trim(), qemu.replace('\n', " "), model)
}

/// The file that a program's name stands for.
pub(crate) fn which(program: &Path) -> Option<std::path::PathBuf> {
    if program.components().count() > 1 {
        return program.exists().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn processor_virtualizes() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    // Other architectures have no such line: they are tried for the full time.
    flags.is_empty()
        || flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
}

fn read_verdict(file: &Path, key: &str) -> Option<Verdict> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    if lines.next()? != key {
        return None;
    }
    let accelerator = match lines.next()? {
        "kvm" => Accelerator::Kvm,
        "tcg" => Accelerator::Tcg,
        _ => return None,
    };
    Some(Verdict::new(accelerator, lines.next()?))
}

fn write_verdict(file: &Path, key: &str, verdict: &Verdict) -> io::Result<()> {
    let name = match verdict.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let new = file.with_extension(format!("new-{}", std::process::id()));
    fs::write(
        &new,
        format!("{key}\n{name}\n{}\n", verdict.reason.replace('\n', " ")),
    )?;
    fs::rename(&new, file)
}
