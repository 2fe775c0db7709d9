//! Who looks on at the frames that pass: captures and watches.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::capture::Capture;
use super::watch::Eye;
use crate::report::DropCause;
use crate::state::PortId;
use crate::state::rules::End;
use crate::wire::filter::Filter;
use crate::wire::pcapng::Direction;

/// Captures and watches of a switch at a time at most.
pub(super) const OBSERVERS_MAX: usize = 16;

/// Which frames are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The ports of which every frame is meant, in both directions. `None`: of all ports, but only as they come in, so
    /// that each frame is there once. A capture has a frame that is lost once more, with a comment.
    pub ports: Option<Vec<End>>,
    /// The frames that are meant; `None`: all.
    pub filter: Option<Filter>,
}

/// The switch's end of a capture or a watch.
#[derive(Debug)]
pub(super) struct Observer {
    selection: Selection,
    /// By place of their ports.
    interfaces: Vec<Option<Interface>>,
    interface_count: u32,
    batch_time: Duration,
    pub(super) sink: Sink,
}

/// Where the frames go.
#[derive(Debug)]
pub(super) enum Sink {
    Capture(Capture),
    Watch(Eye),
}

/// A port of the switch.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) port: PortId,
    /// Its number in a file, if it is one of those that are looked at.
    pub(super) number: Option<u32>,
    pub(super) name: Arc<str>,
}

impl Selection {
    fn means(&self, frame: &[u8]) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.matches(frame))
    }
}

impl Observer {
    pub(super) fn new(selection: Selection, sink: Sink) -> Observer {
        Observer {
            selection,
            interfaces: Vec::new(),
            interface_count: 0,
            batch_time: Duration::ZERO,
            sink,
        }
    }

    pub(super) fn capture(&self) -> Option<&Capture> {
        match &self.sink {
            Sink::Capture(capture) => Some(capture),
            Sink::Watch(_) => None,
        }
    }

    /// Looks at a port from now on, if it is one of those that are meant.
    pub(super) fn add_port(&mut self, id: PortId, name: &str) {
        let ports = self.selection.ports.as_ref();
        let is_meant = ports.is_none_or(|ports| ports.iter().any(|end| end.is(id, name)));
        let place = usize::from(id.number());
        if self.interfaces.len() <= place {
            self.interfaces.resize(place + 1, None);
        }
        self.interfaces[place] = Some(Interface {
            port: id,
            number: is_meant.then_some(self.interface_count),
            name: name.into(),
        });
        if is_meant {
            self.interface_count += 1;
            if let Sink::Capture(capture) = &mut self.sink {
                capture.add_interface(name);
            }
        }
    }

    /// Takes the time for the frames that follow: those of one batch came in together.
    pub(super) fn begin_batch(&mut self, now: SystemTime) {
        self.batch_time = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
    }

    /// Tells whether it looks at frames that go out.
    pub(super) fn has_both_directions(&self) -> bool {
        self.selection.ports.is_some()
    }

    /// Takes a frame that passes a port.
    pub(super) fn record(&mut self, id: PortId, direction: Direction, frame: &[u8]) {
        let Some(interface) = interface_of(&self.interfaces, id) else {
            return;
        };
        let Some(number) = interface.number else {
            return;
        };
        let (is_meant, time) = (self.selection.means(frame), self.batch_time);
        match &mut self.sink {
            Sink::Capture(capture) if is_meant => {
                capture.write(number, direction, time, frame, "");
            }
            Sink::Capture(_) => {}
            Sink::Watch(eye) => eye.see(is_meant, interface, direction, time, frame),
        }
    }

    /// Takes a frame that is lost on its way from a port to another, as far as it is known which they are.
    pub(super) fn record_drop(
        &mut self,
        cause: DropCause,
        from: Option<PortId>,
        to: Option<PortId>,
        frame: &[u8],
    ) {
        let Sink::Capture(capture) = &mut self.sink else {
            return;
        };
        let interface = |id| interface_of(&self.interfaces, id);
        let number = |id| interface(id).and_then(|interface| interface.number);
        // Where it should have gone out, or else where it came in.
        let out = to.and_then(number).map(|number| (number, Direction::Out));
        let place = out.or_else(|| Some((from.and_then(number)?, Direction::In)));
        let Some((number, direction)) = place.filter(|_| self.selection.means(frame)) else {
            return;
        };
        let name = |id| interface(id).map_or("a port that is gone", |interface| &*interface.name);
        let mut comment = format!("dropped: {cause}");
        for (way, port) in [(" from ", from), (" to ", to)] {
            if let Some(port) = port {
                comment.push_str(way);
                comment.push_str(name(port));
            }
        }
        capture.write(number, direction, self.batch_time, frame, &comment);
    }

    /// Ends a round of the switch's thread. False when nobody is interested any more.
    pub(super) fn end_round(&mut self) -> bool {
        match &mut self.sink {
            Sink::Capture(capture) => {
                capture.flush();
                true
            }
            Sink::Watch(eye) => !eye.is_alone(),
        }
    }
}

fn interface_of(interfaces: &[Option<Interface>], id: PortId) -> Option<&Interface> {
    let interface = interfaces.get(usize::from(id.number()))?.as_ref();
    interface.filter(|interface| interface.port == id)
}
