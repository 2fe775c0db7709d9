//! Which command goes to QEMU next, and when.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::CommandId;
use crate::wire::{Execution, MESSAGE_MAX};

/// How many bytes of commands may wait to be sent. One command may always wait; more are refused.
pub const QUEUE_BYTES_MAX: usize = MESSAGE_MAX;

/// How many commands QEMU is given to run in band. When it has more, it reads no further, and would not see a
/// command that is to run out of band.
pub const IN_BAND_MAX: usize = 8;

/// How many files may travel beside a command: what QEMU takes at once.
pub const FILES_MAX: usize = 16;

/// What is to be written to QEMU next, in one piece: the files go with the first byte.
#[derive(Debug)]
pub struct Transmit {
    /// The command, as QEMU reads it.
    pub bytes: Vec<u8>,
    /// The files that travel beside it.
    pub files: Vec<OwnedFd>,
}

/// The commands that were not sent yet, and how busy QEMU is with those that were.
#[derive(Debug, Default)]
pub(super) struct Queue {
    negotiation: VecDeque<Queued>,
    in_band: VecDeque<Queued>,
    out_of_band: VecDeque<Queued>,
    /// The bytes of all that waits.
    bytes: usize,
    /// How many commands QEMU has to run in band.
    in_band_sent: usize,
    /// The command for which QEMU holds files.
    files_sent: Option<CommandId>,
}

#[derive(Debug)]
struct Queued {
    id: CommandId,
    transmit: Transmit,
}

impl Queue {
    pub(super) fn has_room_for(&self, size: usize) -> bool {
        self.bytes == 0 || self.bytes + size <= QUEUE_BYTES_MAX
    }

    pub(super) fn push(&mut self, id: CommandId, execution: Execution, transmit: Transmit) {
        self.bytes += transmit.bytes.len();
        match execution {
            Execution::InBand => self.in_band.push_back(Queued { id, transmit }),
            Execution::OutOfBand => self.out_of_band.push_back(Queued { id, transmit }),
        }
    }

    /// Puts a negotiation before all that a caller submitted.
    pub(super) fn push_negotiation(&mut self, id: CommandId, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        let transmit = Transmit {
            bytes,
            files: Vec::new(),
        };
        self.negotiation.push_back(Queued { id, transmit });
    }

    /// Gives the next command that QEMU can take; before the session is ready, that is negotiation only.
    ///
    /// A command with files goes when no other is being run, and nothing goes until it is answered. QEMU holds the
    /// files for it meanwhile, and whatever comes next, the thread that reads it looks at them, also while another
    /// thread takes them: that crashed QEMU 7.2, and was so up to 10.1 at least. Nor could it hold others.
    pub(super) fn poll(&mut self, is_ready: bool) -> Option<Transmit> {
        if self.files_sent.is_some() {
            return None;
        }
        if let Some(queued) = self.negotiation.pop_front() {
            return Some(self.sent(queued));
        }
        if !is_ready {
            return None;
        }
        if let Some(queued) = self.out_of_band.pop_front() {
            return Some(self.sent(queued));
        }
        let has_files = !self.in_band.front()?.transmit.files.is_empty();
        if self.in_band_sent >= if has_files { 1 } else { IN_BAND_MAX } {
            return None;
        }
        let queued = self.in_band.pop_front()?;
        self.in_band_sent += 1;
        Some(self.sent(queued))
    }

    fn sent(&mut self, queued: Queued) -> Transmit {
        self.bytes -= queued.transmit.bytes.len();
        if !queued.transmit.files.is_empty() {
            self.files_sent = Some(queued.id);
        }
        queued.transmit
    }

    /// Takes the news that QEMU answered a command.
    ///
    /// A QEMU that answers what it was not sent yet gains nothing: the command still goes out, and no count wraps.
    pub(super) fn handle_answered(&mut self, id: CommandId, execution: Execution) {
        if execution == Execution::InBand {
            self.in_band_sent = self.in_band_sent.saturating_sub(1);
        }
        self.files_sent.take_if(|holder| *holder == id);
    }
}
