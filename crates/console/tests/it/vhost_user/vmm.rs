//! A VMM's process, which does not outlive the test, however that ends.

use crate::guest::PATIENCE;
use hotbed_console::Shell;
use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is asked whether the VMM is still there.
const SLICE: Duration = Duration::from_millis(100);

/// Starts the program in its own process group, and kills that when the standard input is closed. Killing it first would not do:
/// User-mode Linux leaves helpers behind, which are in a group of the guest's own making.
const KEEPER: &str = r#"
exec 3<&0 2>&1
setsid "$@" </dev/null 3<&- &
exec >&- 2>&-
read -r _ <&3
kill -9 -"$!" "$!" 2>/dev/null
wait "$!" 2>/dev/null
"#;

/// A VMM. Dropping this kills it, and so does the end of our process.
pub(super) struct Vmm {
    keeper: Child,
    /// The keeper waits for its end.
    input: Option<ChildStdin>,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
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
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut piece) {
                heard.lock().unwrap().extend(&piece[..len]);
            }
        });
        Vmm {
            keeper,
            input,
            said,
            reader: Some(reader),
        }
    }

    /// What it has written to its standard output so far.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Waits until the guest's shell is there.
    pub(super) fn wait_ready(&self, shell: &mut Shell) {
        let until = Instant::now() + PATIENCE;
        while shell.poll_ready(Instant::now() + SLICE).unwrap().is_none() {
            let has_time = Instant::now() < until && !self.has_ended();
            assert!(has_time, "the guest's shell is not there");
        }
    }

    /// Waits until it says this. The error is what it says last, when it ends before.
    pub(super) fn wait_said(&self, words: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            if self.has_ended() {
                return Err(self.said().lines().last().unwrap_or("nothing").to_owned());
            }
            assert!(Instant::now() < until, "it does not say {words:?}");
            std::thread::sleep(SLICE / 10);
        }
        Ok(())
    }

    /// Waits until it ends by itself, or until then.
    pub(super) fn wait_end(&self, until: Instant) {
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(SLICE);
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

#[test]
fn end_of_a_program_is_noticed() {
    let words = ["-c", "echo the end"].map(str::to_owned);
    let vmm = Vmm::start("/bin/sh", &words);
    vmm.wait_end(Instant::now() + PATIENCE);
    assert!(vmm.has_ended(), "its keeper holds its output");
    assert_eq!(vmm.said(), "the end\n");
}

impl Drop for Vmm {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.keeper.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join(); // All that had the output are dead.
        }
        if std::thread::panicking() {
            eprintln!("the guest said:\n{}", self.said());
        }
    }
}
