//! A file on its way out of the guest, without its holes.

use super::entry;
use crate::failure::Failure;
use crate::job::{failed, send};
use crate::port::{OUT_MAX, Port};
use hotbed_console::agent::wire::{EntryKind, Event, FailureKind, Id, OpenFrame, Stream, WINDOW};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// The most that is read at once.
const PIECE: usize = 128 << 10;

/// A file on its way.
#[derive(Debug)]
pub(crate) struct GetFile {
    id: Id,
    path: String,
    file: OwnedFd,
    at: u64,
    /// Where the next hole is, as far as known.
    data_end: u64,
    /// The length; none where only reading tells the end.
    len: Option<u64>,
    credit: u32,
}

impl GetFile {
    /// Begins to get a file. `Ok(None)`: it is a folder.
    pub(crate) fn open(id: Id, path: &str, port: &mut Port) -> Result<Option<Self>, Failure> {
        let fail = |error: Errno| Failure::os(format_args!("cannot read {path}"), error);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(None),
            FileType::RegularFile => {}
            _ => {
                let message = format!("{path} is neither a file nor a folder");
                return Err(Failure::new(FailureKind::Invalid, message));
            }
        }
        let len = u64::try_from(stat.st_size).unwrap_or_default();
        let entry = entry(EntryKind::File { len }, &stat);
        send(port, &Event::Entry { id, entry });
        Ok(Some(Self {
            id,
            path: path.to_owned(),
            file,
            at: 0,
            data_end: 0,
            len: Some(len).filter(|len| *len > 0),
            credit: WINDOW,
        }))
    }

    /// Takes note of leave to send more.
    pub(crate) fn add_credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes).min(WINDOW);
    }

    /// Whether there is leave, but no room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.credit > 0
    }

    /// Sends what there is leave and room for. Says whether more is to come.
    pub(crate) fn pump(&mut self, port: &mut Port) -> bool {
        let id = self.id;
        while self.credit > 0 && port.backlog() < OUT_MAX {
            match self.send_piece(port) {
                Ok(true) => {}
                Ok(false) => {
                    let found = String::new();
                    send(port, &Event::Done { id, found });
                    return false;
                }
                Err(error) => {
                    let failure = Failure::os(format_args!("cannot read {}", self.path), error);
                    send(port, &failed(id, &failure));
                    return false;
                }
            }
        }
        true
    }

    /// Sends the next piece; `Ok(false)` at the end.
    fn send_piece(&mut self, port: &mut Port) -> Result<bool, Errno> {
        let mut room = PIECE.min(self.credit as usize);
        if let Some(len) = self.len {
            if self.at >= self.data_end && !self.find_data(len)? {
                return Ok(false);
            }
            room = room.min(usize::try_from(self.data_end - self.at).unwrap_or(room));
        }
        let event = Event::Output {
            id: self.id,
            stream: Stream::Stdout,
            offset: self.at,
        };
        let Ok(frame) = OpenFrame::new(&event, &mut port.out) else {
            return Ok(false);
        };
        let payload_at = port.out.len();
        port.out.resize(payload_at + room, 0);
        let read = match self.len {
            Some(_) => rustix::io::pread(&self.file, &mut port.out[payload_at..], self.at),
            None => rustix::io::read(&self.file, &mut port.out[payload_at..]),
        };
        let len = match read {
            Ok(len) if len > 0 => len,
            Ok(_) => {
                frame.abandon(&mut port.out);
                return Ok(false);
            }
            Err(error) => {
                frame.abandon(&mut port.out);
                return if error == Errno::INTR {
                    Ok(true)
                } else {
                    Err(error)
                };
            }
        };
        port.out.truncate(payload_at + len);
        let _ = frame.close(&mut port.out);
        self.at += len as u64;
        self.credit -= u32::try_from(len).unwrap_or(self.credit);
        Ok(true)
    }

    /// Skips a hole; false when nothing follows it.
    fn find_data(&mut self, len: u64) -> Result<bool, Errno> {
        if self.at >= len {
            return Ok(false);
        }
        match seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(at) => {
                self.at = at;
                self.data_end = seek(&self.file, SeekFrom::Hole(at))?.min(len);
                Ok(self.at < self.data_end)
            }
            Err(Errno::NXIO) => Ok(false),
            // A file system without holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.data_end = len;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}
