//! What happens to frames on purpose, and what is seen of them.

use std::path::Path;
use std::sync::PoisonError;

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::{
    CaptureSummary, End, Impairment, LinkInfo, MacAddr, Selection, StationInfo, Switch, Way,
};

use super::Vlan;
use crate::config::{MachineKind, network};
use crate::{Error, Machine};

/// What was asked of a VLAN.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    impairments: Vec<(Way, Impairment)>,
}

impl Asked {
    /// What was asked of a switch that was saved.
    pub(super) fn of(frozen: &hotbed_switch::Frozen) -> Self {
        let impairments = frozen.impairments();
        let owned = |(way, impairment): (&Way, &Impairment)| (way.clone(), impairment.clone());
        Self {
            impairments: impairments.map(owned).collect(),
        }
    }
}

/// What held before something was changed; [`Vlan::undo`] makes it hold again.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// Ways, and how they were impaired.
    ways: Vec<(Way, Option<Impairment>)>,
    /// The groups of the partition, if that was changed.
    groups: Option<Option<Vec<Vec<End>>>>,
}

/// Which frames are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frames {
    /// All on the VLAN.
    All,
    /// Those from one port to another, and those back.
    Between(End, End),
    /// Those that a port sends: to another one, or to all.
    From(End, Option<End>),
    /// Those that a port receives.
    To(End),
}

impl Frames {
    fn ways(self) -> Vec<Way> {
        match self {
            Self::All => vec![Way::Every],
            Self::Between(from, to) => {
                let way = Way::Between { from, to };
                vec![way.reversed(), way]
            }
            Self::From(from, Some(to)) => vec![Way::Between { from, to }],
            Self::From(from, None) => vec![Way::From(from)],
            Self::To(to) => vec![Way::To(to)],
        }
    }
}

impl Vlan {
    /// The port of a machine. That of a start script is known once the machine has sent something.
    ///
    /// # Errors
    ///
    /// When the machine is not on this VLAN, as far as is known.
    pub fn end_of(&self, machine: &Machine) -> Result<End, Error> {
        let (name, number) = (machine.name(), self.number);
        match &machine.config().kind {
            MachineKind::Image(_) if machine.config().vlans.contains(&number) => {
                Ok(End::from(name))
            }
            MachineKind::Image(_) => {
                Err(Error::Argument(format!("{name} is not on VLAN {number}")))
            }
            MachineKind::StartScript(_) => {
                let address = MacAddr(network::mac(number, machine.config().number));
                let stations = self.stations()?;
                let station = stations.iter().find(|station| station.address == address);
                station
                    .map(|station| End::from(station.port))
                    .ok_or_else(|| {
                        Error::Argument(format!("{name} has sent nothing on VLAN {number} yet"))
                    })
            }
        }
    }

    /// Impairs frames; gives what held before.
    ///
    /// # Errors
    ///
    /// When the impairment cannot be, or the VLAN is stopped.
    pub fn impair(&self, frames: Frames, impairment: &Impairment) -> Result<Before, Error> {
        let ways = frames.ways().into_iter();
        let wanted = ways.map(|way| (way, Some(impairment.clone())));
        self.set_ways(wanted.collect())
    }

    /// Parts the machines: no frame goes from one group to another. Who is in no group is in one more. Gives what held before.
    ///
    /// # Errors
    ///
    /// When there are too many, or the VLAN is stopped.
    pub fn partition(&self, groups: &[Vec<End>]) -> Result<Before, Error> {
        let before = self.with_switch(|switch| switch.partition(groups))?;
        Ok(Before {
            ways: Vec::new(),
            groups: Some(before),
        })
    }

    /// Ends a partition and all impairments; gives what held before.
    ///
    /// # Errors
    ///
    /// When the VLAN is stopped.
    pub fn heal(&self) -> Result<Before, Error> {
        let impaired = self.asked().impairments.clone();
        let ways = impaired.into_iter().map(|(way, _)| (way, None));
        let before = self.set_ways(ways.collect())?;
        Ok(Before {
            groups: Some(self.with_switch(Switch::heal)?),
            ..before
        })
    }

    /// Makes hold what held before something was changed.
    ///
    /// # Errors
    ///
    /// When the VLAN is stopped.
    pub fn undo(&self, before: Before) -> Result<(), Error> {
        self.set_ways(before.ways)?;
        match before.groups {
            None => Ok(()),
            Some(None) => self.with_switch(Switch::heal).map(|_| ()),
            Some(Some(groups)) => self
                .with_switch(|switch| switch.partition(&groups))
                .map(|_| ()),
        }
    }

    /// Sets how ways are impaired; gives how they were, in the opposite order.
    fn set_ways(&self, wanted: Vec<(Way, Option<Impairment>)>) -> Result<Before, Error> {
        let mut before = Before::default();
        for (way, impairment) in wanted {
            let was = self.with_switch(|switch| match &impairment {
                Some(impairment) => switch.impair(&way, impairment),
                None => switch.unimpair(&way),
            });
            let was = was.inspect_err(|_| {
                // All or nothing; that it cannot be undone either is no news.
                let _ = self.undo(std::mem::take(&mut before));
            })?;
            let mut asked = self.asked();
            asked.impairments.retain(|(other, _)| *other != way);
            asked
                .impairments
                .extend(impairment.map(|impairment| (way.clone(), impairment)));
            before.ways.insert(0, (way, was));
        }
        Ok(before)
    }

    pub(super) fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stations that were heard of lately, with their ports.
    ///
    /// # Errors
    ///
    /// When the VLAN is stopped.
    pub fn stations(&self) -> Result<Vec<StationInfo>, Error> {
        self.with_switch(|switch| Ok(switch.stations()))
    }

    /// The links that are impaired, with what happened on them.
    ///
    /// # Errors
    ///
    /// When the VLAN is stopped.
    pub fn links(&self) -> Result<Vec<LinkInfo>, Error> {
        self.with_switch(|switch| Ok(switch.links()))
    }

    /// Writes frames from now on to a pcapng file: those of some ports, those that an expression means. Several captures may run.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, or the expression means nothing.
    pub fn start_capture_of(
        &self,
        path: &Path,
        ports: Option<Vec<End>>,
        filter: Option<&str>,
    ) -> Result<(), Error> {
        let selection = Selection {
            ports,
            filter: filter.map(self::filter).transpose()?,
        };
        self.with_switch(|switch| switch.start_capture_of(path, &selection))
    }

    /// Ends a capture that [`start_capture_of`](Self::start_capture_of) began; the file is whole then.
    ///
    /// # Errors
    ///
    /// When none runs, or the file could not be written.
    pub fn stop_capture_of(&self, path: &Path) -> Result<CaptureSummary, Error> {
        self.with_switch(|switch| switch.stop_capture_of(path))
    }
}

/// Reads an expression that says which frames are meant.
pub(super) fn filter(text: &str) -> Result<Filter, Error> {
    Filter::parse(text).map_err(|error| Error::Argument(format!("filter `{text}`: {error}")))
}
