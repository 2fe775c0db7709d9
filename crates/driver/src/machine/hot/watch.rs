//! Waits for machines that are to be saved, so that each is saved when it has just come up and nobody has used it yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::deadline;
use crate::call::now;
use crate::machine::Machine;
use crate::{Call, Error, Interrupt};

/// How long a test waits for other machines to be saved, once the one that it needs is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thread that waits for a machine to come up. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Ends the waiting when the machine is not to be saved any more.
struct Watching {
    stop: Arc<AtomicBool>,
    machine: Arc<Machine>,
}

impl Interrupt for Watching {
    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.machine.hot.is_over()
    }
}

impl Machine {
    /// Waits for the machine in a thread of its own, which saves it.
    pub(super) fn watch(&self) {
        let Some(machine) = self.hot.myself.get().and_then(Weak::upgrade) else {
            return; // Whoever connects saves it.
        };
        self.site.others.join(&machine);
        let stop = Arc::new(AtomicBool::new(false));
        let watching = Watching {
            stop: Arc::clone(&stop),
            machine,
        };
        let thread = std::thread::Builder::new().name(format!("hot-{}", self.name()));
        let thread = thread.spawn(move || {
            let call = Call {
                until: None,
                interrupt: &watching,
            };
            // What goes wrong is told to the one who connects.
            let _ = watching.machine.come_up(now(), &call);
            watching.machine.hot.drop_plan();
        });
        let watcher = thread.ok().map(|thread| Watcher {
            stop,
            thread: Some(thread),
        });
        let mut place = self
            .hot
            .watcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, watcher);
        drop(place);
        drop(before);
    }

    /// Waits until no other machine is about to be saved: what a test does with this one might leave a trace in the other.
    pub(crate) fn wait_for_others(&self, call: &Call<'_>) -> Result<(), Error> {
        let patience = deadline(PATIENCE);
        for other in self.site.others.members() {
            while self.meets(&other) && other.present_run().is_some() {
                let slice = call.slice(&|| format!("{} boots", other.name()))?;
                if other.hot.poll_over(slice.min(patience)) {
                    break;
                }
                if now() >= patience {
                    self.log(&format!("does not wait any longer for {}", other.name()));
                    self.site.others.disturbed.store(true, Ordering::Release);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether there is a way between this machine and another one.
    fn meets(&self, other: &Machine) -> bool {
        let mut vlans = self.config.vlans.iter();
        other.name() != self.name() && vlans.any(|vlan| other.config.vlans.contains(vlan))
    }
}

/// The machines of a testbed that are to be saved.
#[derive(Debug, Default)]
pub(crate) struct Others {
    members: Mutex<Vec<Weak<Machine>>>,
    disturbed: AtomicBool,
    has_script: AtomicBool,
}

impl Others {
    fn join(&self, machine: &Arc<Machine>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.upgrade().is_some_and(|member| !member.hot.is_over()));
        members.push(Arc::downgrade(machine));
    }

    fn members(&self) -> Vec<Arc<Machine>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether this is the first time that it is asked.
    pub(super) fn is_first_script(&self) -> bool {
        !self.has_script.swap(true, Ordering::AcqRel)
    }

    /// Whether a test has begun though machines were still to be saved.
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Acquire)
    }
}
