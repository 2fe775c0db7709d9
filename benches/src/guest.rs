//! A guest of the driver's, for benches that ask it for things.

use std::sync::Arc;

use hotbed_driver::{Machine, Testbed};

use crate::machines::{call, testbed};

/// The two ways of Hotbed into a guest, and what a machine's head says to take it.
pub const WAYS: [(&str, &str); 2] = [("agent", ""), ("shell", "agent = false")];

/// A machine that has booted, with its testbed. It ends with the value.
#[derive(Debug)]
pub struct Guest {
    testbed: Arc<Testbed>,
}

impl Guest {
    /// Boots a machine with these lines in its head. `None`, with a word about it, when there is no agent to be measured.
    ///
    /// # Panics
    ///
    /// When the guest does not boot.
    #[must_use]
    pub fn boot(way: &str, lines: &[&str]) -> Option<Self> {
        let lines: String = lines.iter().map(|line| format!("# {line}\n")).collect();
        let testbed = testbed(&format!("# /// hotbed\n# [machines.m]\n{lines}# ///\n"));
        let guest = Self { testbed };
        guest.m().connect(&call()).expect("the guest boots");
        if way == "agent" && guest.m().ping(&call()).is_err() {
            println!("SKIPPED: no agent answers: `cargo xtask demo` builds one");
            return None;
        }
        Some(guest)
    }

    /// The machine.
    #[must_use]
    pub fn m(&self) -> &Machine {
        &self.testbed.machines()[0]
    }

    /// What a command prints that succeeds.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn output(&self, command: &str) -> String {
        self.m()
            .succeed(&[command], None, &call())
            .expect("it succeeds")
    }

    /// Runs a command that succeeds.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn succeed(&self, command: &str) {
        drop(self.output(command));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.testbed.stop();
    }
}
