//! Watches: the program sees frames as they pass.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Switch;
use super::observe::{Interface, Observer, Selection, Sink};
use crate::error::Error;
use crate::report::Sighting;
use crate::wire::pcapng::Direction;

/// Frames that wait to be polled at most; more are counted.
pub const SIGHTINGS_MAX: usize = 64;

/// The last frames that were not meant which are remembered at most.
pub const OTHERS_MAX: usize = 8;

/// Bytes that are remembered of a frame that was not meant at most.
const OTHER_BYTES_MAX: usize = 256;

/// Sees the frames that pass a switch from when it was made until it is dropped.
#[derive(Debug)]
pub struct Watch {
    switch: String,
    shared: Arc<Shared>,
}

/// The switch's end of a watch.
#[derive(Debug)]
pub(super) struct Eye(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    meant: VecDeque<Sighting>,
    /// Frames that were meant, but found [`SIGHTINGS_MAX`] of them waiting.
    missed: u64,
    /// The last frames that were not meant.
    others: VecDeque<Sighting>,
    other_count: u64,
    is_closed: bool,
}

impl Switch {
    /// Watches the frames that pass from now on.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use hotbed_switch::wire::filter::Filter;
    /// use hotbed_switch::{Config, Selection, Switch};
    ///
    /// let switch = Switch::start(Config::default())?;
    /// let probe = switch.add_local("probe")?;
    /// let filter = Some(Filter::parse("broadcast and not arp")?);
    /// let watch = switch.watch(&Selection { filter, ..Selection::default() })?;
    /// probe.send(&[&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], b"hello"].concat())?;
    /// let seen = watch.poll(Instant::now() + Duration::from_secs(10))?.expect("a frame, soon");
    /// assert_eq!(seen.to_string(), "from probe: 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff type 0x88b5, 19 bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TooManyRules`].
    pub fn watch(&self, selection: &Selection) -> Result<Watch, Error> {
        let shared = Arc::new(Shared::default());
        let eye = Sink::Watch(Eye(Arc::clone(&shared)));
        let observer = Observer::new(selection.clone(), eye);
        self.call(|engine| engine.add_observer(observer))??;
        Ok(Watch {
            switch: self.name().to_owned(),
            shared,
        })
    }
}

impl Watch {
    /// Gives the next frame that is meant; waits for it until `until`, and gives `None` if none came.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the switch is gone, and with it what could come.
    pub fn poll(&self, until: Instant) -> Result<Option<Sighting>, Error> {
        let mut state = self.shared.lock();
        loop {
            if let Some(sighting) = state.meant.pop_front() {
                return Ok(Some(sighting));
            }
            if state.is_closed {
                return Err(Error::Stopped(self.switch.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts the frames that were meant but are not kept, because [`SIGHTINGS_MAX`] were waiting.
    pub fn missed(&self) -> u64 {
        self.shared.lock().missed
    }

    /// Gives the last frames that were not meant, the first bytes of each, and how many there were in all.
    pub fn others(&self) -> (Vec<Sighting>, u64) {
        let state = self.shared.lock();
        (state.others.iter().cloned().collect(), state.other_count)
    }
}

impl Eye {
    /// Takes a frame.
    pub(super) fn see(
        &self,
        is_meant: bool,
        interface: &Interface,
        direction: Direction,
        since_1970: Duration,
        frame: &[u8],
    ) {
        let mut state = self.0.lock();
        let state = &mut *state;
        let mut spare = None;
        let kept = if is_meant {
            if state.meant.len() >= SIGHTINGS_MAX {
                state.missed += 1;
                return;
            }
            frame
        } else {
            state.other_count += 1;
            if state.others.len() >= OTHERS_MAX {
                spare = state.others.pop_front();
            }
            &frame[..frame.len().min(OTHER_BYTES_MAX)]
        };
        let mut bytes = spare.map(|sighting| sighting.frame).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(kept);
        let sighting = Sighting {
            port: interface.port,
            port_name: Arc::clone(&interface.name),
            direction,
            time: SystemTime::UNIX_EPOCH + since_1970,
            frame: bytes,
            len: frame.len(),
        };
        if is_meant {
            state.meant.push_back(sighting);
            self.0.changed.notify_all();
        } else {
            state.others.push_back(sighting);
        }
    }

    /// Tells whether the watch was dropped.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for Eye {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
