//! What was asked of ports and links, by name or by number, for those that are there and those that will come.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PortId;
use super::frozen::COUNTER_MAX;
use super::impair::Impairment;
use super::queue::Overflow;
use super::tags::Tags;
use crate::wire::{FRAME_MAX, HEADER_LEN};

/// Rules of one kind that a switch keeps at most.
pub const RULES_MAX: usize = 4096;

/// Links that are impaired at a time at most.
pub const LINKS_MAX: usize = 65_536;

/// Largest MTU that a port can be given: what is left of the longest frame.
pub const MTU_MAX: usize = FRAME_MAX - HEADER_LEN;

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// This port, for as long as it lives.
    Port(PortId),
    /// Every port of this name: also one that will come, as when a machine starts anew.
    Named(String),
}

/// Frames on their way through the switch, in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Way {
    /// All that come in by a port.
    From(End),
    /// All that go out to a port.
    To(End),
    /// All that come in by one port and go out to another.
    Between {
        /// The port that they come in by.
        from: End,
        /// The port that they go out to.
        to: End,
    },
    /// All that go out to any port that has no [`Way::To`] of its own. Each port is a link of its own.
    Every,
}

impl Way {
    /// Names the way between two ports by their names.
    pub fn between(from: &str, to: &str) -> Way {
        Way::Between {
            from: End::from(from),
            to: End::from(to),
        }
    }

    /// Gives the ports that it names.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &End> {
        let ends = match self {
            Way::From(end) | Way::To(end) => [Some(end), None],
            Way::Between { from, to } => [Some(from), Some(to)],
            Way::Every => [None, None],
        };
        ends.into_iter().flatten()
    }

    /// Names the opposite direction. That of [`Way::Every`] is itself.
    pub fn reversed(&self) -> Way {
        match self.clone() {
            Way::From(end) => Way::To(end),
            Way::To(end) => Way::From(end),
            Way::Between { from, to } => Way::Between { from: to, to: from },
            Way::Every => Way::Every,
        }
    }
}

impl From<&str> for End {
    fn from(name: &str) -> End {
        End::Named(name.to_owned())
    }
}

impl From<PortId> for End {
    fn from(id: PortId) -> End {
        End::Port(id)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Port(id) => write!(f, "port {id}"),
            End::Named(name) => write!(f, "`{name}`"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::From(end) => write!(f, "from {end}"),
            Way::To(end) => write!(f, "to {end}"),
            Way::Between { from, to } => write!(f, "from {from} to {to}"),
            Way::Every => write!(f, "to every port"),
        }
    }
}

/// What a port carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSettings {
    /// Most bytes of payload in a frame, in both directions: what is behind the Ethernet header and the tag.
    pub mtu: usize,
    /// What becomes of 802.1Q tags.
    pub tags: Tags,
    /// Which frames are lost when the port is slow and its queue is full.
    pub overflow: Overflow,
}

impl Default for PortSettings {
    fn default() -> PortSettings {
        PortSettings {
            mtu: MTU_MAX,
            tags: Tags::Transparent,
            overflow: Overflow::DropNewest,
        }
    }
}

/// All that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    impairments: Vec<Asked>,
    next_number: u64,
    groups: Option<Vec<Vec<End>>>,
    settings: Vec<(End, PortSettings)>,
}

/// An impairment that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Which frames it is about.
    pub way: Way,
    /// What becomes of them.
    pub impairment: Impairment,
    /// Tells it from one for the same way that was asked for before.
    pub number: u64,
}

/// There are [`RULES_MAX`] rules already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Rules {
    /// Tells whether nothing was asked for, so that all ports are alike.
    pub fn is_empty(&self) -> bool {
        self.impairments.is_empty() && self.groups.is_none() && self.settings.is_empty()
    }

    /// Tells whether the segments of frames must be looked at.
    pub fn are_tags_known(&self) -> bool {
        self.settings
            .iter()
            .any(|(_, settings)| settings.tags != Tags::Transparent)
    }

    /// Sets or ends the impairment of a way; gives the one that it had.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn impair(
        &mut self,
        way: Way,
        impairment: Option<Impairment>,
    ) -> Result<Option<Impairment>, TooMany> {
        let place = self.impairments.iter().position(|asked| asked.way == way);
        let Some(impairment) = impairment else {
            return Ok(place.map(|place| self.impairments.remove(place).impairment));
        };
        self.next_number += 1;
        let asked = Asked {
            way,
            impairment,
            number: self.next_number,
        };
        match place {
            Some(place) => {
                let before = std::mem::replace(&mut self.impairments[place], asked);
                Ok(Some(before.impairment))
            }
            None if self.impairments.len() >= RULES_MAX => Err(TooMany),
            None => {
                self.impairments.push(asked);
                Ok(None)
            }
        }
    }

    /// Ends all impairments.
    pub fn clear_impairments(&mut self) {
        self.impairments.clear();
    }

    /// Gives all impairments, in the order in which they were asked for first.
    pub fn impairments(&self) -> &[Asked] {
        &self.impairments
    }

    /// Parts the ports into groups, or joins them again; gives the groups that were.
    pub fn partition(&mut self, groups: Option<Vec<Vec<End>>>) -> Option<Vec<Vec<End>>> {
        std::mem::replace(&mut self.groups, groups)
    }

    /// Tells whether the ports are parted.
    pub fn is_partitioned(&self) -> bool {
        self.groups.is_some()
    }

    /// Sets what a port carries, or makes it as any other again.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn set_port(&mut self, end: End, settings: Option<PortSettings>) -> Result<(), TooMany> {
        self.settings.retain(|(other, _)| *other != end);
        if let Some(settings) = settings {
            if self.settings.len() >= RULES_MAX {
                return Err(TooMany);
            }
            self.settings.push((end, settings));
        }
        Ok(())
    }

    /// Forgets what is about a port that is gone, and about nothing else.
    pub fn handle_port_gone(&mut self, id: PortId) {
        let gone = End::Port(id);
        self.settings.retain(|(end, _)| *end != gone);
        self.impairments
            .retain(|asked| asked.way.ends().all(|end| *end != gone));
    }

    /// Forgets what names ports by their numbers.
    pub(crate) fn forget_numbered(&mut self) {
        let is_named = |end: &End| matches!(end, End::Named(_));
        self.settings.retain(|(end, _)| is_named(end));
        self.impairments
            .retain(|asked| asked.way.ends().all(is_named));
        for group in self.groups.iter_mut().flatten() {
            group.retain(is_named);
        }
    }

    /// Tells whether they could have been asked for, one after the other.
    pub(crate) fn is_sound(&self) -> bool {
        let ends: usize = self.groups.iter().flatten().map(Vec::len).sum();
        let mut impairments = self.impairments.iter();
        let mut settings = self.settings.iter();
        [ends, impairments.len(), settings.len()]
            .iter()
            .all(|count| *count <= RULES_MAX)
            && self.next_number <= COUNTER_MAX
            && impairments.all(|asked| asked.impairment.check().is_ok())
            && settings.all(|(_, settings)| settings.tags.check().is_ok())
    }

    /// Gives the group of a port: 0 if it was not named, or there is no partition.
    pub fn group_of(&self, id: PortId, name: &str) -> u32 {
        let groups = self.groups.iter().flatten();
        let named = groups
            .zip(1..)
            .find(|(group, _)| group.iter().any(|end| end.is(id, name)));
        named.map_or(0, |(_, number)| number)
    }

    /// Gives what a port carries: what was said about it by number, else by name, else the default.
    pub fn settings_of(&self, id: PortId, name: &str) -> PortSettings {
        let find = |wanted: &End| {
            let mut settings = self.settings.iter();
            settings.find_map(|(end, settings)| (end == wanted).then(|| settings.clone()))
        };
        find(&End::Port(id))
            .or_else(|| find(&End::from(name)))
            .unwrap_or_default()
    }
}

impl End {
    /// Tells whether the port is meant.
    pub fn is(&self, id: PortId, name: &str) -> bool {
        match self {
            End::Port(wanted) => *wanted == id,
            End::Named(wanted) => wanted == name,
        }
    }
}

#[cfg(test)]
mod tests;
