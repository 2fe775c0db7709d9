//! A capture: blocks are built in the switch's thread, and written by one of their own, so that a slow disk costs
//! captured frames at most, never forwarded ones.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::report::CaptureSummary;
use crate::state::PortId;
use crate::state::rules::End;
use crate::wire::filter::Filter;
use crate::wire::pcapng::{self, Direction};

/// Bytes of blocks that are gathered at most before frames are lost.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Captures of a switch at a time at most.
pub(super) const CAPTURES_MAX: usize = 16;

/// Chunks that wait for the disk at most.
const CHUNKS_MAX: usize = 4;

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureOptions {
    /// The ports of which every frame is captured, in both directions. `None`: of all ports, but only as they come in, so
    /// that each frame is there once.
    pub ports: Option<Vec<End>>,
    /// The frames that are captured; `None`: all.
    pub filter: Option<Filter>,
}

/// The switch's end of a capture.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) path: PathBuf,
    /// The one that [`Switch::start_capture`](super::Switch::start_capture) started.
    pub(super) is_main: bool,
    options: CaptureOptions,
    chunk: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    writer: JoinHandle<io::Result<()>>,
    /// Interfaces in the file by place of their ports.
    interfaces: Vec<Option<(PortId, u32)>>,
    interface_count: u32,
    batch_time: Duration,
    summary: CaptureSummary,
}

impl Capture {
    /// Makes the file, and starts the thread that writes it.
    pub(super) fn start(
        path: PathBuf,
        is_main: bool,
        options: CaptureOptions,
    ) -> io::Result<Capture> {
        let mut file = File::create(&path)?;
        let (full, chunks) = sync_channel::<Vec<u8>>(CHUNKS_MAX);
        let (recycle, empty) = sync_channel::<Vec<u8>>(CHUNKS_MAX);
        let writer = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                while let Ok(mut chunk) = chunks.recv() {
                    file.write_all(&chunk)?;
                    chunk.clear();
                    let _ = recycle.try_send(chunk);
                }
                Ok(())
            })?;
        let mut chunk = Vec::new();
        pcapng::section(&mut chunk);
        Ok(Capture {
            path,
            is_main,
            options,
            chunk,
            full,
            empty,
            writer,
            interfaces: Vec::new(),
            interface_count: 0,
            batch_time: Duration::ZERO,
            summary: CaptureSummary::default(),
        })
    }

    /// Gives a port an interface in the file, if it is one of those that are captured.
    pub(super) fn add_port(&mut self, id: PortId, name: &str) {
        let ports = &self.options.ports;
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
        self.interfaces[place] = Some((id, self.interface_count));
        self.interface_count += 1;
        pcapng::interface(&mut self.chunk, name);
    }

    /// Takes the time for the frames that follow: those of one batch came in together.
    pub(super) fn begin_batch(&mut self, now: SystemTime) {
        self.batch_time = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
    }

    /// Tells whether it has frames that go out.
    pub(super) fn has_both_directions(&self) -> bool {
        self.options.ports.is_some()
    }

    /// Takes a frame that passed a port.
    pub(super) fn record(&mut self, id: PortId, direction: Direction, frame: &[u8]) {
        let interface = self
            .interfaces
            .get(usize::from(id.number()))
            .copied()
            .flatten();
        let Some((_, interface)) = interface.filter(|(owner, _)| *owner == id) else {
            return;
        };
        let filter = &self.options.filter;
        if filter.as_ref().is_some_and(|filter| !filter.matches(frame)) {
            return;
        }
        if self.chunk.len() + pcapng::packet_len(frame.len()) > CHUNK_BYTES_MAX {
            self.flush();
        }
        if self.chunk.len() + pcapng::packet_len(frame.len()) > CHUNK_BYTES_MAX {
            self.summary.frames_lost += 1;
            return;
        }
        pcapng::packet(
            &mut self.chunk,
            interface,
            direction,
            self.batch_time,
            frame,
        );
        self.summary.frames += 1;
        self.summary.bytes += frame.len() as u64;
    }

    /// Hands what was gathered to the writer, if it can take it now.
    pub(super) fn flush(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let next = self.empty.try_recv().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.chunk, next);
        if let Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) =
            self.full.try_send(chunk)
        {
            self.chunk = chunk;
        }
    }

    /// Writes all that is left, and closes the file. It may wait for the disk: not for the switch's thread.
    pub(super) fn finish(self) -> Result<CaptureSummary, Error> {
        let Capture {
            path,
            chunk,
            full,
            writer,
            summary,
            ..
        } = self;
        // If the writer has failed it takes nothing, and says so below.
        let _ = full.send(chunk);
        drop(full);
        let written = writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the capture's writer panicked")));
        match written {
            Ok(()) => Ok(summary),
            Err(source) => Err(Error::Capture { path, source }),
        }
    }
}
