//! A console that is served by a thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::carrier::Carrier;
use super::{Error, Happened};

/// How much may have happened before somebody asks; of what comes then nobody learns.
const HAPPENED_MAX: usize = 1024;

/// How long the thread waits at a time: for ever, as far as it matters.
const WAIT: Duration = Duration::from_secs(3600);

/// A console that a thread serves. Dropping it ends the thread, closes all streams and removes the socket.
#[derive(Debug)]
pub struct Running {
    thread: Option<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
    happened: Receiver<Happened>,
}

impl Running {
    pub(super) fn start(carrier: Carrier) -> Result<Self, Error> {
        let stop = carrier.stop_event();
        let (report, happened) = sync_channel(HAPPENED_MAX);
        let thread = std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || serve(carrier, &report))?;
        Ok(Self {
            thread: Some(thread),
            stop,
            happened,
        })
    }

    /// Waits until something happens. `None` at `until`, and when the thread has ended because the system refused something.
    ///
    /// [`Happened::Data`] and [`Happened::Room`] do not: ports that are not bridged are left alone by a thread.
    #[must_use]
    pub fn poll(&self, until: Instant) -> Option<Happened> {
        let left = until.saturating_duration_since(Instant::now());
        self.happened.recv_timeout(left).ok()
    }
}

fn serve(mut carrier: Carrier, report: &SyncSender<Happened>) {
    while !carrier.is_stopped() {
        match carrier.poll(Instant::now() + WAIT) {
            Ok(None | Some(Happened::Data(_) | Happened::Room(_))) => {}
            Ok(Some(happened)) => drop(report.try_send(happened)),
            Err(error) => return drop(report.try_send(Happened::Disconnected(Some(error)))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
