//! The shell around hosts in the program: a thread that waits for frames of their port, or until something is due.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::local::{LocalPort, RecvError};
use super::{Error, Switch};
use crate::hosts::{Hosts, Outbox};
use crate::state::PortId;
use crate::wire::FRAME_MAX;

/// How long the thread waits if nothing is due: it is woken by any frame, and by the end.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

/// Hosts on a port of a switch. Dropping it takes them off.
#[derive(Debug)]
pub struct HostPort<H> {
    port: Arc<LocalPort>,
    hosts: Arc<Mutex<H>>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Adds a port with hosts, which answer from a thread of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], or [`Error::Port`] when the host has no descriptor or thread left.
    pub fn add_hosts<H: Hosts + 'static>(
        &self,
        hosts: H,
        name: &str,
    ) -> Result<HostPort<H>, Error> {
        let port = Arc::new(self.add_local(name)?);
        let hosts = Arc::new(Mutex::new(hosts));
        let for_thread = (Arc::clone(&port), Arc::clone(&hosts));
        let thread = thread::Builder::new()
            .name(name.replace('\0', "?"))
            .spawn(move || run(&for_thread.0, &for_thread.1));
        let thread = thread.map_err(|source: io::Error| Error::Port {
            name: name.to_owned(),
            source,
        })?;
        Ok(HostPort {
            port,
            hosts,
            thread: Some(thread),
        })
    }
}

impl<H> HostPort<H> {
    /// Names the port on its switch.
    pub fn id(&self) -> PortId {
        self.port.id()
    }

    /// The hosts; they answer nothing meanwhile.
    pub fn hosts(&self) -> MutexGuard<'_, H> {
        lock(&self.hosts)
    }
}

impl<H> Drop for HostPort<H> {
    fn drop(&mut self) {
        self.port.close();
        if let Some(thread) = self.thread.take() {
            // It has nothing to give, and a panic was printed.
            let _ = thread.join();
        }
    }
}

fn lock<H>(hosts: &Mutex<H>) -> MutexGuard<'_, H> {
    hosts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run<H: Hosts>(port: &LocalPort, hosts: &Mutex<H>) {
    let (mut frame, mut out) = (vec![0; FRAME_MAX], Outbox::default());
    let mut until = Instant::now();
    loop {
        let received = match port.recv_until(&mut frame, until) {
            Ok(received) => received,
            Err(RecvError::Closed) => return,
            Err(RecvError::TooLong(_)) => None, // None is longer than the buffer.
        };
        let now = Instant::now();
        let due = {
            let mut hosts = lock(hosts);
            if let Some(len) = received {
                hosts.handle_frame(now, &frame[..len], &mut out);
            }
            hosts.poll(now, &mut out)
        };
        for frame in out.frames() {
            // What the switch has no room for is lost, as on any wire.
            let _ = port.send(frame);
        }
        out.clear();
        until = due.unwrap_or(now + NOTHING_DUE);
    }
}
