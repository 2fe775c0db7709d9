//! A QEMU that is none: a monitor whose answers a test writes.

use std::io::{self, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, recvmsg,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ErrorClass;
use crate::state::FILES_MAX;
use crate::wire::Splitter;

/// What a fake QEMU says first, unless the test says otherwise.
pub const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "fake"}, "#,
    r#""capabilities": ["oob"]}}"#
);

/// A command that a fake QEMU was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The command's name.
    pub command: String,
    /// Its arguments; `Null` if there were none.
    pub arguments: Value,
    /// Its number.
    pub id: Value,
    /// Whether it was to run out of band.
    pub is_out_of_band: bool,
    /// The files that came with it, in a list that clones of the request share.
    pub files: Files,
}

/// Files that came with a request.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Vec<OwnedFd>>);

impl Files {
    /// Gives the files.
    #[must_use]
    pub fn as_slice(&self) -> &[OwnedFd] {
        &self.0
    }
}

impl PartialEq for Files {
    /// Says whether the two are the same list: files themselves cannot be compared.
    fn eq(&self, other: &Files) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a fake QEMU answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The command was carried out.
    Return(Value),
    /// The command failed.
    Error(ErrorClass, String),
    /// Nothing, for now: [`FakeQemu::answer`] may answer later.
    Hold,
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// The end of the session.
    Close,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer::Return(value)
    }
}

/// A monitor whose answers a test writes. It ends when it is dropped.
///
/// It greets, accepts `qmp_capabilities`, and asks the test's function about everything else.
#[derive(Debug)]
pub struct FakeQemu {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    /// Held while a message is written, so that no other comes in between.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// What the thread waits at: the session, or before it who asks for one.
    socket: Option<Arc<OwnedFd>>,
    requests: Vec<Request>,
    is_over: bool,
}

impl FakeQemu {
    /// Starts a fake QEMU, and gives the other end of its monitor.
    ///
    /// # Errors
    ///
    /// If the host has no more sockets or threads.
    pub fn pair(
        answer: impl FnMut(&Request) -> Answer + Send + 'static,
    ) -> io::Result<(FakeQemu, UnixStream)> {
        FakeQemu::pair_with_greeting(GREETING, answer)
    }

    /// Starts a fake QEMU that greets as the test wants it to.
    ///
    /// # Errors
    ///
    /// If the host has no more sockets or threads.
    pub fn pair_with_greeting(
        greeting: &str,
        answer: impl FnMut(&Request) -> Answer + Send + 'static,
    ) -> io::Result<(FakeQemu, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let shared = Shared::waiting_at(ours.try_clone()?.into());
        let greeting = greeting.to_owned();
        Ok((
            FakeQemu::start(shared, move |shared| shared.serve(&ours, &greeting, answer))?,
            theirs,
        ))
    }

    /// Starts a fake QEMU whose monitor listens at `path`, and serves who connects first.
    ///
    /// # Errors
    ///
    /// If it cannot listen there.
    pub fn listen(
        path: &Path,
        answer: impl FnMut(&Request) -> Answer + Send + 'static,
    ) -> io::Result<FakeQemu> {
        let listener = UnixListener::bind(path)?;
        let shared = Shared::waiting_at(listener.try_clone()?.into());
        FakeQemu::start(shared, move |shared| {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            let Ok(clone) = stream.try_clone() else {
                return;
            };
            let mut state = shared.lock();
            if !state.is_over {
                state.socket = Some(Arc::new(clone.into()));
                drop(state);
                shared.serve(&stream, GREETING, answer);
            }
        })
    }

    fn start(
        shared: Arc<Shared>,
        run: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<FakeQemu> {
        let running = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("fake-qemu".to_owned())
            .spawn(move || {
                run(&running);
                running.end();
            })?;
        Ok(FakeQemu {
            shared,
            thread: Some(thread),
        })
    }

    /// Gives what QEMU answers to a command that it does not know.
    #[must_use]
    pub fn unknown_command(request: &Request) -> Answer {
        let description = format!("The command {} has not been found", request.command);
        Answer::Error(ErrorClass::CommandNotFound, description)
    }

    /// Sends an event.
    pub fn event(&self, name: &str, data: &Value) {
        let timestamp = json!({"seconds": 1_700_000_000, "microseconds": 5});
        self.send(
            format!(
                "{}\r\n",
                json!({"event": name, "data": data, "timestamp": timestamp})
            )
            .as_bytes(),
        );
    }

    /// Answers a request that was held.
    pub fn answer(&self, request: &Request, answer: Answer) {
        self.shared.send_answer(&request.id, answer);
    }

    /// Sends bytes, whatever they are.
    pub fn send(&self, bytes: &[u8]) {
        self.shared.send(bytes);
    }

    /// Closes the session.
    pub fn close(&self) {
        self.shared.end();
    }

    /// Gives the requests so far, but for negotiation.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Waits until there were `count` requests, but for negotiation; none if there were not by `until`.
    #[must_use]
    pub fn wait_requests(&self, count: usize, until: Instant) -> Option<Vec<Request>> {
        let mut state = self.shared.lock();
        while state.requests.len() < count {
            let rest = until.checked_duration_since(Instant::now())?;
            state = self
                .shared
                .news
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(state.requests.clone())
    }
}

impl Drop for FakeQemu {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A command as it comes over the wire.
#[derive(Deserialize)]
struct Fields {
    execute: Option<String>,
    #[serde(rename = "exec-oob")]
    out_of_band: Option<String>,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    id: Value,
}

impl Shared {
    fn waiting_at(socket: OwnedFd) -> Arc<Shared> {
        let state = Mutex::new(State {
            socket: Some(Arc::new(socket)),
            ..State::default()
        });
        Arc::new(Shared {
            state,
            ..Shared::default()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(
        &self,
        stream: &UnixStream,
        greeting: &str,
        mut answer: impl FnMut(&Request) -> Answer,
    ) {
        self.send(format!("{greeting}\r\n").as_bytes());
        let (mut splitter, mut files) = (Splitter::default(), Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            match receive(stream, &mut buffer, &mut files) {
                Ok(count) if count > 0 => splitter.handle_bytes(&buffer[..count]),
                _ => return,
            }
            let mut commands = Vec::new();
            while let Ok(Some(message)) = splitter.poll_message() {
                let Ok(fields) = serde_json::from_slice::<Fields>(message) else {
                    return;
                };
                commands.push(fields);
            }
            // The kernel ends a read with the piece that has files: they belong to the command that began last.
            let owner = if splitter.is_inside() {
                None
            } else {
                commands.len().checked_sub(1)
            };
            for (index, fields) in commands.into_iter().enumerate() {
                let files = if owner == Some(index) {
                    mem::take(&mut files)
                } else {
                    Vec::new()
                };
                self.handle_command(fields, files, &mut answer);
            }
        }
    }

    fn handle_command(
        &self,
        fields: Fields,
        files: Vec<OwnedFd>,
        answer: &mut impl FnMut(&Request) -> Answer,
    ) {
        let is_out_of_band = fields.out_of_band.is_some();
        let command = fields.execute.or(fields.out_of_band).unwrap_or_default();
        if command == "qmp_capabilities" {
            return self.send_answer(&fields.id, Answer::Return(json!({})));
        }
        let files = Files(Arc::new(files));
        let request = Request {
            command,
            arguments: fields.arguments,
            id: fields.id,
            is_out_of_band,
            files,
        };
        let answer = answer(&request);
        self.lock().requests.push(request.clone());
        self.news.notify_all();
        self.send_answer(&request.id, answer);
    }

    fn send_answer(&self, id: &Value, answer: Answer) {
        let message = match answer {
            Answer::Return(value) => json!({"return": value, "id": id}),
            Answer::Error(class, description) => {
                json!({"error": {"class": class.name(), "desc": description}, "id": id})
            }
            Answer::Hold => return,
            Answer::Raw(bytes) => return self.send(&bytes),
            Answer::Close => return self.end(),
        };
        self.send(format!("{message}\r\n").as_bytes());
    }

    /// Writes to the session, one message at a time. If it is over, nobody reads.
    fn send(&self, bytes: &[u8]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = self.lock().socket.clone() else {
            return;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::net::send(&socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(_) => return,
            }
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        if let Some(socket) = state.socket.take() {
            let _ = rustix::net::shutdown(&socket, Shutdown::Both);
        }
    }
}

/// Reads what comes, and the files with it.
fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
    files: &mut Vec<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let count = recvmsg(stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            files.extend(fds);
        }
    }
    Ok(count)
}
