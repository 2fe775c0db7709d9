//! A VMM's process, which does not outlive the test, however that ends, and what its guest is made of.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cpio::newc::{Builder, trailer};

/// How long a guest may take for what it is to do, on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BUSYBOX: &str = "/bin/busybox";

/// What a guest does first.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
until [ -e /sys/class/net/eth0 ]; do usleep 1000; done
"#;

/// What it does last: it stays, for others may have to do with it.
const END: &str = "\nwhile :; do sleep 1000; done\n";

/// Starts the program in its own process group, and kills that when the standard input is closed. Killing it first would not do:
/// User-mode Linux leaves helpers behind, which are in a group of the guest's own making.
const KEEPER: &str = r#"
exec 3<&0 2>&1
setsid "$@" </dev/null 3<&- &
exec >&-
read -r _ <&3
kill -9 -"$!" "$!" 2>/dev/null
wait "$!" 2>/dev/null
"#;

/// A VMM. Dropping this kills it, and so does the end of our process.
pub(super) struct Vmm {
    keeper: Child,
    /// The keeper waits for its end.
    input: Option<ChildStdin>,
    said: Arc<(Mutex<Said>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Vmm {
    pub(super) fn start(program: &str, arguments: &[String]) -> Vmm {
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = keeper.stdin.take();
        let mut output = keeper.stdout.take().unwrap();
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let len = output.read(&mut piece).unwrap_or(0);
                let mut said = heard.0.lock().unwrap();
                said.bytes.extend(&piece[..len]);
                said.has_ended = len == 0;
                heard.1.notify_all();
                if len == 0 {
                    return;
                }
            }
        });
        Vmm {
            keeper,
            input,
            said,
            reader: Some(reader),
        }
    }

    /// Waits until it says this, and gives the rest of that line. The error is what it says last, when it ends before.
    pub(super) fn wait_said(&self, words: &str) -> Result<String, String> {
        let until = Instant::now() + PATIENCE;
        let mut said = self.said.0.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&said.bytes).into_owned();
            let rest = text
                .split_once(words)
                .and_then(|(_, rest)| rest.split_once('\n'));
            if let Some((line, _)) = rest {
                return Ok(line.trim().to_owned());
            }
            if said.has_ended {
                return Err(text.lines().last().unwrap_or("nothing").to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not say {words:?}, but:\n{text}");
            said = self.said.1.wait_timeout(said, left).unwrap().0;
        }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.keeper.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join(); // All that had the output are dead.
        }
        if std::thread::panicking() {
            let said = self.said.0.lock().unwrap();
            eprintln!("it said:\n{}", String::from_utf8_lossy(&said.bytes));
        }
    }
}

/// Writes a guest to a file, which loads modules in this order and then does what the script says. What is missing for it here is
/// the error.
pub(super) fn write_guest(path: &Path, modules: &[PathBuf], script: &str) -> Result<(), String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        archive.add(folder, FOLDER | 0o755, None, &[]);
    }
    archive.add("dev/console", CHARACTER_DEVICE | 0o600, Some((5, 1)), &[]);
    let init = [INIT, script, END].concat();
    archive.add("init", FILE | 0o755, None, init.as_bytes());
    let busybox = read(Path::new(BUSYBOX))?;
    archive.add("bin/busybox", FILE | 0o755, None, &busybox);
    for (number, module) in modules.iter().enumerate() {
        let name = format!("modules/{number:02}");
        archive.add(&name, FILE | 0o644, None, &read(module)?);
    }
    fs::write(path, trailer(archive.bytes).unwrap()).unwrap();
    Ok(())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: Option<(u32, u32)>, content: &[u8]) {
        self.entries += 1;
        let mut entry = Builder::new(name).ino(self.entries).mode(mode).nlink(1);
        if let Some((major, minor)) = device {
            entry = entry.rdev_major(major).rdev_minor(minor);
        }
        let len = u32::try_from(content.len()).unwrap();
        let mut writer = entry.write(&mut self.bytes, len);
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }
}
