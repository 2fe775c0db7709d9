//! Signals that ask us to end: what was started is to be gone first, and the terminal to be given back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotbed_driver::Interrupt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signal that came last.
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Takes note of signals from now on.
    pub(crate) fn watch() -> io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&last), number)?;
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
