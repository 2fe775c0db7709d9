//! All machines and VLANs at one instant, to go back to.
//!
//! A switch stands still first, then the machines: what they have sent by then is in the switch, and no machine has received what another
//! one has not yet sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Testbed;
use crate::machine::hot::checkpoint::{Frozen, tell};
use crate::machine::hot::ram::Memory;
use crate::machine::run::Run;
use crate::turn::Turns;
use crate::vlan::Frozen as FrozenVlan;
use crate::{Call, Error, Machine, Vlan};

/// The most checkpoints of a testbed, and the most snapshots of a machine: each holds the memory of machines.
const CHECKPOINTS_MAX: usize = 64;

/// What a testbed can go back to.
#[derive(Debug)]
pub(super) struct Checkpoints {
    kept: Mutex<BTreeMap<String, Arc<Checkpoint>>>,
    /// Held by the thread that saves or goes back.
    turn: Turns<()>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            turn: Turns::new(()),
        }
    }
}

impl Checkpoints {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Checkpoint>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a checkpoint of that name, in the place of the one that there was.
    pub(super) fn insert(&self, name: &str, checkpoint: Arc<Checkpoint>) {
        let before = self.kept().insert(name.to_owned(), checkpoint);
        drop(before);
    }
}

/// One instant: each machine, if it was on, and each VLAN.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) machines: Vec<Option<Frozen>>,
    pub(super) vlans: Vec<FrozenVlan>,
}

impl Testbed {
    /// Saves all machines that are on, and all VLANs with the frames that are under way, as they are at one instant; waits for
    /// machines that boot. A checkpoint of the same name is replaced. A run that keeps checkpoints also writes it to the cache, for
    /// [`resume`](Self::resume) in a later run; when that fails, it is logged, and the checkpoint is good for this run all the same.
    ///
    /// # Errors
    ///
    /// When a machine cannot be saved: one of a start script, for example.
    pub fn checkpoint(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        self.save_as(name, self.keep_checkpoints, call)
    }

    /// Does the same for a block of the test at whose end all goes back; no later run has use for that.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_for_fork(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        self.save_as(name, false, call)
    }

    fn save_as(&self, name: &str, is_kept: bool, call: &Call<'_>) -> Result<(), Error> {
        let message = format!("saving all machines as checkpoint `{name}`");
        self.site.log.nested(None, &message, || {
            let _turn = self.take_turn(call)?;
            check_room(&self.checkpoints.kept(), name)?;
            let machines: Vec<&Machine> = self.machines.iter().map(|machine| &**machine).collect();
            let (machines, vlans) = save(&machines, &self.vlans, call)?;
            let checkpoint = Arc::new(Checkpoint { machines, vlans });
            self.checkpoints.insert(name, Arc::clone(&checkpoint));
            match is_kept {
                true => self.keep(name, &checkpoint, call),
                false => Ok(()),
            }
        })
    }

    /// Takes all machines and VLANs back to a checkpoint; machines that were off are off then.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is no such checkpoint.
    pub fn rollback(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        let message = format!("going back to checkpoint `{name}`");
        self.site.log.nested(None, &message, || {
            let _turn = self.take_turn(call)?;
            let checkpoint = find(&self.checkpoints.kept(), "checkpoint", name)?;
            self.go_back_to(&checkpoint, call)
        })
    }

    pub(super) fn go_back_to(&self, checkpoint: &Checkpoint, call: &Call<'_>) -> Result<(), Error> {
        let pairs = self.machines.iter().map(|machine| &**machine);
        let pairs: Vec<_> = pairs
            .zip(checkpoint.machines.iter().map(Option::as_ref))
            .collect();
        restore(&pairs, &self.vlans, &checkpoint.vlans, call)
    }

    /// Forgets a checkpoint, and gives back its memory; says whether there was one.
    pub fn forget_checkpoint(&self, name: &str) -> bool {
        let checkpoint = self.checkpoints.kept().remove(name);
        checkpoint.is_some()
    }

    /// The names of the checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<String> {
        self.checkpoints.kept().keys().cloned().collect()
    }

    pub(super) fn take_turn(&self, call: &Call<'_>) -> Result<crate::turn::Turn<'_, ()>, Error> {
        let doing = || "waiting for another checkpoint".to_owned();
        self.checkpoints.turn.take(call, &doing)
    }
}

impl Machine {
    /// Saves this machine as it is; the others and the network go on. A snapshot of the same name is replaced.
    ///
    /// # Errors
    ///
    /// When it is off, or cannot be saved.
    pub fn snapshot(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        self.nested(&format!("saving it as snapshot `{name}`"), || {
            check_room(&self.snapshots(), name)?;
            let (mut machines, _) = save(&[self], &[], call)?;
            let Some(frozen) = machines.pop().flatten() else {
                return Err(Error::Machine(format!("{} is off", self.name())));
            };
            let before = self.snapshots().insert(name.to_owned(), Arc::new(frozen));
            drop(before);
            Ok(())
        })
    }

    /// Takes this machine back to a snapshot; the others and the network go on.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is no such snapshot.
    pub fn restore_snapshot(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        self.nested(&format!("going back to snapshot `{name}`"), || {
            let frozen = find(&self.snapshots(), "snapshot", name)?;
            restore(&[(self, Some(&*frozen))], &[], &[], call)
        })
    }

    /// Forgets a snapshot, and gives back its memory; says whether there was one.
    pub fn forget_snapshot(&self, name: &str) -> bool {
        let snapshot = self.snapshots().remove(name);
        snapshot.is_some()
    }
}

fn check_room<T>(kept: &BTreeMap<String, T>, name: &str) -> Result<(), Error> {
    if kept.len() < CHECKPOINTS_MAX || kept.contains_key(name) {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "there are {CHECKPOINTS_MAX} already, each of which holds memory: forget one first"
    )))
}

pub(super) fn find<T: Clone>(
    kept: &BTreeMap<String, T>,
    what: &str,
    name: &str,
) -> Result<T, Error> {
    let names = || kept.keys().cloned().collect::<Vec<_>>().join("`, `");
    kept.get(name).cloned().ok_or_else(|| {
        let there_are = if kept.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are `{}`", names())
        };
        Error::Argument(format!("no {what} `{name}`: {there_are}"))
    })
}

/// Machines and VLANs that stand still; they go on when it is dropped.
struct Still<'s> {
    vlans: &'s [Arc<Vlan>],
    runs: Vec<Arc<Run>>,
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        // Each goes on, also when another one cannot, and when the call has ended.
        for run in &self.runs {
            let _ = tell(run, "cont", &Call::unlimited());
        }
        for vlan in self.vlans {
            let _ = vlan.set_paused(false);
        }
    }
}

type Saved = (Vec<Option<Frozen>>, Vec<FrozenVlan>);

/// Saves machines and VLANs at one instant.
fn save(machines: &[&Machine], vlans: &[Arc<Vlan>], call: &Call<'_>) -> Result<Saved, Error> {
    let mut runs = Vec::new();
    for machine in machines {
        runs.push(match machine.is_booted() {
            true => {
                machine.connect(call)?;
                Some(machine.touched(call)?)
            }
            false => None,
        });
    }
    for (machine, run) in machines.iter().zip(&runs) {
        let why = run.as_ref().and_then(|run| machine.why_not_frozen(run));
        if let Some(why) = why {
            return Err(Error::Machine(why));
        }
    }
    let pairs: Vec<_> = machines.iter().copied().zip(&runs).collect();
    let bases = at_once(&pairs, |(machine, run)| match run {
        Some(run) => machine.copy_base(run, call),
        None => Ok(None),
    })?;
    // No command is under way in a shell while the state is taken: its answer would come twice, or never.
    let mut shells = Vec::new();
    for run in runs.iter().flatten() {
        shells.push(
            run.shell
                .take(call, &|| "waiting for a turn at a shell".to_owned())?,
        );
    }
    let mut still = Still {
        vlans,
        runs: Vec::new(),
    };
    for vlan in vlans {
        vlan.set_paused(true)?;
    }
    for run in runs.iter().flatten() {
        // What the switch has sent it is in QEMU when it has answered.
        tell(run, "query-status", call)?;
    }
    for run in runs.iter().flatten() {
        still.runs.push(Arc::clone(run));
        tell(run, "stop", call)?;
    }
    let bases: Vec<Mutex<Option<Memory>>> = bases.into_iter().map(Mutex::new).collect();
    let pairs: Vec<_> = pairs.into_iter().zip(&bases).collect();
    let frozen = at_once(&pairs, |((machine, run), base)| match run {
        Some(run) => {
            let base = base.lock().unwrap_or_else(PoisonError::into_inner).take();
            machine.freeze(run, base, call).map(Some)
        }
        None => Ok(None),
    })?;
    let switches = vlans
        .iter()
        .map(|vlan| vlan.freeze())
        .collect::<Result<_, _>>()?;
    drop(still);
    Ok((frozen, switches))
}

/// Takes machines and VLANs back.
fn restore(
    machines: &[(&Machine, Option<&Frozen>)],
    vlans: &[Arc<Vlan>],
    switches: &[FrozenVlan],
    call: &Call<'_>,
) -> Result<(), Error> {
    let mut still = Still {
        vlans,
        runs: Vec::new(),
    };
    for (machine, _) in machines {
        machine.hot.stop();
    }
    for vlan in vlans {
        vlan.set_paused(true)?;
    }
    at_once(machines, |(machine, _)| {
        machine.end_run();
        Ok(())
    })?;
    for vlan in vlans {
        vlan.reset()?;
    }
    let runs = at_once(machines, |(machine, frozen)| {
        frozen.map(|frozen| machine.thaw(frozen, call)).transpose()
    })?;
    for (vlan, frozen) in vlans.iter().zip(switches) {
        let lost = vlan.thaw(frozen)?;
        if let (1.., Some((machine, _))) = (lost, machines.first()) {
            let number = vlan.number();
            machine.log(&format!("{lost} frames on VLAN {number} are for nobody"));
        }
    }
    still.runs = runs.iter().flatten().cloned().collect();
    drop(still);
    let pairs: Vec<_> = machines.iter().zip(&runs).collect();
    at_once(&pairs, |((machine, frozen), run)| match (frozen, run) {
        (Some(frozen), Some(run)) => machine.go_on(run, frozen, call),
        _ => Ok(()),
    })
    .map(drop)
}

/// Does something with all of them, each in a thread of its own; gives what came out, or the first error.
pub(super) fn at_once<I: Sync, T: Send>(
    items: &[I],
    each: impl Fn(&I) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    if let [item] = items {
        return each(item).map(|done| vec![done]);
    }
    let each = &each;
    std::thread::scope(|scope| {
        let begin = |item| {
            std::thread::Builder::new()
                .spawn_scoped(scope, move || each(item))
                .map_err(Error::host("cannot start a thread"))
        };
        let threads: Vec<_> = items.iter().map(begin).collect();
        let panicked = |_| Err(Error::Machine("a thread panicked".to_owned()));
        let finish = |thread: Result<std::thread::ScopedJoinHandle<'_, _>, Error>| {
            thread.and_then(|thread| thread.join().unwrap_or_else(panicked))
        };
        // All are waited for, whatever came of the first.
        let done: Vec<Result<T, Error>> = threads.into_iter().map(finish).collect();
        done.into_iter().collect()
    })
}
