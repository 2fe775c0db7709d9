//! One machine: its QEMU, its shell, its files, its power.
//!
//! - [`command_line`]: configuration to QEMU's arguments; pure.
//! - `run`: one run of QEMU and the sockets to it; `console_log`: what it says.
//! - `boot`: from power-on to the shell, `hot`: or from a snapshot, `marks`: when it was how far; `power`: off, again, and the cable.
//! - `shell`, `channel`, `link`: how commands get into the guest: by its agent, else by the backdoor shell.
//! - `units`, `wait`, `events`, `files`, `program`, `interact`: what else is asked of the guest.
//! - `monitor`, `qmp`, `keys`: what it asks of QEMU.
//! - `screen`, `ocr`, `looks`: what is to be seen on its screen, terminals and windows.
//!
//! Invariant: a lock of this module is never held while a guest or QEMU is waited for, but for the turns (`turn`), which are
//! waited for with the caller's deadline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::now;
use crate::config::{MachineConfig, MachineKind};
use crate::site::Site;
use crate::turn::Turns;
use crate::{Call, Error};

mod boot;
mod channel;
pub mod command_line;
pub(crate) mod console_log;
mod console_text;
mod events;
mod files;
pub(crate) mod hot;
pub(crate) mod interact;
mod keys;
mod link;
mod looks;
pub(crate) mod marks;
mod monitor;
mod ocr;
mod power;
pub mod program;
mod qmp;
pub(crate) mod quoting;
pub(crate) mod run;
mod screen;
mod shell;
#[cfg(test)]
mod tests;
mod units;
mod wait;

use console_log::ConsoleLog;
pub use looks::Search;
use run::Run;
pub use shell::{Execute, Output};

/// The default of every wait.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(900);

/// What a machine is doing, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It is not running.
    Off,
    /// QEMU runs; the shell is not there yet.
    Booting(Duration),
    /// Nothing is asked of it.
    Idle(Duration),
    /// It runs a command of the test, or waits for something; the text says which.
    Busy(String, Duration),
}

impl std::fmt::Display for Activity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => write!(f, "off"),
            Self::Booting(time) => write!(f, "booting for {:.1} s", time.as_secs_f64()),
            Self::Idle(time) => write!(f, "idle for {:.1} s", time.as_secs_f64()),
            Self::Busy(what, time) => write!(f, "{what} for {:.1} s", time.as_secs_f64()),
        }
    }
}

/// One machine of a testbed. All methods may be called from any thread; those that need the shell take turns.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    site: Arc<Site>,
    state_dir: PathBuf,
    shared_dir: PathBuf,
    console: Arc<ConsoleLog>,
    run: Mutex<Option<Arc<Run>>>,
    start_command: Mutex<String>,
    /// Held by the thread that starts QEMU.
    starting: Turns<()>,
    pub(crate) hot: hot::Hot,
    pub(crate) marks: marks::Marks,
    doings: Mutex<Doings>,
    snapshots: Mutex<BTreeMap<String, Arc<hot::checkpoint::Frozen>>>,
}

/// What the threads that use a machine are doing.
#[derive(Debug)]
struct Doings {
    next: u64,
    now: Vec<(u64, String, Instant)>,
    idle_since: Instant,
}

/// Something that a machine is doing; ends when it is dropped.
pub(crate) struct Doing<'m> {
    machine: &'m Machine,
    id: u64,
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        let mut doings = lock(&self.machine.doings);
        doings.now.retain(|(id, ..)| *id != self.id);
        doings.idle_since = now();
    }
}

/// A poisoned lock only means that another thread panicked; what it guards is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine that is off; makes its directory and its console log.
    pub(crate) fn new(
        config: MachineConfig,
        site: Arc<Site>,
        console_log: &Path,
    ) -> Result<Self, Error> {
        let state_dir = site.state_root.join(format!("vm-state-{}", config.name));
        crate::testbed::directories::make_private(&state_dir)?;
        let failed = || {
            Error::host(format!(
                "cannot make the console log {}",
                console_log.display()
            ))
        };
        let console = ConsoleLog::create(console_log, &config.name, &site.log).map_err(failed())?;
        let console = Arc::new(console);
        site.tail.follow(&console).map_err(failed())?;
        Ok(Self {
            config,
            shared_dir: site.shared_dir(),
            site,
            state_dir,
            console,
            run: Mutex::new(None),
            start_command: Mutex::new(String::new()),
            starting: Turns::new(()),
            hot: hot::Hot::default(),
            marks: marks::Marks::default(),
            doings: Mutex::new(Doings {
                next: 0,
                now: Vec::new(),
                idle_since: now(),
            }),
            snapshots: Mutex::default(),
        })
    }

    /// Its name in the test.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What the test asks of it.
    #[must_use]
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// The shell command that starts it: a start script as it was given, QEMU's command line once an image machine was started.
    #[must_use]
    pub fn start_command(&self) -> String {
        match &self.config.kind {
            MachineKind::StartScript(script) => script.clone(),
            MachineKind::Image(_) => lock(&self.start_command).clone(),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The directory that all machines share with the host.
    #[must_use]
    pub fn shared_dir(&self) -> &Path {
        &self.shared_dir
    }

    /// Empties its directory; says so when there was something in it.
    ///
    /// # Errors
    ///
    /// When it cannot be removed or made again.
    pub fn clean_up_state_dir(&self) -> Result<(), Error> {
        let directory = self.state_dir();
        let failed = || Error::host(format!("cannot empty {}", directory.display()));
        let is_empty = std::fs::read_dir(directory)
            .map_err(failed())?
            .next()
            .is_none();
        if is_empty {
            return Ok(());
        }
        let shown = directory.display();
        self.log(&format!("deleting machine state directory {shown}"));
        self.log("if you want to keep the machine state, pass --keep-machine-state");
        std::fs::remove_dir_all(directory).map_err(failed())?;
        crate::testbed::directories::make_private(directory)
    }

    /// The EFI variables that `NIX_EFI_VARS` tells a start script of.
    #[must_use]
    pub fn efi_vars_path(&self) -> PathBuf {
        self.state_dir.join(format!("{}-efi-vars.fd", self.name()))
    }

    /// Where the whole text of its console is kept.
    #[must_use]
    pub fn console_log_path(&self) -> &Path {
        self.console.path()
    }

    /// What it is doing.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let since = |moment: Instant| now().saturating_duration_since(moment);
        let doings = lock(&self.doings);
        let doing = doings
            .now
            .last()
            .map(|(_, what, begin)| (what.clone(), *begin));
        let idle_since = doings.idle_since;
        drop(doings);
        match (self.present_run(), doing) {
            (Some(run), _) if !run.connected.load(Ordering::Acquire) => {
                Activity::Booting(since(run.since))
            }
            (_, Some((what, begin))) => Activity::Busy(what, since(begin)),
            (Some(run), None) => Activity::Idle(since(idle_since.max(run.since))),
            (None, None) => Activity::Off,
        }
    }

    /// Whether QEMU runs and the shell is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_connected()
    }

    /// Whether QEMU was started and has not been seen to end.
    #[must_use]
    pub fn is_booted(&self) -> bool {
        self.present_run().is_some()
    }

    /// Whether the shell is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.present_run()
            .is_some_and(|run| run.connected.load(Ordering::Acquire))
    }

    /// The process id of QEMU or its start script, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.present_run().map(|run| run.process.pid())
    }

    /// The processor time that QEMU has taken.
    pub(crate) fn processor_time(&self) -> Result<Duration, Error> {
        self.running()?
            .process
            .processor_time()
            .map_err(Error::host("cannot read the clock of QEMU's process"))
    }

    /// Logs one line with the machine's name.
    pub fn log(&self, message: &str) {
        self.site.log.log(Some(self.name()), message);
    }

    /// Logs a block around `body`, which is what the machine is doing meanwhile.
    pub(crate) fn nested<T>(
        &self,
        message: &str,
        body: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _doing = self.begin_doing(message);
        self.site.log.nested(Some(self.name()), message, body)
    }

    pub(crate) fn begin_doing(&self, what: &str) -> Doing<'_> {
        let mut doings = lock(&self.doings);
        let id = doings.next;
        doings.next += 1;
        doings.now.push((id, what.to_owned(), now()));
        Doing { machine: self, id }
    }

    /// The last lines of the console, for reports.
    pub(crate) fn last_console_lines(&self, count: usize) -> Vec<String> {
        self.console.last_lines(count)
    }

    /// Kills QEMU if it runs, as the end of a test does.
    pub fn release(&self) {
        self.hot.stop();
        if let Some(run) = self.present_run() {
            self.site
                .log
                .info(&format!("kill QemuMachine (pid {})", run.process.pid()));
            run.process.end();
            self.forget_run();
        }
    }

    /// What it can go back to.
    pub(crate) fn snapshots(
        &self,
    ) -> MutexGuard<'_, BTreeMap<String, Arc<hot::checkpoint::Frozen>>> {
        lock(&self.snapshots)
    }

    fn present_run(&self) -> Option<Arc<Run>> {
        lock(&self.run).clone()
    }

    fn set_run(&self, run: Arc<Run>) {
        *lock(&self.run) = Some(run);
    }

    fn forget_run(&self) {
        // Dropped after the lock: it may have to wait for a thread to end.
        let run = lock(&self.run).take();
        drop(run);
    }

    /// The run of a machine that is on.
    fn running(&self) -> Result<Arc<Run>, Error> {
        match self.present_run() {
            Some(run) if run.is_running() => Ok(run),
            Some(run) => {
                Err(self.explain(&run, Error::Machine(format!("{} is gone", self.name()))))
            }
            None => Err(Error::Machine(format!(
                "{} is not running: start it first",
                self.name()
            ))),
        }
    }

    /// The error to tell when something between us and a machine failed: QEMU's end, if it ended.
    fn explain(&self, run: &Run, error: Error) -> Error {
        if matches!(
            error,
            Error::Interrupted
                | Error::Timeout(_)
                | Error::Argument(_)
                | Error::TestFailed(_)
                | Error::Callback(_)
        ) {
            return error;
        }
        let doing = lock(&self.doings)
            .now
            .last()
            .map(|(_, what, _)| format!(" while {what}"))
            .unwrap_or_default();
        let Some(words) = run.last_words() else {
            return error;
        };
        let message = format!("{} is not running any more{doing}: {words}", self.name());
        // A guest that comes up and then goes is the test's matter; one that does not come up is not.
        if run.came_up.load(Ordering::Acquire) {
            Error::Runtime(format!("Shell disconnected: {message}"))
        } else {
            Error::Machine(message)
        }
    }

    /// Writes to the guest's console.
    ///
    /// # Errors
    ///
    /// When the machine is not running, or QEMU does not take it.
    pub fn send_console(&self, text: impl AsRef<[u8]>, call: &Call<'_>) -> Result<(), Error> {
        let run = self.touched(call)?;
        let doing = || format!("writing to the console of {}", self.name());
        let mut stdin = run.stdin.take(call, &doing)?;
        let Some(pipe) = stdin.as_mut() else {
            return Err(Error::Machine(format!(
                "QEMU of {} has no standard input",
                self.name()
            )));
        };
        let mut left = text.as_ref();
        loop {
            let slice = call.slice(&doing)?;
            match crate::process::write_until(&mut *pipe, &mut left, slice) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(self.explain(&run, Error::host(doing())(error))),
            }
        }
    }
}
