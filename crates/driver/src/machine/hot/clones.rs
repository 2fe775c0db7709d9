//! Clones: machines that are alike but for names and addresses. One boots as what they all are clones of, and is saved; all of them begin
//! from that snapshot, and are told who they are.
//!
//! Invariant: a snapshot of clones holds no clone's name or address, and its key neither.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hotbed_console::agent::wire::System;
use hotbed_image::{Identity, Interface};

use super::{KIND, Plan, deadline};
use crate::call::now;
use crate::config::{names, network};
use crate::machine::Machine;
use crate::machine::boot::ImageStart;
use crate::machine::run::Run;
use crate::turn::Turns;
use crate::{Call, Error};

/// How long the agent of a clone may take to give it its name and addresses.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number that a machine has while it is nobody yet: those of machines begin at 1.
pub(crate) const NOBODY: u8 = 0;

/// What clones are before they are told who they are.
pub(crate) struct Template {
    /// The name and addresses that it boots with.
    pub(crate) identity: Identity,
    /// Where its initramfs is to be: its own is still needed, for a guest that reboots later.
    pub(crate) initrd: PathBuf,
    /// QEMU's arguments, for a boot from power-on.
    pub(crate) arguments: Vec<OsString>,
}

/// Which clone boots for all, by the key of their snapshot.
#[derive(Debug, Default)]
pub(crate) struct Clones {
    groups: Mutex<BTreeMap<String, Arc<Turns<Leader>>>>,
}

/// Who boots for a group of clones.
#[derive(Debug, Default)]
enum Leader {
    #[default]
    Nobody,
    Machine(Weak<Machine>),
    /// One did, and there is no snapshot all the same: each boots for itself.
    InVain,
}

/// What a clone does to start.
enum Turn {
    /// There is a snapshot.
    Restore,
    /// It boots for all.
    Lead,
    /// It boots for itself.
    Alone,
    /// Somebody boots for it.
    Wait(Arc<Machine>),
}

impl Clones {
    fn group(&self, key: &str) -> Arc<Turns<Leader>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(key.to_owned());
        Arc::clone(group.or_insert_with(|| Arc::new(Turns::new(Leader::Nobody))))
    }
}

impl Leader {
    /// What `machine` is to do, of whose group this is the leader.
    fn turn(&mut self, machine: &Weak<Machine>, has_snapshot: bool) -> Turn {
        if has_snapshot {
            return Turn::Restore;
        }
        let other = match self {
            Self::InVain => return Turn::Alone,
            Self::Nobody => None,
            Self::Machine(leader) if leader.ptr_eq(machine) => None,
            Self::Machine(leader) => leader.upgrade(),
        };
        match other {
            Some(leader) if leader.hot.is_over() => {
                *self = Self::InVain;
                Turn::Alone
            }
            Some(leader) => Turn::Wait(leader),
            None => {
                *self = Self::Machine(machine.clone());
                Turn::Lead
            }
        }
    }
}

impl Machine {
    /// Starts a clone: from the snapshot of its group, or as the one that becomes it. `None` when there is no snapshot, and it does not
    /// become one.
    pub(super) fn start_clone(
        &self,
        plan: &mut Option<Plan>,
        start: &ImageStart<'_>,
        call: &Call<'_>,
    ) -> Result<Option<Run>, Error> {
        let Some(key) = plan.as_ref().map(|plan| plan.key.key.clone()) else {
            return Ok(None);
        };
        let group = self.site.clones.group(&key);
        let myself = self.hot.myself.get().cloned().unwrap_or_default();
        let doing = || format!("starting {}", self.name());
        loop {
            let mut leader = group.take(call, &doing)?;
            let Some(present) = plan.as_ref() else {
                return Ok(None);
            };
            let has_snapshot = present.cache.has(KIND, &key);
            match leader.turn(&myself, has_snapshot) {
                Turn::Restore => {
                    drop(leader);
                    if let Some(run) = self.restore_stored(present, call)? {
                        return Ok(Some(run));
                    }
                    // What is of no use is gone now, unless nobody may remove it.
                    if present.cache.has(KIND, &key) {
                        *plan = None;
                    }
                }
                // With the turn: who comes next sees that it boots.
                Turn::Lead => return self.start_cold(plan.take(), start, call).map(Some),
                Turn::Alone => {
                    self.why_cold("the clone that booted for all did not become one");
                    *plan = None;
                }
                Turn::Wait(leading) => {
                    drop(leader);
                    let slice = call.slice(&|| {
                        format!("{} waits for the boot of {}", self.name(), leading.name())
                    })?;
                    leading.hot.poll_over(slice);
                }
            }
        }
    }

    /// Tells a guest who it is.
    pub(crate) fn adopt(
        &self,
        run: &Run,
        identity: &Identity,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let failed = |why: String| {
            Error::Machine(format!(
                "{} cannot be given its name and addresses: {why}",
                self.name()
            ))
        };
        let patience = deadline(PATIENCE);
        let doing = || format!("{} is told who it is", self.name());
        let agent = loop {
            let slice = call.slice(&doing)?.min(patience);
            if let Some((agent, _)) = run.agent.poll_ready(slice) {
                break agent;
            }
            if !run.agent.is_open() || now() >= patience {
                return Err(failed(run.agent.why_not()));
            }
        };
        let waiting = agent.system(request(identity), &[]);
        let waiting = waiting.map_err(|error| failed(error.to_string()))?;
        loop {
            let slice = call.slice(&doing)?.min(patience);
            match waiting.poll(slice) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if now() >= patience => return Err(failed("no answer".to_owned())),
                Ok(None) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    /// The name and addresses of this machine, or those that it has as nobody.
    pub(crate) fn identity_as(&self, name: &str, number: u8) -> Identity {
        let interface = |(index, &vlan): (usize, &u8)| Interface {
            name: format!("eth{index}"),
            mac: network::mac(vlan, number),
            ipv4: (network::ipv4(vlan, number), 24),
            ipv6: (network::ipv6(vlan, number), 64),
        };
        Identity {
            hostname: names::host_name(name),
            interfaces: (1..).zip(&self.config.vlans).map(interface).collect(),
            hosts: match number {
                NOBODY => Vec::new(),
                _ => self.site.hosts.clone(),
            },
        }
    }
}

/// What the agent is asked for.
fn request(identity: &Identity) -> System {
    let interface = |interface: &Interface| {
        let ((ipv4, prefix4), (ipv6, prefix6)) = (interface.ipv4, interface.ipv6);
        let addresses = vec![format!("{ipv4}/{prefix4}"), format!("{ipv6}/{prefix6}")];
        (interface.name.clone(), interface.mac, addresses)
    };
    System::SetIdentity {
        hostname: identity.hostname.clone(),
        interfaces: identity.interfaces.iter().map(interface).collect(),
        hosts: identity.hosts_file(),
        machine_id: identity.machine_id(),
    }
}
