//! What the host asks for.

use super::{Core, OPERATIONS_MAX, Operation};
use crate::failure::Failure;
use crate::files::{self, get::GetFile, put::PutFile};
use crate::job::{Job, Place, Purpose, failed, send};
use crate::system;
use hotbed_console::agent::wire::{Event, FailureKind, Id, PutKind, Request, System};
use std::time::Instant;

impl Core {
    pub(super) fn handle_request(&mut self, request: Request, payload: &[u8], now: Instant) {
        if let Request::Hello { version } = request {
            self.handle_hello(version);
            return;
        }
        if !self.is_greeted {
            return;
        }
        match request {
            Request::Ping { id } => self.tell_done(id),
            Request::Input { id, offset, end } => self.handle_input(id, offset, end, payload),
            Request::Credit { id, bytes } => self.handle_credit(id, bytes),
            Request::Signal { id, signal, tree } => self.signal(id, signal, tree),
            Request::Resize { id, size } => {
                if let Some(Operation::Job(job)) = self.operations.get(&id)
                    && let Place::Own(own) = &job.place
                {
                    own.resize(size);
                }
            }
            Request::Cancel { id } => self.cancel(id, now),
            request => self.begin(request, payload, now),
        }
    }

    /// Begins an operation.
    fn begin(&mut self, request: Request, payload: &[u8], now: Instant) {
        let Some(id) = request.id() else {
            return;
        };
        if self.operations.contains_key(&id) || self.operations.len() >= OPERATIONS_MAX {
            let message = "too many operations, or one of this number is there already";
            self.tell_failure(id, &Failure::new(FailureKind::Invalid, message));
            return;
        }
        let begun = match request {
            Request::Start { command, .. } => {
                let job = Job::new(id, Purpose::Command, command, payload.to_vec(), now);
                self.start_job(job, now).map(|job| job.map(Operation::Job))
            }
            Request::Wait {
                wait, timeout_ms, ..
            } => {
                let begun = self.begin_wait(id, wait, timeout_ms, now);
                begun.map(|watching| Some(Operation::Wait(watching)))
            }
            Request::Put { put, .. } => match put.kind {
                PutKind::File { mode, len } => PutFile::new(id, &put.path, mode, len, put.owner)
                    .map(|put| Some(Operation::Put(put))),
                PutKind::Folder => {
                    let arguments = files::unpack_arguments(&put.path, put.owner);
                    self.start_helper(id, Purpose::PutFolder, &arguments, now)
                }
            },
            Request::Get { path, .. } => match GetFile::open(id, &path, &mut self.port) {
                Ok(Some(get)) => {
                    self.touched.insert(id);
                    Ok(Some(Operation::Get(get)))
                }
                Ok(None) => {
                    let entry = files::folder_entry(&path);
                    let arguments = files::pack_arguments(&path);
                    entry.and_then(|entry| {
                        self.start_helper(id, Purpose::GetFolder(entry), &arguments, now)
                    })
                }
                Err(failure) => Err(failure),
            },
            Request::System { action, .. } => self.act(id, &action, payload),
            _ => Ok(None),
        };
        match begun {
            Ok(Some(operation)) => {
                self.operations.insert(id, operation);
            }
            Ok(None) => {}
            Err(failure) => self.tell_failure(id, &failure),
        }
    }

    fn act(
        &mut self,
        id: Id,
        action: &System,
        payload: &[u8],
    ) -> Result<Option<Operation>, Failure> {
        if let Some(power) = system::act(action, payload)? {
            self.power = Some(power);
        }
        self.tell_done(id);
        Ok(None)
    }

    fn handle_input(&mut self, id: Id, offset: u64, end: bool, payload: &[u8]) {
        match self.operations.get_mut(&id) {
            Some(Operation::Job(job)) => {
                job.handle_input(payload, end);
                self.touched.insert(id);
            }
            Some(Operation::Put(put)) => {
                let is_over = put.handle_input(offset, payload, end, &mut self.port);
                if is_over {
                    self.operations.remove(&id);
                }
            }
            _ => {}
        }
    }

    fn handle_credit(&mut self, id: Id, bytes: u32) {
        match self.operations.get_mut(&id) {
            Some(Operation::Job(job)) => job.add_credit(bytes),
            Some(Operation::Get(get)) => get.add_credit(bytes),
            _ => return,
        }
        self.touched.insert(id);
    }

    fn cancel(&mut self, id: Id, now: Instant) {
        // What the command's process left when it ended a moment ago is the command's, too.
        self.reap();
        match self.operations.remove(&id) {
            Some(Operation::Job(mut job)) => {
                self.kill(&mut job, now, false);
                self.operations.insert(id, Operation::Job(job));
                self.touched.insert(id);
            }
            Some(_) => self.tell_failure(id, &Failure::new(FailureKind::Cancelled, "cancelled")),
            None => {}
        }
    }

    pub(super) fn tell_done(&mut self, id: Id) {
        let found = String::new();
        send(&mut self.port, &Event::Done { id, found });
    }

    pub(super) fn tell_failure(&mut self, id: Id, failure: &Failure) {
        send(&mut self.port, &failed(id, failure));
    }
}
