//! The port, and the host at its other end.

use super::{Core, OPEN_INTERVAL, Operation, Source};
use crate::port::Came;
use hotbed_console::agent::wire::{Event, Item, Request, VERSION, encode_frame, encode_preamble};
use std::time::Instant;

impl Core {
    /// Opens the port, if it is there by now.
    pub(super) fn open_port(&mut self, now: Instant) {
        if self.port.fd().is_some() || now < self.next_open {
            return;
        }
        self.next_open = now + OPEN_INTERVAL;
        if self.port.open() {
            if let Some(fd) = self.port.fd()
                && self.watch(fd, Source::Port, 0).is_err()
            {
                self.port.close();
                return;
            }
            self.is_stuck = false;
            // A host that believes in a session learns that there is none.
            encode_preamble(0, &mut self.port.out);
            self.flush();
        }
    }

    /// Reads the port until nothing more is there.
    pub(super) fn read_port(&mut self, now: Instant) {
        loop {
            let came = self.port.read();
            if came == Came::Bytes {
                self.last_read = now;
                self.handle_frames(now);
                // What it takes out may be what the next is about.
                continue;
            }
            if came == Came::Hangup {
                self.handle_hangup();
            }
            return;
        }
    }

    pub(super) fn handle_frames(&mut self, now: Instant) {
        // The decoder lends its memory to payloads, while they are used up here.
        let mut decoder = std::mem::take(&mut self.port.decoder);
        loop {
            match decoder.poll::<Request>() {
                Ok(None) => break,
                Ok(Some(Item::Preamble { session })) => self.handle_preamble(session),
                Ok(Some(Item::Message { message, payload })) => {
                    self.handle_request(message, payload, now)
                }
                // The decoder waits for a preamble, which the host repeats.
                Err(_) => self.end_session(),
            }
        }
        self.port.decoder = decoder;
    }

    fn handle_preamble(&mut self, session: u64) {
        if self.session != Some(session) {
            self.end_session();
            self.session = Some(session);
        }
    }

    pub(super) fn handle_hello(&mut self, version: u16) {
        let Some(session) = self.session else {
            return;
        };
        self.is_greeted = version == VERSION;
        self.settling.handle_greeting(Instant::now());
        encode_preamble(session, &mut self.port.out);
        let hello = Event::Hello {
            version: VERSION,
            capabilities: crate::system::capabilities(),
            boot_id: crate::system::boot_id(),
        };
        let _ = encode_frame(&hello, &[], &mut self.port.out);
    }

    /// The host is away: nobody waits for anything.
    pub(super) fn handle_hangup(&mut self) {
        self.end_session();
        self.port.decoder.reset();
        if self.is_test {
            self.port.close();
        }
    }

    pub(super) fn end_session(&mut self) {
        self.session = None;
        self.is_greeted = false;
        self.port.forget();
        self.reap();
        let all = std::mem::take(&mut self.operations);
        for (_, operation) in all {
            if let Operation::Job(job) = operation {
                self.abandon(*job);
            }
        }
        self.touched.clear();
        self.blocked.clear();
    }
}
