//! A test's machines and VLANs, the directories they live in, the global timeout and the end of it all.
//!
//! - `checkpoint`: all machines and VLANs at one instant, to go back to; `kept`: such instants in the cache, for a later run.
//! - `directories`: where everything is; `vlans`: the switches; `machines`: the machines; `reaper`: what cleans up when we cannot; `prestarter`: QEMUs that are
//!   there before a test needs them; `timeout`: the timer.
//!
//! Invariant: whatever a testbed starts is known to its reaper before the testbed waits for it.

mod checkpoint;
pub(crate) mod directories;
mod kept;
mod machines;
mod prestarter;
pub(crate) mod reaper;
mod timeout;
mod vlans;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::{MachineKind, names, network};
use crate::images::Images;
use crate::machine::console_log::Tail;
use crate::machine::{Activity, Execute};
use crate::process::Owner;
use crate::site::{Parts, Site};
use crate::{AgentProgram, Call, Error, Log, Machine, TestConfig, Vlan};
use prestarter::Prestarter;
use reaper::Reaper;
use timeout::Timer;

/// How many of a console's last lines are shown when the global timeout passes.
const LAST_LINES: usize = 10;
/// The QEMU for images, when nobody names another.
const QEMU: &str = "qemu-system-x86_64";

/// How a testbed is run, beside what the test itself asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where `copy_from_machine` and console logs go; by default the current directory and the user's state directory.
    pub out_dir: Option<PathBuf>,
    /// Whether the testbed's directory is kept at the end.
    pub keep_state: bool,
    /// Whether each machine's directory is where the next testbed finds it, beside the testbed's own.
    pub finds_state: bool,
    /// The image cache; by default the user's.
    pub cache: Option<PathBuf>,
    /// Where images and snapshots are looked for that the cache does not have: a tree that [`Machine::put_into`] made. Nothing is written
    /// there.
    pub snapshots: Option<PathBuf>,
    /// The QEMU binary; by default `$HOTBED_QEMU`, else `qemu-system-x86_64` in `PATH`.
    pub qemu: Option<PathBuf>,
    /// The program that goes into guests; by default as [`AgentProgram::find`] has it. An empty path: none.
    pub agent: Option<PathBuf>,
    /// Whether all machines boot from power-on, and none becomes a snapshot; also with `HOTBED_HOT=0`.
    pub cold: bool,
    /// Whether checkpoints are kept in the cache, so that a later run can begin there.
    pub keep_checkpoints: bool,
    /// The directory below which the testbed's own is made; by default as the NixOS driver finds it.
    pub temporary_root: Option<PathBuf>,
}

/// What becomes of machines when the test has used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtTimeout {
    /// They are killed.
    Kill,
    /// They run on, so that somebody can look into them.
    Keep,
}

/// A test's machines and VLANs.
#[derive(Debug)]
pub struct Testbed {
    config: TestConfig,
    site: Arc<Site>,
    machines: Vec<Arc<Machine>>,
    vlans: Vec<Arc<Vlan>>,
    timer: Timer,
    prestarter: Mutex<Option<Prestarter>>,
    keep_state: bool,
    /// Where console logs are.
    logs: PathBuf,
    reaper: Arc<Reaper>,
    stopped: AtomicBool,
    /// Held by the thread that stops the testbed.
    stopping: Mutex<()>,
    owner: Owner,
    checkpoints: checkpoint::Checkpoints,
    keep_checkpoints: bool,
}

impl Testbed {
    /// Makes the directories, the reaper, the VLANs and the machines; boots nothing.
    ///
    /// # Errors
    ///
    /// When the host does not give what is needed.
    pub fn new(config: TestConfig, options: Options, log: Arc<Log>) -> Result<Arc<Self>, Error> {
        let current =
            || std::env::current_dir().map_err(Error::host("there is no current directory"));
        let out_dir = options.out_dir.clone().map_or_else(current, Ok)?;
        let logs = match &options.out_dir {
            Some(out_dir) => out_dir.clone(),
            None => directories::state_home()?.join("logs").join(config.name()),
        };
        let directory = directories::make(options.temporary_root.as_deref())?;
        let state_root = match options.finds_state {
            true => directories::root(options.temporary_root.as_deref())?,
            false => directory.clone(),
        };
        // With snapshots from elsewhere, nothing need be kept.
        let cache = directories::cache(&config, options.cache)
            .or_else(|| options.snapshots.is_some().then(|| directory.join("cache")));
        let reaper = Reaper::start(&directory).map_err(|error| {
            let _ = fs::remove_dir(&directory);
            Error::host("cannot start the reaper")(error)
        })?;
        let reaper = Arc::new(reaper);
        // From here on, an early return drops the reaper, which removes the directory.
        let vlans = vlans::start(&config, &directory, &log)?;
        let site = Site::new(Parts {
            out_dir,
            log,
            boot_timeout: config.boot_timeout,
            qemu: options
                .qemu
                .or_else(|| std::env::var_os("HOTBED_QEMU").map(PathBuf::from))
                .unwrap_or_else(|| QEMU.into()),
            agent: AgentProgram::find(options.agent.as_deref())?,
            is_cold: options.cold || crate::machine::hot::is_off(),
            images: Images::new(cache, options.snapshots),
            vlan_sockets: vlans
                .iter()
                .map(|vlan| (vlan.number(), vlan.stream_socket().to_owned()))
                .collect(),
            environment: vlans::environment(&vlans),
            hosts: hosts(&config),
            tail: Tail::start()
                .map_err(Error::host("cannot start the thread that follows consoles"))?,
            reaper: Arc::clone(&reaper),
            directory,
            state_root,
        });
        directories::make_private(&site.shared_dir())?;
        let site = Arc::new(site);
        let machines = machines::make_all(&config, &site, &logs)?;
        Ok(Arc::new(Self {
            config,
            site,
            machines,
            vlans,
            timer: Timer::default(),
            prestarter: Mutex::new(None),
            keep_state: options.keep_state || options.finds_state,
            logs,
            reaper,
            stopped: AtomicBool::new(false),
            stopping: Mutex::new(()),
            owner: Owner::here(),
            checkpoints: checkpoint::Checkpoints::default(),
            keep_checkpoints: options.keep_checkpoints,
        }))
    }

    /// What the test asks for.
    #[must_use]
    pub fn config(&self) -> &TestConfig {
        &self.config
    }

    /// Whether what the machines leave in their directories is kept.
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        self.keep_state
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.site.log
    }

    /// The machines, sorted by name.
    #[must_use]
    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// The VLANs, sorted by number.
    #[must_use]
    pub fn vlans(&self) -> &[Arc<Vlan>] {
        &self.vlans
    }

    /// The directory that holds everything: the NixOS driver's `<tmp>`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.site.directory
    }

    /// Where `copy_from_machine` puts files.
    #[must_use]
    pub fn out_dir(&self) -> &Path {
        &self.site.out_dir
    }

    /// The variables that the NixOS driver sets in its own process: `QEMU_VDE_SOCKET_<n>`. Start scripts get them in any case.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.site.environment.clone()
    }

    /// Builds or finds the images of all machines, so that no boot has to; `start` does it for those that are not there yet.
    ///
    /// # Errors
    ///
    /// When an image cannot be built.
    pub fn prepare_images(
        &self,
        progress: &dyn hotbed_image::Progress,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        for machine in &self.machines {
            if let MachineKind::Image(image) = &machine.config().kind {
                self.site
                    .images
                    .get(machine.name(), &image.spec(), progress, call)?;
            }
        }
        Ok(())
    }

    /// What runs the guests here, KVM or TCG, and why; finds it out when that has not been done on this host.
    ///
    /// # Errors
    ///
    /// When the trial cannot be made.
    pub fn accelerator(&self, call: &Call<'_>) -> Result<String, Error> {
        Ok(self.site.accelerator_verdict(call)?.says())
    }

    /// Starts every machine at once; does not wait for their shells.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`] with all that failed; [`Error::Interrupted`] when the call was.
    pub fn start_all(&self, call: &Call<'_>) -> Result<(), Error> {
        self.site.log.nested(None, "start all VMs", || {
            let failures = std::thread::scope(|scope| {
                let start = |machine: &'_ Arc<Machine>| {
                    let name = format!("start-{}", machine.name());
                    let machine = Arc::clone(machine);
                    std::thread::Builder::new()
                        .name(name)
                        .spawn_scoped(scope, move || machine.start(false, call))
                };
                let threads: Vec<_> = self
                    .machines
                    .iter()
                    .map(|machine| (machine.name(), start(machine)))
                    .collect();
                let mut failures = Vec::new();
                for (name, thread) in threads {
                    let result = match thread {
                        Ok(thread) => thread.join().unwrap_or_else(|_| {
                            Err(Error::Machine("its thread panicked".to_owned()))
                        }),
                        Err(error) => Err(Error::host("cannot start a thread")(error)),
                    };
                    failures.extend(result.err().map(|error| (name, error)));
                }
                failures
            });
            if failures.is_empty() {
                return Ok(());
            }
            if failures
                .iter()
                .any(|(_, error)| matches!(error, Error::Interrupted))
            {
                return Err(Error::Interrupted);
            }
            let lines: Vec<String> = failures
                .iter()
                .map(|(name, error)| format!("{name}: {}", error.chain()))
                .collect();
            Err(Error::Machine(format!(
                "Failed to start the following machines:\n{}",
                lines.join("\n")
            )))
        })
    }

    /// Waits until every machine is off, and disarms the timeout.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn join_all(&self, call: &Call<'_>) -> Result<(), Error> {
        self.site
            .log
            .nested(None, "wait for all VMs to finish", || {
                self.machines
                    .iter()
                    .try_for_each(|machine| machine.wait_for_shutdown(None, call))?;
                self.timer.disarm();
                Ok(())
            })
    }

    /// Runs `sync` in every machine that is up and may have a disk that outlives it, as the end of `run_tests` does.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn sync_all(&self, call: &Call<'_>) -> Result<(), Error> {
        let has_disk = |machine: &&Arc<Machine>| match &machine.config().kind {
            MachineKind::Image(image) => !image.qemu_args.is_empty(),
            MachineKind::StartScript(_) => true,
        };
        let written = self.machines.iter().filter(has_disk);
        written
            .filter(|machine| machine.is_up())
            .try_for_each(|machine| {
                machine
                    .execute("sync", &Execute::default(), call)
                    .map(|_| ())
            })
    }

    /// Says whether a frame has passed that is still forbidden; the script is over.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when one has.
    pub fn lift_bans(&self) -> Result<(), Error> {
        self.vlans.iter().try_for_each(|vlan| vlan.lift_all())
    }

    /// Starts the global timeout: logs `Test will time out and terminate in <N> seconds`, and when it passes, says what each
    /// machine was doing, kills them all unless they are to be kept, and then calls `on_expiry` (on the timer's own thread).
    pub fn arm_timeout(
        self: &Arc<Self>,
        timeout: Duration,
        machines: AtTimeout,
        on_expiry: Box<dyn FnOnce() + Send>,
    ) {
        self.site.log.info(&format!(
            "Test will time out and terminate in {:?} seconds",
            timeout.as_secs_f64()
        ));
        let testbed = Arc::downgrade(self);
        let expire = move || {
            if let Some(testbed) = testbed.upgrade() {
                testbed.expire(machines);
            }
            on_expiry();
        };
        if let Err(error) = self.timer.arm(timeout, expire) {
            self.site.log.warning(&format!(
                "the test has no timeout: its thread cannot be started: {error}"
            ));
        }
    }

    /// Stops the global timeout.
    pub fn disarm_timeout(&self) {
        self.timer.disarm();
    }

    /// Whether the global timeout has passed.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timer.expired()
    }

    fn expire(&self, machines: AtTimeout) {
        let log = &self.site.log;
        let block = log.begin(None, "timeout reached; test terminating...");
        self.end_prestarter();
        for machine in &self.machines {
            machine.log(&format!(
                "was {} when the test timed out",
                machine.activity()
            ));
            for line in machine.last_console_lines(LAST_LINES) {
                machine.log(&format!("  its console: {}", crate::log::shown(&line)));
            }
        }
        if machines == AtTimeout::Kill {
            // What is between start and shell belongs to no machine yet.
            self.site.kill_all();
            self.machines.iter().for_each(|machine| machine.release());
        }
        block.finish();
        log.flush();
    }

    /// What each machine is doing.
    #[must_use]
    pub fn status(&self) -> Vec<(String, Activity)> {
        self.machines
            .iter()
            .map(|machine| (machine.name().to_owned(), machine.activity()))
            .collect()
    }

    /// Ends everything: machines, VLANs, helpers, directories. Takes well under a second; a second call does nothing, nor does
    /// one in a fork of this process.
    pub fn stop(&self) {
        let _stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.owner.is_here() || self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        let log = &self.site.log;
        let block = log.begin(None, "cleanup");
        self.timer.disarm();
        self.end_prestarter();
        // All at once: each may take its grace.
        std::thread::scope(|scope| {
            for machine in &self.machines {
                let release = || machine.release();
                if std::thread::Builder::new()
                    .spawn_scoped(scope, release)
                    .is_err()
                {
                    machine.release();
                }
            }
        });
        self.site.kill_all();
        self.vlans.iter().for_each(|vlan| vlan.stop(log));
        if self.keep_state && self.site.state_root == self.site.directory {
            self.reaper.keep_directories();
            log.info(&format!(
                "the machines' state is kept in {}",
                self.site.directory.display()
            ));
        }
        self.reaper.finish();
        block.finish();
        log.flush();
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Every machine's addresses with its host name, for `/etc/hosts`.
fn hosts(config: &TestConfig) -> Vec<(IpAddr, Vec<String>)> {
    let mut hosts: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for machine in &config.machines {
        for &vlan in &machine.vlans {
            let name = names::host_name(&machine.name);
            let addresses = [
                IpAddr::from(network::ipv4(vlan, machine.number)),
                IpAddr::from(network::ipv6(vlan, machine.number)),
            ];
            for address in addresses {
                hosts.entry(address).or_default().push(name.clone());
            }
        }
    }
    hosts.into_iter().collect()
}
