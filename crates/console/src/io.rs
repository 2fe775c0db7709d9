//! Reads and writes the stream to the guest, with deadlines. The only file that may block.

use crate::state::Session;
use crate::wire::{ANNOUNCEMENT, INPUT_MAX};
use crate::{Command, Error, Progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// No single wait in the kernel is longer than this.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A guest's root shell, over the stream of the chardev behind its first virtio console.
///
/// Every call that waits takes the moment `until` when it gives up; nothing is lost then, and the same call goes on where
/// it was. One thread drives it.
#[derive(Debug)]
pub struct Shell {
    stream: UnixStream,
    session: Session,
    input: Box<[u8]>,
}

impl Shell {
    /// Takes the stream over.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when the stream cannot be switched to non-blocking.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        stream.set_nonblocking(true)?;
        // The standard library's hash keys are the random numbers at hand.
        let name = format!("{:016x}", RandomState::new().hash_one(0));
        Ok(Self {
            stream,
            session: Session::new(name),
            input: vec![0; INPUT_MAX].into_boxed_slice(),
        })
    }

    /// Waits until the guest's root shell announces itself, and returns what the guest said up to then.
    ///
    /// The text is bounded: of a talkative guest it holds the end. `Ok(None)` at `until`. Once the shell is ready it returns
    /// at once.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Socket`].
    pub fn poll_ready(&mut self, until: Instant) -> Result<Option<Vec<u8>>, Error> {
        self.drive(until, |session| session.is_ready())?;
        if !self.session.is_ready() {
            return if self.session.is_closed() {
                Err(self.session.closed_error())
            } else {
                Ok(None)
            };
        }
        let heard = self.session.heard();
        let end = memchr::memmem::rfind(heard, ANNOUNCEMENT)
            .map_or(heard.len(), |start| start + ANNOUNCEMENT.len());
        Ok(Some(heard[..end].to_vec()))
    }

    /// Forgets the root shell that is there, because the guest reboots or switches its root: another will announce itself.
    ///
    /// What was not sent yet never will be.
    pub fn expect_ready(&mut self) {
        self.session.expect_ready();
    }

    /// Takes it that a root shell waits for a command, without an announcement: the guest was restored, for example.
    pub fn assume_ready(&mut self) {
        self.session.assume_ready();
    }

    /// Whether the root shell announced itself and is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// The last bytes that the guest sent and that are no answer: kernel messages, what it said before the shell was ready.
    #[must_use]
    pub fn heard(&self) -> &[u8] {
        self.session.heard()
    }

    /// Sends a command. Its result comes from [`poll_output`](Self::poll_output).
    ///
    /// An earlier command whose answer was not waited for goes on in the guest; this one starts when it is done, and its late
    /// answer is skipped. What the guest has not taken at `until` is sent during the calls that follow.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`], [`Error::Nul`], [`Error::TooLong`], [`Error::Backlog`], [`Error::Closed`], [`Error::Socket`].
    pub fn begin(&mut self, command: &Command<'_>, until: Instant) -> Result<(), Error> {
        self.session.begin(command)?;
        self.flush(until)
    }

    /// Waits for the next piece of the answer of the command (or file) begun last.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Restarted`], [`Error::Garbled`], [`Error::Unable`], [`Error::NotReady`] (nothing was
    /// begun), [`Error::Socket`]. Output that came before is handed out first.
    pub fn poll_output(&mut self, until: Instant) -> Result<Progress, Error> {
        let mut progress = self.session.poll_progress();
        if matches!(progress, Ok(Progress::Pending)) {
            self.drive(until, |session| {
                progress = session.poll_progress();
                !matches!(progress, Ok(Progress::Pending))
            })?;
        }
        progress
    }

    /// Sends a command whose answer nobody waits for, such as one that ends the root shell.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_detached(&mut self, script: &str, until: Instant) -> Result<(), Error> {
        self.session.begin_detached(script)?;
        self.flush(until)
    }

    /// Begins to put a file of `len` bytes at `target` in the guest; its parent directories are made.
    ///
    /// The bytes follow by [`put_chunk`](Self::put_chunk), then [`poll_output`](Self::poll_output) says how it went: status 1
    /// when the guest could not write them all, and its log console says why. The guest needs `dd`, and `mkdir` for
    /// directories. To begin something else before all bytes were given leaves a part of the file in the guest, as an error
    /// does.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_put(&mut self, target: &str, len: u64, until: Instant) -> Result<(), Error> {
        self.session.begin_put(target, len)?;
        self.flush(until)
    }

    /// Sends the next bytes of a file, and returns how many were taken: fewer than all only at `until`.
    ///
    /// Of a file that the guest cannot write all bytes are taken too, and go nowhere.
    ///
    /// # Errors
    ///
    /// [`Error::PutOverrun`], [`Error::Closed`], [`Error::Restarted`], [`Error::Socket`].
    pub fn put_chunk(&mut self, bytes: &[u8], until: Instant) -> Result<usize, Error> {
        let mut taken = Ok(0);
        self.drive(until, |session| {
            if let Ok(count) = &taken {
                taken = session.put(&bytes[*count..]).map(|more| count + more);
            }
            !matches!(taken, Ok(count) if count < bytes.len())
        })?;
        taken
    }

    /// Sends bytes as they are, for example `poweroff\n`; the shell reads them when it has nothing else to do.
    ///
    /// An answer that was waited for is abandoned.
    ///
    /// # Errors
    ///
    /// [`Error::Backlog`], [`Error::Closed`], [`Error::Socket`].
    pub fn send_raw(&mut self, bytes: &[u8], until: Instant) -> Result<(), Error> {
        self.session.send(bytes)?;
        self.flush(until)
    }

    fn flush(&mut self, until: Instant) -> Result<(), Error> {
        self.drive(until, |session| session.poll_transmit().is_empty())
    }

    /// Sends and receives until this is done, the stream has ended, or `until`; once at least.
    fn drive(
        &mut self,
        until: Instant,
        mut done: impl FnMut(&mut Session) -> bool,
    ) -> Result<(), Error> {
        loop {
            self.transmit()?;
            let received = self.receive()?;
            if done(&mut self.session) || self.session.is_closed() {
                return self.transmit(); // What was decided just now is on its way at once.
            }
            let goes_on = if received {
                Instant::now() < until
            } else {
                self.wait(until)?
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Sends what the guest takes without waiting.
    fn transmit(&mut self) -> Result<(), Error> {
        while !self.session.poll_transmit().is_empty() {
            match send(
                &self.stream,
                self.session.poll_transmit(),
                SendFlags::NOSIGNAL,
            ) {
                Ok(len) => self.session.handle_sent(len),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // What the guest said before it went away is still to be read.
                Err(Errno::PIPE | Errno::CONNRESET) => self.session.handle_unsendable(),
                Err(error) => return Err(Error::Socket(error.into())),
            }
        }
        Ok(())
    }

    /// Takes what there is from the guest, unless nobody wants it yet. Says whether there was something.
    fn receive(&mut self) -> Result<bool, Error> {
        if self.session.is_full() {
            return Ok(false);
        }
        match recv(&self.stream, &mut *self.input, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => {
                self.session.handle_close();
                Ok(true)
            }
            Ok((len, _)) => {
                self.session.handle_input(&self.input[..len]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(Error::Socket(error.into())),
        }
    }

    /// Waits until the stream can take or give something. Says whether it can before `until`.
    fn wait(&mut self, until: Instant) -> Result<bool, Error> {
        let mut flags = PollFlags::empty();
        if !self.session.is_full() {
            flags |= PollFlags::IN;
        }
        if !self.session.poll_transmit().is_empty() {
            flags |= PollFlags::OUT;
        }
        loop {
            let left = until
                .saturating_duration_since(Instant::now())
                .min(WAIT_MAX);
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(1),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(Error::Socket(error.into())),
            }
        }
    }
}
