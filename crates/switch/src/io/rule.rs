//! Rules as they are asked for, and what they come to for the ports that are there.

use std::collections::HashMap;
use std::time::Instant;

use super::Switch;
use super::engine::Engine;
use super::fabric::{Fabric, place_of};
use super::ruled::{Marks, RuledLink, ends_of, link_between, link_from, link_to};
use crate::error::Error;
use crate::report::LinkInfo;
use crate::state::PortId;
use crate::state::impair::Impairment;
use crate::state::impair::fate::Impairer;
use crate::state::random;
use crate::state::rules::{Asked, End, LINKS_MAX, PortSettings, RULES_MAX, Rules, Way};

/// What happens to frames on purpose.
impl Switch {
    /// Impairs the frames that go a way; gives the impairment that this way had before, if it had one.
    ///
    /// A link counts its frames from 0 again, and what is under way on it goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hotbed_switch::{Config, Impairment, Loss, Switch, Way};
    ///
    /// let switch = Switch::start(Config::default())?;
    /// let slow = Impairment { delay: Duration::from_millis(20), loss: Loss::Uniform(0.01), ..Impairment::default() };
    /// let to_server = Way::between("client", "server"); // Also if they come later, or come again.
    /// switch.impair(&to_server, &slow)?;
    /// switch.impair(&to_server.reversed(), &slow)?;
    /// # Ok::<(), hotbed_switch::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Impairment`] when it cannot be, [`Error::NoPort`] for an id of a port that is gone,
    /// [`Error::TooManyRules`].
    pub fn impair(&self, way: &Way, impairment: &Impairment) -> Result<Option<Impairment>, Error> {
        impairment.check().map_err(|source| Error::Impairment {
            way: way.to_string(),
            source,
        })?;
        let (way, impairment) = (way.clone(), impairment.clone());
        self.call(move |engine| {
            engine.check_ends(way.ends())?;
            let fabric = &mut engine.fabric;
            let before = fabric.ruled.rules.impair(way.clone(), Some(impairment));
            let before = before.map_err(|_| Error::TooManyRules(RULES_MAX))?;
            if fabric.count_links() > LINKS_MAX {
                // There was room for what was before.
                let _ = fabric.ruled.rules.impair(way, before);
                return Err(Error::TooManyRules(LINKS_MAX));
            }
            fabric.apply_rules(Instant::now());
            Ok(before)
        })?
    }

    /// Ends the impairment of a way, and gives it. What is under way on it arrives at once.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn unimpair(&self, way: &Way) -> Result<Option<Impairment>, Error> {
        let way = way.clone();
        self.call(move |engine| {
            let before = engine.fabric.ruled.rules.impair(way, None);
            engine.fabric.apply_rules(Instant::now());
            before.ok().flatten()
        })
    }

    /// Ends all impairments. What is under way arrives at once.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn unimpair_all(&self) -> Result<(), Error> {
        self.call(|engine| {
            engine.fabric.ruled.rules.clear_impairments();
            engine.fabric.apply_rules(Instant::now());
        })
    }

    /// Parts the ports: no frame goes from one group to another. Ports that are in no group are one more group.
    /// Gives the groups that were before, if there was a partition.
    ///
    /// A port that is in two groups belongs to the first. When this returns, nothing passes any more, but for what a
    /// slow port's socket or queue has already.
    ///
    /// # Errors
    ///
    /// [`Error::NoPort`] for an id of a port that is gone, [`Error::TooManyRules`].
    pub fn partition(&self, groups: &[Vec<End>]) -> Result<Option<Vec<Vec<End>>>, Error> {
        let groups = groups.to_vec();
        if groups.iter().map(Vec::len).sum::<usize>() > RULES_MAX {
            return Err(Error::TooManyRules(RULES_MAX));
        }
        self.call(move |engine| {
            engine.check_ends(groups.iter().flatten())?;
            let before = engine.fabric.ruled.rules.partition(Some(groups));
            engine.fabric.apply_rules(Instant::now());
            Ok(before)
        })?
    }

    /// Ends a partition; gives its groups.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn heal(&self) -> Result<Option<Vec<Vec<End>>>, Error> {
        self.call(|engine| {
            let before = engine.fabric.ruled.rules.partition(None);
            engine.fabric.apply_rules(Instant::now());
            before
        })
    }

    /// Says what a port carries: its MTU, what becomes of 802.1Q tags, and which frames are lost when it is slow. `None` makes it as any other again.
    ///
    /// # Errors
    ///
    /// [`Error::Segment`], [`Error::NoPort`] for an id of a port that is gone, [`Error::TooManyRules`].
    pub fn set_port(&self, end: &End, settings: Option<PortSettings>) -> Result<(), Error> {
        if let Some(settings) = &settings {
            settings.tags.check()?;
        }
        let end = end.clone();
        self.call(move |engine| {
            engine.check_ends([&end])?;
            let rules = &mut engine.fabric.ruled.rules;
            let set = rules.set_port(end, settings);
            set.map_err(|_| Error::TooManyRules(RULES_MAX))?;
            engine.fabric.apply_rules(Instant::now());
            Ok(())
        })?
    }

    /// Lists the links that are impaired now, with what happened on them.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.call(|engine| engine.fabric.links())
            .unwrap_or_default()
    }
}

impl Engine {
    fn check_ends<'a>(&mut self, ends: impl IntoIterator<Item = &'a End>) -> Result<(), Error> {
        for end in ends {
            match end {
                End::Port(id) if self.fabric.port_mut(*id).is_none() => {
                    return Err(Error::NoPort(*id));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Fabric {
    /// Works out what the rules say about each port and link. Links whose rule is the same go on as they were.
    pub(super) fn apply_rules(&mut self, now: Instant) {
        let ports: Vec<(PortId, &str)> = self.named_ports().collect();
        let rules = &self.ruled.rules;
        let wanted = wanted_links(rules, &ports);
        let knows_tags = rules.are_tags_known();
        let marks: Vec<_> = ports
            .iter()
            .map(|(id, name)| marks_for(rules, &wanted, knows_tags, *id, name))
            .collect();
        let overflow = |(id, name): &(PortId, &str)| (*id, rules.settings_of(*id, name).overflow);
        let overflows: Vec<_> = ports.iter().map(overflow).collect();
        let before = std::mem::take(&mut self.ruled.links);
        for (link, (asked, stream)) in &wanted {
            let old = before.get(link);
            // It was checked when it was asked for.
            if let Ok(mut impairer) = Impairer::new(&asked.impairment, *stream) {
                if let Some(old) = old {
                    impairer.take_over(&old.impairer)
                }
                let rule = asked.number;
                self.ruled.links.insert(*link, RuledLink { rule, impairer });
            }
        }
        for (link, old) in before {
            match self.ruled.links.get_mut(&link) {
                Some(new) if new.rule == old.rule => *new = old,
                _ => {}
            }
        }
        self.ruled.knows_tags = knows_tags;
        for ((id, overflow), marks) in overflows.into_iter().zip(marks) {
            let Some(slot) = self.slots.get_mut(place_of(id)) else {
                continue;
            };
            slot.marks = marks.map(Box::new);
            if let Some(port) = &mut slot.port {
                port.overflow = overflow;
            }
        }
        let links = &self.ruled.links;
        self.ruled
            .delayed
            .hurry(now, |link| !links.contains_key(&link));
    }

    /// Counts the links that the rules make.
    pub(super) fn count_links(&self) -> usize {
        let ports: Vec<(PortId, &str)> = self.named_ports().collect();
        wanted_links(&self.ruled.rules, &ports).len()
    }

    fn named_ports(&self) -> impl Iterator<Item = (PortId, &str)> {
        let ports = self.slots.iter().filter_map(|slot| slot.port.as_deref());
        ports.map(|port| (port.id, port.name.as_str()))
    }

    fn links(&self) -> Vec<LinkInfo> {
        let mut links: Vec<_> = self.ruled.links.iter().collect();
        links.sort_unstable_by_key(|(link, _)| **link);
        let info = |(link, ruled): (&u64, &RuledLink)| {
            let [from, to] = ends_of(*link);
            LinkInfo {
                from,
                to,
                counters: ruled.impairer.counters(),
            }
        };
        links.into_iter().map(info).collect()
    }
}

/// Gives the links that the rules impair, each with its rule and the number of its stream of draws.
fn wanted_links<'a>(rules: &'a Rules, ports: &[(PortId, &str)]) -> HashMap<u64, (&'a Asked, u64)> {
    let mut wanted = HashMap::new();
    let matching = |end: &'a End| ports.iter().filter(|(id, name)| end.is(*id, name));
    let asked_for = rules.impairments();
    // First what is about every port, so that what is about one comes over it.
    for asked in asked_for.iter().filter(|asked| asked.way == Way::Every) {
        for (id, name) in ports {
            wanted.insert(link_to(*id), (asked, stream("", name)));
        }
    }
    for asked in asked_for {
        match &asked.way {
            Way::Every => {}
            Way::From(end) => {
                for (id, name) in matching(end) {
                    wanted.insert(link_from(*id), (asked, stream(name, "")));
                }
            }
            Way::To(end) => {
                for (id, name) in matching(end) {
                    wanted.insert(link_to(*id), (asked, stream("", name)));
                }
            }
            Way::Between { from, to } => {
                for (from, from_name) in matching(from) {
                    for (to, to_name) in matching(to).filter(|(to, _)| to != from) {
                        let link = link_between(*from, *to);
                        wanted.insert(link, (asked, stream(from_name, to_name)));
                    }
                }
            }
        }
    }
    wanted
}

/// Gives a link's draws a number of their own: from the names of its ports, so that it is of no consequence in which
/// order they came.
fn stream(from: &str, to: &str) -> u64 {
    let from_end = from.bytes().chain([0]);
    random::fold(from_end.chain(to.bytes()))
}

/// Gives what the rules say about a port; `None` if that is nothing.
fn marks_for(
    rules: &Rules,
    wanted: &HashMap<u64, (&Asked, u64)>,
    knows_tags: bool,
    id: PortId,
    name: &str,
) -> Option<Marks> {
    let settings = rules.settings_of(id, name);
    let is_to = |end: &End| end.is(id, name);
    let between = rules.impairments().iter().any(|asked| match &asked.way {
        Way::Between { to, .. } => is_to(to),
        _ => false,
    });
    let default = PortSettings::default();
    let is_default = settings.mtu == default.mtu && settings.tags == default.tags;
    let marks = Marks {
        group: rules.group_of(id, name),
        from: wanted.contains_key(&link_from(id)),
        to: wanted.contains_key(&link_to(id)),
        between,
        settings,
    };
    let is_plain = !marks.from
        && !marks.to
        && !marks.between
        && !knows_tags
        && !rules.is_partitioned()
        && is_default;
    (!is_plain).then_some(marks)
}
