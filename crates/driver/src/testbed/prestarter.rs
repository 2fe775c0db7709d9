//! A thread that starts QEMUs before a test needs them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Testbed;
use crate::{Call, Interrupt, Machine};

/// The most machines of a test that are started before they are needed: each takes memory.
const SPARES_MAX: usize = 4;

/// A thread that starts QEMUs before they are needed. Dropping it ends it; what it has started stays.
#[derive(Debug)]
pub(super) struct Prestarter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Prestarter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Stopped(Arc<AtomicBool>);

impl Interrupt for Stopped {
    fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Prestarter {
    /// Starts QEMUs for the first few of these machines, one after the other.
    pub(super) fn start(machines: Vec<Arc<Machine>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Stopped(Arc::clone(&stop));
        let body = move || {
            let call = Call {
                until: None,
                interrupt: &stopped,
            };
            let mut spares = 0;
            for machine in machines {
                // A start that fails now fails again when it is wanted, and is told then.
                if spares < SPARES_MAX && matches!(machine.prestart(&call), Ok(true)) {
                    spares += 1;
                }
            }
        };
        let thread = std::thread::Builder::new().name("prestart".to_owned());
        Self {
            stop,
            thread: thread.spawn(body).ok(),
        }
    }
}

impl Testbed {
    /// Starts the QEMUs of the first few machines that have snapshots, in the background, so that their starts have less to do. They wait
    /// then; those that nobody needs end with the testbed. The images must be there.
    pub fn prestart(&self) {
        let machines = self.machines.iter();
        // Of many clones, none is more likely to be the first than another.
        let machines = machines.filter(|machine| machine.config().clone_of.is_none());
        let prestarter = Prestarter::start(machines.map(Arc::clone).collect());
        let before = self.prestarter().replace(prestarter);
        drop(before);
    }

    /// Ends the thread that does so.
    pub(super) fn end_prestarter(&self) {
        let prestarter = self.prestarter().take();
        drop(prestarter);
    }

    fn prestarter(&self) -> MutexGuard<'_, Option<Prestarter>> {
        self.prestarter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
