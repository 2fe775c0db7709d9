//! Signals that ask us to end: what was started is to be gone first, and the terminal to be given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotbed_driver::Interrupt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::report::{self, Exit};

/// The signal that came last.
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Takes note of signals from now on. When that does not work, says so.
    pub(crate) fn watch() -> Result<Self, Exit> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            let registered = signal_hook::flag::register_usize(signal, Arc::clone(&last), number);
            registered.map_err(|error| {
                report::problem(format_args!("cannot watch for signals: {error}"));
                Exit::HostFailed
            })?;
        }
        Ok(Self(last))
    }

    /// Its number; 0 when there was none.
    pub(crate) fn number(&self) -> i32 {
        i32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

impl Interrupt for Signals {
    fn is_interrupted(&self) -> bool {
        self.number() != 0
    }
}
