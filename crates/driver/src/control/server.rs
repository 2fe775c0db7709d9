//! The test's end.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::wire::{Decoder, Message, Open, PAYLOAD_MAX};
use super::{FILES, SOCKET, canonical};
use crate::machine::Activity;
use crate::machine::interact::Seat;
use crate::machine::program::{OutputStream, TerminalSize};
use crate::terminal::{Far, Said, wait};
use crate::{Call, Error, Interrupt, Machine, Testbed};

/// The most clients at once.
const CLIENTS_MAX: usize = 16;

/// Lets other processes of the same user into a testbed's machines. Dropping it ends their sessions.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    testbed: Weak<Testbed>,
    is_over: AtomicBool,
    clients: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Listens in the testbed's directory; the test is found there by any of these files.
    ///
    /// # Errors
    ///
    /// When there can be no socket, or no thread.
    pub fn start(testbed: &Arc<Testbed>, files: &[&Path]) -> Result<Self, Error> {
        let directory = testbed.directory();
        let path = directory.join(SOCKET);
        let failed = || Error::host(format!("cannot listen at {}", path.display()));
        let mut names = Vec::new();
        for file in files {
            let file = canonical(file).unwrap_or_else(|_| (*file).to_owned());
            names.extend_from_slice(file.as_os_str().as_bytes());
            names.push(0);
        }
        fs::write(directory.join(FILES), names).map_err(failed())?;
        let listener = UnixListener::bind(&path).map_err(failed())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed())?;
        let shared = Arc::new(Shared {
            listener,
            testbed: Arc::downgrade(testbed),
            is_over: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            threads: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let acceptor = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || own.accept_all())
            .map_err(failed())?;
        Ok(Self {
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.clients.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts. The standard library has no such call for a listener.
        let _ = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let threads = std::mem::take(
            &mut *self
                .shared
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Interrupt for Shared {
    fn is_interrupted(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>) {
        while !self.is_over.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((stream, _)) => self.begin(stream),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn begin(self: &Arc<Self>, stream: UnixStream) {
        // The directory is closed to others already; this holds for one that was made less strict.
        let is_own =
            socket_peercred(&stream).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root());
        if !is_own || self.clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
            return;
        }
        self.clients.fetch_add(1, Ordering::Relaxed);
        let own = Arc::clone(self);
        let body = move || {
            own.serve(&stream);
            let _ = stream.shutdown(Shutdown::Both);
            own.clients.fetch_sub(1, Ordering::Relaxed);
        };
        let thread = std::thread::Builder::new()
            .name("control-client".to_owned())
            .spawn(body);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        match thread {
            Ok(thread) => threads.push(thread),
            Err(_) => {
                self.clients.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Serves one client to its end.
    fn serve(&self, stream: &UnixStream) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut peer = Peer::new(stream);
        let call = Call {
            until: None,
            interrupt: self,
        };
        let last = match self.run_session(&mut peer, &call) {
            Ok(Some(status)) => Message::Ended(status),
            // The client is gone.
            Ok(None) => return,
            Err(error) => Message::Failed {
                is_usage: matches!(error, Error::Argument(_)),
                text: match error {
                    Error::Interrupted => "the test has ended".to_owned(),
                    error => error.chain(),
                },
            },
        };
        // Not the server's call, which may be over by now: what is said last still fits into the socket.
        let _ = peer.stream.send(&last, &Call::unlimited(), false);
    }

    fn run_session(&self, peer: &mut Peer<'_>, call: &Call<'_>) -> Result<Option<i32>, Error> {
        let open = match peer.receive(call)? {
            Some(Message::Open(open)) => open,
            Some(_) => return Err(Error::Argument("a session begins otherwise".to_owned())),
            None => return Ok(None),
        };
        let machine = self.machine(&open)?;
        let seat = open.terminal.map(|(columns, rows, kind)| Seat {
            size: TerminalSize { columns, rows },
            kind,
        });
        let shell = machine.open_shell(seat.as_ref(), call)?;
        machine.log("somebody has opened a shell in it (`hotbed shell`)");
        let opened = Message::Opened {
            is_terminal: shell.is_terminal(),
        };
        peer.stream.send(&opened, call, true)?;
        let status = bring_together(peer, shell.as_ref(), call);
        machine.log("the shell of `hotbed shell` is closed");
        status
    }

    fn machine(&self, open: &Open) -> Result<Arc<Machine>, Error> {
        let testbed = self.testbed.upgrade().ok_or(Error::Interrupted)?;
        let machines = testbed.machines();
        let Some(machine) = machines
            .iter()
            .find(|machine| machine.name() == open.machine)
        else {
            let names: Vec<&str> = machines.iter().map(|machine| machine.name()).collect();
            return Err(Error::Argument(format!(
                "the test has no machine {:?}; it has {}",
                open.machine,
                names.join(", ")
            )));
        };
        if machine.activity() == Activity::Off {
            return Err(Error::Machine(format!(
                "{} is off: the test has not started it, or it has ended",
                machine.name()
            )));
        }
        Ok(Arc::clone(machine))
    }
}

/// Brings a client and a shell together until one of them ends; gives the shell's status, if it was the one.
fn bring_together(
    peer: &mut Peer<'_>,
    shell: &dyn Far,
    call: &Call<'_>,
) -> Result<Option<i32>, Error> {
    let over = AtomicBool::new(false);
    let stream = peer.stream;
    let bring_output = || -> Result<Option<i32>, Error> {
        while !over.load(Ordering::Acquire) {
            let slice = call.slice(&doing)?;
            let message = match shell.poll(slice, call)? {
                Said::Nothing => continue,
                Said::Output(OutputStream::Stdout, bytes) => Message::Output(bytes),
                Said::Output(OutputStream::Stderr, bytes) => Message::Errors(bytes),
                Said::Ended(status) => return Ok(Some(status)),
            };
            stream.send_unless(&message, call, &over)?;
        }
        Ok(None)
    };
    std::thread::scope(|scope| {
        let output = std::thread::Builder::new()
            .name("control-output".to_owned())
            .spawn_scoped(scope, || {
                let ended = bring_output();
                over.store(true, Ordering::Release);
                ended
            })
            .map_err(Error::host("cannot start a thread"))?;
        let taken = take_input(peer, shell, &over, call);
        over.store(true, Ordering::Release);
        let ended = output
            .join()
            .unwrap_or_else(|_| Err(Error::Machine("the session's thread panicked".to_owned())));
        taken.and(ended)
    })
}

/// Gives the shell what the client sends, until one of them has ended.
fn take_input(
    peer: &mut Peer<'_>,
    shell: &dyn Far,
    over: &AtomicBool,
    call: &Call<'_>,
) -> Result<(), Error> {
    while !over.load(Ordering::Acquire) {
        let slice = call.slice(&doing)?;
        match peer.poll(slice)? {
            Received::Nothing => {}
            Received::End => return Ok(()),
            Received::Message(Message::Input(bytes)) => shell.write(&bytes, call)?,
            Received::Message(Message::InputEnd) => shell.end_input(call)?,
            Received::Message(Message::Resize(size)) => shell.resize(size, call)?,
            Received::Message(_) => return Err(garbled()),
        }
    }
    Ok(())
}

fn doing() -> String {
    "somebody is in a shell".to_owned()
}

pub(super) fn garbled() -> Error {
    Error::Machine("the other end of the control socket does not speak as it should: is it another version of Hotbed?".to_owned())
}

/// What comes from the other end.
pub(super) enum Received {
    /// Nothing, so far.
    Nothing,
    /// A message.
    Message(Message),
    /// It is gone.
    End,
}

/// The other end.
pub(super) struct Peer<'s> {
    pub(super) stream: Writer<'s>,
    decoder: Decoder,
}

/// The way to the other end.
#[derive(Clone, Copy)]
pub(super) struct Writer<'s>(&'s UnixStream);

impl<'s> Peer<'s> {
    /// Takes a stream that does not block.
    pub(super) fn new(stream: &'s UnixStream) -> Self {
        Self {
            stream: Writer(stream),
            decoder: Decoder::default(),
        }
    }

    /// Waits for a message, until then at the longest.
    pub(super) fn poll(&mut self, until: std::time::Instant) -> Result<Received, Error> {
        loop {
            if let Some(message) = self.decoder.poll().map_err(|_| garbled())? {
                return Ok(Received::Message(message));
            }
            let stream = self.stream.0;
            if !wait(Some((stream.as_fd(), PollFlags::IN)), until)? {
                return Ok(Received::Nothing);
            }
            let mut buffer = vec![0; PAYLOAD_MAX];
            match rustix::io::read(stream, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
                Ok(count) => self
                    .decoder
                    .handle_read(buffer.get(..count).unwrap_or_default()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Error::host("cannot read the control socket")(error.into()));
                }
            }
        }
    }

    /// Waits for a message; `None` when the other end is gone.
    pub(super) fn receive(&mut self, call: &Call<'_>) -> Result<Option<Message>, Error> {
        loop {
            let slice = call.slice(&|| "waiting at the control socket".to_owned())?;
            match self.poll(slice)? {
                Received::Nothing => {}
                Received::Message(message) => return Ok(Some(message)),
                Received::End => return Ok(None),
            }
        }
    }
}

impl Writer<'_> {
    /// Sends a message; without patience it gives up when the other end takes nothing.
    pub(super) fn send(
        self,
        message: &Message,
        call: &Call<'_>,
        is_patient: bool,
    ) -> Result<(), Error> {
        self.send_unless(message, call, &AtomicBool::new(!is_patient))
    }

    /// Sends a message, unless the other end takes nothing and the session is over.
    pub(super) fn send_unless(
        mut self,
        message: &Message,
        call: &Call<'_>,
        over: &AtomicBool,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let slice = call.slice(&doing)?;
                    let is_ready = wait(Some((self.0.as_fd(), PollFlags::OUT)), slice)?;
                    if !is_ready && over.load(Ordering::Acquire) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    // Who is gone is seen where it is read from.
                    return Ok(());
                }
                Err(error) => {
                    return Err(Error::host("cannot write to the control socket")(error));
                }
            }
        }
        Ok(())
    }
}
