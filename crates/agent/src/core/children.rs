//! Processes that end, and what they leave.
//!
//! What the process of a command without a group leaves when it ends becomes our child (we are a subreaper). It belongs to the command
//! as long as that has not ended.

use super::{Core, Operation};
use crate::job::Place;
use crate::job::spawn::Own;
use crate::tree;
use hotbed_console::agent::wire::{Exit, Id};
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid};
use std::collections::{BTreeSet, HashSet};

impl Core {
    /// Takes note of processes that have ended.
    pub(super) fn reap(&mut self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.children, &mut bytes).is_ok_and(|len| len > 0) {}
        // Those that may have left something to us.
        let mut owners = BTreeSet::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            owners.extend(self.handle_exit(pid, status));
            self.strays.remove(&pid);
        }
        if !owners.is_empty() {
            self.adopt(&owners);
        }
    }

    /// Takes note of one; gives the command that it belonged to, if that has no group.
    fn handle_exit(&mut self, pid: Pid, status: WaitStatus) -> Option<Id> {
        for (id, operation) in &mut self.operations {
            let Operation::Job(job) = operation else {
                continue;
            };
            let Place::Own(own) = &mut job.place else {
                continue;
            };
            if own.pid == pid && !own.has_ended {
                own.has_ended = true;
                job.exit.get_or_insert(exit(status));
                self.touched.insert(*id);
                return own.group.is_none().then_some(*id);
            }
            if let Some(at) = own.orphans.iter().position(|orphan| *orphan == pid) {
                own.orphans.swap_remove(at);
                return Some(*id);
            }
        }
        let mut all = self.detached.iter();
        if let Some(at) = all.position(|detached| detached.pid == pid) {
            let detached = self.detached.swap_remove(at);
            self.groups.release(detached.group);
        }
        None
    }

    /// Finds the children that we did not start, and gives each to the command that has left it: one of these.
    fn adopt(&mut self, owners: &BTreeSet<Id>) {
        let started: HashSet<Pid> = self.started().collect();
        for child in tree::children(getpid()) {
            if started.contains(&child) || self.strays.contains(&child) {
                continue;
            }
            let session = tree::session(child);
            let owner = owners.iter().find(|id| {
                self.own(**id)
                    .is_some_and(|own| owners.len() == 1 || Some(own.pid) == session)
            });
            match owner.copied().and_then(|id| self.own(id)) {
                Some(own) => own.orphans.push(child),
                // It is left alone rather than killed with another's.
                None => {
                    self.strays.insert(child);
                }
            }
        }
    }

    fn own(&mut self, id: Id) -> Option<&mut Own> {
        match self.operations.get_mut(&id) {
            Some(Operation::Job(job)) => match &mut job.place {
                Place::Own(own) => Some(own),
                _ => None,
            },
            _ => None,
        }
    }

    /// The children that we have started, and those that we have taken in for a command.
    fn started(&self) -> impl Iterator<Item = Pid> {
        let operations = self.operations.values().flat_map(|operation| {
            let (own, helper) = match operation {
                Operation::Job(job) => match &job.place {
                    Place::Own(own) => (Some(own), None),
                    _ => (None, None),
                },
                Operation::Wait(watching) => (None, watching.child()),
                Operation::Put(_) | Operation::Get(_) => (None, None),
            };
            let orphans = own.into_iter().flat_map(|own| own.orphans.iter().copied());
            own.map(|own| own.pid)
                .into_iter()
                .chain(helper)
                .chain(orphans)
        });
        let shells = self.shells.iter().flatten().map(|shell| shell.shell);
        let detached = self.detached.iter().map(|detached| detached.pid);
        operations.chain(shells).chain(detached)
    }
}

fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        (None, Some(signal)) => Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)),
        (None, None) => Exit::Code(u8::MAX),
    }
}
