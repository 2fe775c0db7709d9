//! A capture: blocks are built in the switch's thread, and written by one of their own, so that a slow disk costs
//! captured frames at most, never forwarded ones.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Error;
use crate::report::CaptureSummary;
use crate::wire::pcapng::{self, Direction};

/// Bytes of blocks that are gathered at most before frames are lost.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Chunks that wait for the disk at most.
const CHUNKS_MAX: usize = 4;

/// The switch's end of a capture.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) path: PathBuf,
    /// The one that [`Switch::start_capture`](super::Switch::start_capture) started.
    pub(super) is_main: bool,
    chunk: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    writer: JoinHandle<io::Result<()>>,
    summary: CaptureSummary,
}

impl Capture {
    /// Makes the file, and starts the thread that writes it.
    pub(super) fn start(path: PathBuf, is_main: bool) -> io::Result<Capture> {
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
            chunk,
            full,
            empty,
            writer,
            summary: CaptureSummary::default(),
        })
    }

    /// Gives a port an interface in the file.
    pub(super) fn add_interface(&mut self, name: &str) {
        pcapng::interface(&mut self.chunk, name);
    }

    /// Takes a frame that passed an interface; or that was lost, and then the comment says so.
    pub(super) fn write(
        &mut self,
        interface: u32,
        direction: Direction,
        since_1970: Duration,
        frame: &[u8],
        comment: &str,
    ) {
        let len = pcapng::packet_len(frame.len(), comment);
        if self.chunk.len() + len > CHUNK_BYTES_MAX {
            self.flush();
        }
        if self.chunk.len() + len > CHUNK_BYTES_MAX {
            self.summary.frames_lost += 1;
            return;
        }
        pcapng::packet(
            &mut self.chunk,
            interface,
            direction,
            since_1970,
            frame,
            comment,
        );
        if comment.is_empty() {
            self.summary.frames += 1;
            self.summary.bytes += frame.len() as u64;
        } else {
            self.summary.drops += 1;
        }
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
