//! Reads and writes the stream to the guest, with deadlines.

use crate::{Command, Error, Progress};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A guest's root shell, over the stream of the chardev behind its first virtio console.
///
/// Every call that waits takes the moment `until` when it gives up; nothing is lost then, and the same call goes on where
/// it was. One thread drives it.
#[derive(Debug)]
pub struct Shell {
    stream: UnixStream,
}

impl Shell {
    /// Takes the stream over.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when the stream cannot be switched to non-blocking.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream })
    }

    /// Waits until the guest's root shell announces itself, and returns what the guest said up to then.
    ///
    /// The text is bounded: of a talkative guest it holds the end. `Ok(None)` at `until`. Once the shell is ready it returns
    /// an empty text at once.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Socket`].
    pub fn poll_ready(&mut self, until: Instant) -> Result<Option<Vec<u8>>, Error> {
        let _ = until;
        Ok(None)
    }

    /// Forgets the root shell that is there, because the guest reboots or switches its root: another will announce itself.
    pub fn expect_ready(&mut self) {}

    /// Takes it that the root shell is waiting for a command, without an announcement: the guest was restored.
    pub fn assume_ready(&mut self) {}

    /// Whether the root shell announced itself and is there.
    pub fn is_ready(&self) -> bool {
        false
    }

    /// The last bytes that the guest sent and that are no answer: kernel messages, what it said before the shell was ready.
    pub fn heard(&self) -> &[u8] {
        &[]
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
        let _ = (command, until);
        Err(Error::NotReady)
    }

    /// Waits for the next piece of the answer of the command (or file) begun last.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Restarted`], [`Error::Garbled`], [`Error::Unable`], [`Error::NotReady`] (nothing was
    /// begun), [`Error::Socket`]. Output that came before is handed out first.
    pub fn poll_output(&mut self, until: Instant) -> Result<Progress, Error> {
        let _ = until;
        Err(Error::NotReady)
    }

    /// Sends a command whose answer nobody waits for, such as one that ends the root shell.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_detached(&mut self, script: &str, until: Instant) -> Result<(), Error> {
        let _ = (script, until);
        Err(Error::NotReady)
    }

    /// Begins to put a file of `len` bytes at `target` in the guest; its parent directories are made.
    ///
    /// The bytes follow by [`put_chunk`](Self::put_chunk), then [`poll_output`](Self::poll_output) says how it went. The
    /// guest needs `head`, and `mkdir` for directories. Beginning something else before all bytes were given leaves a part
    /// of the file in the guest.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_put(&mut self, target: &str, len: u64, until: Instant) -> Result<(), Error> {
        let _ = (target, len, until);
        Err(Error::NotReady)
    }

    /// Sends the next bytes of a file, and returns how many were taken: fewer than all only at `until`.
    ///
    /// # Errors
    ///
    /// [`Error::PutOverrun`], [`Error::Closed`], [`Error::Restarted`], [`Error::Socket`].
    pub fn put_chunk(&mut self, bytes: &[u8], until: Instant) -> Result<usize, Error> {
        let _ = (bytes, until);
        Err(Error::PutOverrun)
    }

    /// Sends bytes as they are, for example `poweroff\n`; the shell reads them when it has nothing else to do.
    ///
    /// # Errors
    ///
    /// [`Error::Backlog`], [`Error::Closed`], [`Error::Socket`].
    pub fn send_raw(&mut self, bytes: &[u8], until: Instant) -> Result<(), Error> {
        let _ = (bytes, until, &self.stream);
        Ok(())
    }
}
