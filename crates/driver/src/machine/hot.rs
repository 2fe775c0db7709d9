//! Hot boot: a machine begins where an earlier boot of the same machine ended.
//!
//! - `key`: what a snapshot depends on; `limits`: what cannot be saved, and why; pure.
//! - `point`: when a machine is where its snapshot is to be; `calm`: when it has nothing left to do.
//! - `save`: a machine that has just come up becomes a snapshot, and goes on from it in a new QEMU.
//! - `restore`: a QEMU that begins from a snapshot; `settle`: what the guest is told then: the time, new random numbers.
//! - `prestart`: a QEMU that is there before it is needed.
//! - `checkpoint`: machines in the middle of a test, saved and taken back; `pages`: the memory that they have changed.
//! - `kept`: such machines in files, for a later run.
//! - `clones`: one snapshot of many machines, each of which is told who it is.
//! - `tree`: a snapshot for use in another place, or from another place.
//! - `watch`: waits for a shell that announces itself, so that what is saved is as fresh as it can be.
//!
//! Invariant: what a test has done to a machine is in no snapshot: whatever touches a machine that is to be saved ends that.

mod calm;
pub(crate) mod checkpoint;
pub(crate) mod clones;
pub(crate) mod kept;
mod key;
mod limits;
mod pages;
mod point;
pub(crate) mod prestart;
pub(crate) mod ram;
mod restore;
pub(crate) mod save;
mod settle;
mod tree;
mod watch;

use std::ffi::OsString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use hotbed_image::{Cache, Identity};

use super::Machine;
use super::boot::ImageStart;
use super::run::Run;
use crate::call::{after, now};
use crate::config::{Hot as Point, ImageMachine, Net};
use crate::{Call, Error};
use checkpoint::Made;
use key::Key;
use ram::Memory;
pub(crate) use watch::Others;

/// What snapshots are called in the cache.
pub(crate) const KIND: &str = "snapshot";
/// What checkpoints are called there.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// What tests save in the cache: the kinds of entries that go first when there is no room.
pub const KINDS: [&str; 2] = [KIND, CHECKPOINT];
/// `0` switches hot boot off for all machines.
const VARIABLE: &str = "HOTBED_HOT";

/// What a machine knows about snapshots of itself.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    myself: OnceLock<Weak<Machine>>,
    phase: Mutex<Phase>,
    changed: Condvar,
    watcher: Mutex<Option<watch::Watcher>>,
    spare: Mutex<Option<prestart::Spare>>,
    why_cold: OnceLock<String>,
}

/// Where a machine is on its way to a snapshot.
#[derive(Debug, Default)]
enum Phase {
    /// Nowhere: it has one, or it is to have none.
    #[default]
    Over,
    /// It boots, and is to be saved when it has come up.
    Booting(Box<Plan>),
    /// It is being saved.
    Saving,
}

/// What a snapshot needs.
#[derive(Debug)]
struct Plan {
    cache: Cache,
    key: Key,
    /// QEMU's arguments for a machine that begins from the snapshot, but for those of its memory.
    arguments: Vec<OsString>,
    /// MiB.
    memory: u32,
    /// Whether the guest has an agent of ours.
    has_agent: bool,
    /// Who the guest is told that it is, when it was saved as nobody.
    becomes: Option<Identity>,
    /// When it is saved.
    point: Point,
    /// The guest's memory, while it boots.
    ram: Option<Arc<Memory>>,
}

impl Hot {
    /// Learns which machine this is about.
    pub(crate) fn introduce(&self, machine: &Arc<Machine>) {
        let _ = self.myself.set(Arc::downgrade(machine));
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the plan of a machine that is to be saved now.
    fn take_plan(&self) -> Option<Box<Plan>> {
        let mut phase = self.phase();
        match std::mem::take(&mut *phase) {
            Phase::Booting(plan) => {
                *phase = Phase::Saving;
                Some(plan)
            }
            other => {
                *phase = other;
                None
            }
        }
    }

    /// Drops the plan of a machine that is not to be saved, unless it is being saved; says whether there was one.
    fn drop_plan(&self) -> bool {
        let mut phase = self.phase();
        let had_plan = matches!(*phase, Phase::Booting(_));
        if had_plan {
            *phase = Phase::Over;
            self.changed.notify_all();
        }
        had_plan
    }

    /// Whether the machine has come as far as it will.
    fn is_over(&self) -> bool {
        matches!(*self.phase(), Phase::Over)
    }

    /// Waits until nothing is to be saved; says whether that is so at `until`.
    fn poll_over(&self, until: Instant) -> bool {
        let mut phase = self.phase();
        loop {
            if matches!(*phase, Phase::Over) {
                return true;
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(phase, left);
            phase = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the thread that waits for the machine to come up, and the QEMU that waits for the machine, if there are such.
    pub(crate) fn stop(&self) {
        self.drop_plan();
        let watcher = self
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(watcher);
        let spare = self.spare().take();
        drop(spare);
    }
}

/// The end of a saving, however it ends.
struct Saving<'h>(&'h Hot);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Over;
        self.0.changed.notify_all();
    }
}

/// Whether whoever started us wants no snapshots.
pub(crate) fn is_off() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "0")
}

impl Machine {
    /// Says once in a test why machines of start scripts do not begin from snapshots.
    pub(super) fn why_scripts_are_cold(&self) {
        if !self.site.is_cold && self.site.others.is_first_script() {
            self.why_cold("what a start script does is not known; such machines boot cold");
        }
    }

    /// Says that somebody lays hands on the machine in a way that no snapshot may hold; waits for one that is being made. The run
    /// of the machine may be another one after that.
    pub(crate) fn touch(&self, call: &Call<'_>) -> Result<(), Error> {
        if self.hot.drop_plan() {
            self.why_cold("the test did something to it before it had come up");
        }
        while !self
            .hot
            .poll_over(call.slice(&|| format!("{} is being saved", self.name()))?)
        {}
        Ok(())
    }

    /// The run of a machine that somebody lays hands on.
    pub(crate) fn touched(&self, call: &Call<'_>) -> Result<Arc<Run>, Error> {
        self.touch(call)?;
        self.running()
    }

    /// Says once why the machine does not begin from a snapshot, or does not become one.
    fn why_cold(&self, why: &str) {
        if self.hot.why_cold.set(why.to_owned()).is_ok() {
            self.log(&format!("no snapshot: {why}"));
        }
    }

    /// Whether the switch has the guest's memory too, so that QEMU cannot have a copy of its own.
    fn shares_memory(&self) -> bool {
        self.config.net() == Net::VhostUser
    }

    /// What a snapshot of this machine needs; `None` when there is to be none.
    fn plan(&self, machine: &ImageMachine, start: &ImageStart<'_>) -> Option<Plan> {
        let point = machine.hot.clone().unwrap_or(Point::Booted);
        if point == Point::Never || self.site.is_cold {
            return None;
        }
        if let Some(why) = limits::why_not(machine) {
            self.why_cold(&why);
            return None;
        }
        let (Some(cache), Some(qemu)) = (
            self.site.images.cache().ok(),
            crate::accelerator::which(&self.site.qemu),
        ) else {
            self.why_cold("there is no cache to keep it in");
            return None;
        };
        let inputs = key::Inputs {
            cache: &cache,
            qemu: &qemu,
            start,
            machine,
            point: &point,
            template: start.template.as_ref(),
            directory: &self.site.directory,
            state_dir: self.state_dir(),
        };
        match inputs.key() {
            Ok(key) => Some(Plan {
                cache,
                key,
                arguments: start.arguments_to_restore(),
                memory: start.memory,
                has_agent: start.agent.is_some(),
                becomes: start.template.as_ref().map(|_| start.identity.clone()),
                point,
                ram: None,
            }),
            Err(error) => {
                self.why_cold(&error.to_string());
                None
            }
        }
    }

    /// Starts an image machine: from its snapshot, or as one that becomes a snapshot when it has come up, or as it is.
    pub(super) fn start_image(
        &self,
        machine: &ImageMachine,
        start: &ImageStart<'_>,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        let mut plan = self.plan(machine, start);
        if start.allow_reboot {
            // It may be read again by a machine that began from a snapshot.
            start.write_initrd()?;
        }
        if start.template.is_some()
            && let Some(run) = self.start_clone(&mut plan, start, call)?
        {
            return Ok(run);
        }
        if let Some(plan) = &plan
            && let Some(run) = self.restore_stored(plan, call)?
        {
            return Ok(run);
        }
        self.start_cold(plan, start, call)
    }

    /// Begins from the snapshot, if there is one that is good.
    fn restore_stored(&self, plan: &Plan, call: &Call<'_>) -> Result<Option<Run>, Error> {
        if let Some(snapshot) = plan.cache.stored(KIND, &plan.key.key) {
            let begin = now();
            match self.restore(plan, &snapshot, restore::Console::OfSnapshot, call) {
                Ok(run) => {
                    let took = now().saturating_duration_since(begin).as_secs_f64();
                    self.log(&format!("restored from a snapshot in {took:.2} s"));
                    return Ok(Some(run));
                }
                Err(error @ (Error::Interrupted | Error::Timeout(_))) => return Err(error),
                Err(error) => {
                    self.log(&format!(
                        "its snapshot is of no use; it boots cold: {}",
                        error.chain()
                    ));
                    drop(snapshot);
                    let _ = plan.cache.remove(KIND, &plan.key.key);
                }
            }
        }
        Ok(None)
    }

    fn start_cold(
        &self,
        plan: Option<Plan>,
        start: &ImageStart<'_>,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        // One that waits for a snapshot is of no use.
        drop(self.take_spare(&[]));
        let plan = plan.filter(|plan| {
            let is_writable = plan.cache.is_writable();
            self.why_not_from_tree(plan);
            if !is_writable {
                self.why_cold("the cache cannot be written");
            }
            is_writable
        });
        let ram = Memory::new(start.memory).map(Arc::new);
        let ram = match ram {
            Err(error) if self.shares_memory() => {
                return Err(Error::host("no memory that could be shared")(error));
            }
            ram => ram.map_err(|error| self.why_cold(&format!("no memory for it: {error}"))),
        };
        let plan = plan.and_then(|mut plan| {
            plan.ram = Some(Arc::clone(ram.as_ref().ok()?));
            Some(plan)
        });
        let mut arguments = match (&plan, &start.template) {
            (Some(_), Some(template)) => {
                start.write_initrd_of(&template.identity, &template.initrd)?;
                template.arguments.clone()
            }
            _ => {
                start.write_initrd()?;
                start.arguments.clone()
            }
        };
        if let Ok(ram) = &ram {
            arguments.extend(restore::memory_arguments(
                start.memory,
                &ram.path(),
                restore::Access::Shared,
            ));
        }
        let mut run = self.start_qemu(arguments, None, call)?;
        run.made = ram.ok().map(|ram| Made::cold(start, ram));
        run.becomes = plan.as_ref().and_then(|plan| plan.becomes.clone());
        if let Some(plan) = plan {
            *self.hot.phase() = Phase::Booting(Box::new(plan));
            self.watch();
        }
        Ok(run)
    }
}

/// The moment when something that takes `patience` is given up.
fn deadline(patience: Duration) -> Instant {
    after(now(), patience)
}

impl ImageStart<'_> {
    /// QEMU's arguments, without what only a boot needs: a machine that never boots again takes its kernel from its memory.
    pub(super) fn arguments_to_restore(&self) -> Vec<OsString> {
        let mut kept = Vec::new();
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            let boots = ["-kernel", "-initrd", "-append"]
                .iter()
                .any(|name| argument == name);
            if boots && !self.allow_reboot {
                arguments.next();
            } else {
                kept.push(argument.clone());
            }
        }
        kept
    }
}
