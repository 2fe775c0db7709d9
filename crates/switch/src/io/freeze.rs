//! A switch at one instant: all that it holds, to go on from there later, with other connections.
//!
//! Ports are told by their names: whoever holds the state of a switch and connects again under the same names goes on from it.

#[cfg(feature = "vhost-user")]
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::engine::Engine;
#[cfg(feature = "vhost-user")]
use super::engine::Listener;
use super::fabric::{Fabric, port_in, settle};
use super::port::{Port, Transport};
use super::ruled::{ends_of, link_between, link_from, link_to};
use super::token::Token;
use super::{Error, Switch};
use crate::state::PortId;
use crate::state::delay::Hop;
use crate::state::frozen::{Frozen, Heard, Link, Queued, UnderWay};
use crate::sys::RecvBatch;
use crate::wire::stream::{self, PREFIX_LEN};

/// How often the switch reads all streams before it takes it that their peers do not stand still.
const ROUNDS_MAX: usize = 1024;

impl Switch {
    /// Has the switch stand still: it reads and sends no frame until [`Switch::resume`]. What is asked of it is still done, and guests
    /// that share their memory may come, stop and go.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn pause(&self) -> Result<(), Error> {
        self.call(|engine| engine.set_paused(true))
    }

    /// Has the switch go on.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn resume(&self) -> Result<(), Error> {
        self.call(|engine| engine.set_paused(false))
    }

    /// Gives all that a paused switch holds, together with what is in its streams: their peers must not send meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn freeze(&self) -> Result<Frozen, Error> {
        self.call(|engine| engine.freeze())
    }

    /// Takes off a paused switch all ports of streams and of guests that share their memory, and forgets all frames and stations.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn reset(&self) -> Result<(), Error> {
        self.call(|engine| engine.fabric.reset())
    }

    /// Has a paused switch go on from where another, or it, was: takes the connections that wait, and gives the ports of the same
    /// names what they had. Gives how many frames have no port to go to; they are lost.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn thaw(&self, frozen: &Frozen) -> Result<usize, Error> {
        let frozen = frozen.clone();
        self.call(|engine| {
            engine.accept_all();
            engine.fabric.thaw(Instant::now(), frozen)
        })
    }
}

impl Engine {
    fn set_paused(&mut self, is_paused: bool) {
        if !is_paused {
            // Guests that were told to run are to run, or they would lose what waits for them.
            for token in self
                .controls()
                .into_iter()
                .map(|(token, _)| token)
                .collect::<Vec<_>>()
            {
                self.handle_control_of(token);
            }
        }
        self.is_paused = is_paused;
        self.fabric.hold(is_paused);
        #[cfg(feature = "vhost-user")]
        if !is_paused {
            self.fabric.look_at_guests(Instant::now());
        }
    }

    /// Waits for jobs, and does nothing else but answer those who wait for that: QEMU does, when a guest that shares its memory
    /// starts or stops.
    pub(super) fn stand_still(&mut self) {
        let mut tokens = Vec::new();
        let mut polled = vec![PollFd::new(&self.wake, PollFlags::IN)];
        for (token, socket) in self.controls() {
            tokens.push(token);
            polled.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        let _ = poll(&mut polled, None);
        let ready = polled.iter().skip(1).map(|one| !one.revents().is_empty());
        let ready: Vec<_> = ready.collect();
        for (token, _) in tokens.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.handle_control_of(token);
        }
        self.fabric.hold(true);
        self.handle_jobs();
    }

    /// What those wait at who need an answer even while the switch stands still.
    fn controls(&self) -> Vec<(Token, BorrowedFd<'_>)> {
        #[cfg(feature = "vhost-user")]
        {
            let mut controls = self.fabric.guests();
            for (number, listener) in (0..).zip(&self.listeners) {
                if let Listener::VhostUser { socket, .. } = listener {
                    controls.push((Token::Listener(number), socket.as_fd()));
                }
            }
            controls
        }
        #[cfg(not(feature = "vhost-user"))]
        Vec::new()
    }

    /// Answers one of them.
    fn handle_control_of(&mut self, token: Token) {
        match token {
            Token::Listener(number) => {
                self.handle_connection(number);
            }
            #[cfg(feature = "vhost-user")]
            Token::Guest(id, number) => self.fabric.handle_guest(Instant::now(), id, number),
            _ => {}
        }
    }

    fn freeze(&mut self) -> Frozen {
        let now = Instant::now();
        let mut batch = RecvBatch::new();
        let streams = self.fabric.streams();
        for _ in 0..ROUNDS_MAX {
            let before = self.fabric.frames_in();
            for id in &streams {
                self.fabric.handle_readable(now, *id, &mut batch);
            }
            if self.fabric.frames_in() == before {
                break;
            }
        }
        self.fabric.freeze(now)
    }
}

impl Fabric {
    fn streams(&mut self) -> Vec<PortId> {
        self.ids(|port| matches!(port.transport, Transport::Stream(_)))
    }

    fn ids(&mut self, is_meant: impl Fn(&Port) -> bool) -> Vec<PortId> {
        let ports = self.ports_mut().filter(|port| is_meant(port));
        ports.map(|port| port.id).collect()
    }

    fn frames_in(&self) -> u64 {
        self.totals().counters.frames_in
    }

    /// Has frames for streams wait in their queues, or go out again.
    fn hold(&mut self, is_held: bool) {
        for port in self.ports_mut() {
            port.is_held = is_held;
        }
    }

    fn reset(&mut self) {
        for id in self.ids(|port| header_len(port).is_some()) {
            self.close(id);
        }
        self.ruled.delayed.clear();
        self.stations.clear();
    }

    fn name_of(&self, id: PortId) -> Option<String> {
        let mut ports = self.slots.iter().filter_map(|slot| slot.port.as_ref());
        let port = ports.find(|port| port.id == id)?;
        Some(port.name.clone())
    }

    /// The port of that name; the last one, if there are several.
    fn port_named(&self, name: &str) -> Option<PortId> {
        let ports = self.slots.iter().filter_map(|slot| slot.port.as_ref());
        ports
            .filter(|port| port.name == name)
            .map(|port| port.id)
            .next_back()
    }

    fn freeze(&mut self, now: Instant) -> Frozen {
        let stations = self.stations.known(now).into_iter().filter_map(|station| {
            Some(Heard {
                port: self.name_of(station.port)?,
                segment: station.segment,
                address: station.address,
                silent_for: station.silent_for,
            })
        });
        let stations = stations.collect();
        let mut queued = Vec::new();
        for port in self.slots.iter().filter_map(|slot| slot.port.as_ref()) {
            let Some(header_len) = header_len(port) else {
                continue;
            };
            for bytes in port.queue.whole_frames().map(|pieces| pieces.concat()) {
                let Some((front, frame)) = bytes.split_at_checked(header_len) else {
                    continue;
                };
                let is_prefix = matches!(port.transport, Transport::Stream(_));
                queued.push(Queued {
                    port: port.name.clone(),
                    header: if is_prefix {
                        Vec::new()
                    } else {
                        front.to_vec()
                    },
                    frame: frame.to_vec(),
                });
            }
        }
        let names = |link: u64| ends_of(link).map(|end| end.and_then(|id| self.name_of(id)));
        let under_way = self
            .ruled
            .delayed
            .waiting()
            .filter_map(|(due, hop, frame)| {
                Some(UnderWay {
                    left: due.saturating_duration_since(now),
                    stage: hop.stage,
                    ingress: self.name_of(hop.ingress)?,
                    egress: self.name_of(hop.egress)?,
                    segment: hop.segment,
                    link: names(hop.link),
                    frame: frame.to_vec(),
                })
            });
        let under_way = under_way.collect();
        let links = self.ruled.links.iter();
        let links = links.map(|(link, ruled)| (names(*link), ruled.impairer.progress(now)));
        Frozen {
            stations,
            queued,
            under_way,
            links: links.collect(),
            rules: self.ruled.rules.clone(),
        }
    }

    fn link_of(&self, ends: &Link) -> u64 {
        let [from, to] = ends
            .each_ref()
            .map(|end| end.as_ref().and_then(|name| self.port_named(name)));
        match (from, to) {
            (Some(from), Some(to)) => link_between(from, to),
            (Some(from), None) => link_from(from),
            (None, Some(to)) => link_to(to),
            (None, None) => 0,
        }
    }

    fn thaw(&mut self, now: Instant, frozen: Frozen) -> usize {
        self.hold(true);
        self.ruled.rules = frozen.rules;
        self.ruled.links.clear();
        self.apply_rules(now);
        for (ends, progress) in frozen.links {
            let link = self.link_of(&ends);
            if let Some(ruled) = self.ruled.links.get_mut(&link) {
                ruled.impairer.go_on(now, &progress);
            }
        }
        for heard in frozen.stations {
            if let Some(port) = self.port_named(&heard.port) {
                let then = now.checked_sub(heard.silent_for).unwrap_or(now);
                self.stations
                    .hear_in(then, port, heard.segment, heard.address);
            }
        }
        let mut lost = 0;
        for frame in frozen.queued {
            lost += usize::from(!self.queue_again(&frame));
        }
        for frame in frozen.under_way {
            lost += usize::from(!self.send_again(now, &frame));
        }
        lost
    }

    fn queue_again(&mut self, queued: &Queued) -> bool {
        let Some(id) = self.port_named(&queued.port) else {
            return false;
        };
        let epoll = &self.epoll;
        let Some(port) = port_in(&mut self.slots, id) else {
            return false;
        };
        let frame = &queued.frame;
        let prefix = stream::prefix(frame.len());
        let header = match port.transport {
            Transport::Stream(_) if queued.header.is_empty() => &prefix,
            _ if header_len(port) == Some(queued.header.len()) => &queued.header[..],
            _ => return false, // Another kind of port has its name now.
        };
        let is_queued = port.queue.push([header, frame], frame.len());
        settle(epoll, port);
        is_queued
    }

    fn send_again(&mut self, now: Instant, frame: &UnderWay) -> bool {
        let (Some(ingress), Some(egress)) = (
            self.port_named(&frame.ingress),
            self.port_named(&frame.egress),
        ) else {
            return false;
        };
        let hop = Hop {
            stage: frame.stage,
            ingress,
            egress,
            segment: frame.segment,
            link: self.link_of(&frame.link),
        };
        let Some(buffer) = self.ruled.delayed.buffer([&frame.frame, &[], &[]]) else {
            return false;
        };
        self.ruled.delayed.push(now + frame.left, hop, buffer);
        if let Some(ruled) = self.ruled.links.get_mut(&hop.link) {
            ruled.impairer.handle_returned(frame.frame.len());
        }
        true
    }
}

/// Bytes in front of a frame that waits for a machine's port; `None` for other ports, whose peers do not go back.
fn header_len(port: &Port) -> Option<usize> {
    match port.transport {
        Transport::Stream(_) => Some(PREFIX_LEN),
        #[cfg(feature = "vhost-user")]
        Transport::Guest(_) => Some(crate::wire::vnet::HEADER_LEN),
        _ => None,
    }
}
