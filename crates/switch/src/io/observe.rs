//! Who looks on at the frames that pass: captures and watches.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::capture::Capture;
use super::watch::Eye;
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
    /// that each frame is there once.
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

/// A port that is looked at.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) port: PortId,
    /// Its number in a file.
    pub(super) number: u32,
    pub(super) name: Arc<str>,
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
        let ports = &self.selection.ports;
        if ports
            .as_ref()
            .is_some_and(|ports| !ports.iter().any(|end| end.is(id, name)))
        {
            return;
        }
        let place = usize::from(id.number());
        if self.interfaces.len() <= place {
            self.interfaces.resize(place + 1, None);
        }
        self.interfaces[place] = Some(Interface {
            port: id,
            number: self.interface_count,
            name: name.into(),
        });
        self.interface_count += 1;
        if let Sink::Capture(capture) = &mut self.sink {
            capture.add_interface(name);
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
        let place = usize::from(id.number());
        let interface = self.interfaces.get(place).and_then(Option::as_ref);
        let Some(interface) = interface.filter(|interface| interface.port == id) else {
            return;
        };
        let filter = self.selection.filter.as_ref();
        let is_meant = filter.is_none_or(|filter| filter.matches(frame));
        match &mut self.sink {
            Sink::Capture(capture) if is_meant => {
                capture.write(interface.number, direction, self.batch_time, frame);
            }
            Sink::Capture(_) => {}
            Sink::Watch(eye) => eye.see(is_meant, interface, direction, self.batch_time, frame),
        }
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
