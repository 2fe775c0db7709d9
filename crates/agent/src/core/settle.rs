//! What is put off until the host was greeted, and until nobody waits for anything: a boot is to take no longer with us.
//!
//! Then whoever has started us is told that it may go on with what is to run beside us.

use super::{Core, Operation};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// As long as this after the greeting, and after each command, others are to have the processor.
const PAUSE: Duration = Duration::from_millis(50);

/// No longer than this after the greeting, whatever the host asks for.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// No longer than this after the start, if no host greets.
const GREETING_MAX: Duration = Duration::from_secs(2);

/// Where whoever has started us wants to hear of it, as systemd has it.
const NOTIFY: &str = "NOTIFY_SOCKET";

/// When it is time.
#[derive(Debug)]
pub(super) struct Settling {
    look_at: Option<Instant>,
    latest: Instant,
    /// The first shell was asked for.
    has_shell: bool,
}

impl Settling {
    pub(super) fn new(now: Instant) -> Self {
        let latest = now + GREETING_MAX;
        Self {
            look_at: Some(latest),
            latest,
            has_shell: false,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.look_at
    }

    pub(super) fn handle_greeting(&mut self, now: Instant) {
        if self.look_at == Some(self.latest) {
            self.look_at = Some(now + PAUSE);
            self.latest = now + BUSY_MAX;
        }
    }
}

impl Core {
    /// Starts the first shell when the host has its greeting: it takes as long as a round trip.
    pub(super) fn prepare_shell(&mut self) {
        if self.is_greeted && self.port.backlog() == 0 && !self.settling.has_shell {
            self.settling.has_shell = true;
            if !self.shells.iter().any(Option::is_some) {
                self.start_shell();
            }
        }
    }

    /// Does what was put off, if it is time.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.settling.look_at.is_none_or(|at| at > now) {
            return;
        }
        let is_busy = self
            .operations
            .values()
            .any(|operation| !matches!(operation, Operation::Wait(_)));
        let has_begun = |shell: &mut crate::zygote::Zygote| shell.child().is_some();
        let is_warm = self.shells.iter_mut().flatten().all(has_begun);
        if (is_busy || !is_warm) && now < self.settling.latest {
            self.settling.look_at = Some(now + PAUSE);
            return;
        }
        self.settling.look_at = None;
        if self.is_greeted {
            self.groups.find();
            if is_warm {
                self.learn_environment();
            }
        }
        tell();
    }
}

/// Tells whoever has started us, if they want to hear it.
fn tell() {
    let Some(name) = std::env::var_os(NOTIFY) else {
        return;
    };
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::path::Path::new(
            <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name),
        )),
    };
    // Who does not listen does not want to hear it.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}
