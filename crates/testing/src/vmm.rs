//! A VMM's process, which does not outlive the test, however that ends.

use std::io::Read as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a guest may take for what it is to do, on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

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
#[derive(Debug)]
pub struct Vmm {
    keeper: Child,
    /// The keeper waits for its end.
    input: Option<ChildStdin>,
    said: Arc<Output>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Output {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Output {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changes, or until then; says whether there was time.
    fn wait<'s>(&self, said: MutexGuard<'s, Said>, until: Instant) -> Option<MutexGuard<'s, Said>> {
        let left = until.saturating_duration_since(Instant::now());
        let waited = (!left.is_zero()).then(|| self.changed.wait_timeout(said, left));
        waited.map(|waited| waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Vmm {
    /// Starts a program, and hears what it writes to its standard output and error.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(program: &str, arguments: &[String]) -> Result<Self, String> {
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("/bin/sh for {program}: {error}"))?;
        let input = keeper.stdin.take();
        let mut output = keeper.stdout.take();
        let said = Arc::new(Output::default());
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let read = output
                    .as_mut()
                    .and_then(|output| output.read(&mut piece).ok());
                let len = read.unwrap_or(0);
                let mut said = heard.said();
                said.bytes.extend(&piece[..len]);
                said.has_ended = len == 0;
                heard.changed.notify_all();
                if len == 0 {
                    return;
                }
            }
        });
        Ok(Self {
            keeper,
            input,
            said,
            reader: Some(reader),
        })
    }

    /// What it has written so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.said().bytes).into_owned()
    }

    /// Waits until it says this, and gives the rest of that line.
    ///
    /// # Errors
    ///
    /// What it says last, when it ends before.
    ///
    /// # Panics
    ///
    /// It says nothing of the kind for three minutes.
    pub fn wait_said(&self, words: &str) -> Result<String, String> {
        let until = Instant::now() + PATIENCE;
        let mut said = self.said.said();
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
            said = match self.said.wait(said, until) {
                Some(said) => said,
                None => panic!("it does not say {words:?}, but:\n{text}"),
            };
        }
    }

    /// Waits until it ends by itself, or until then.
    pub fn wait_end(&self, until: Instant) {
        let mut said = self.said.said();
        while !said.has_ended
            && let Some(changed) = self.said.wait(said, until)
        {
            said = changed;
        }
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.said.said().has_ended
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
            eprintln!("it said:\n{}", self.said());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_program_is_noticed() {
        let words = ["-c", "echo the end"].map(str::to_owned);
        let vmm = Vmm::start("/bin/sh", &words).unwrap();
        vmm.wait_end(Instant::now() + PATIENCE);
        assert!(vmm.has_ended(), "its keeper holds its output");
        assert_eq!(vmm.said(), "the end\n");
    }

    #[test]
    fn program_that_goes_on_is_killed_with_its_children() {
        let words = ["-c", "sleep 600 & echo \"child $! of $$\"; wait"].map(str::to_owned);
        let vmm = Vmm::start("/bin/sh", &words).unwrap();
        let pids = vmm.wait_said("child ").unwrap();
        drop(vmm);
        for pid in pids.split(" of ") {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        }
    }
}
