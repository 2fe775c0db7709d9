//! A command between its being sent and its being answered.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Handle;
use crate::error::Error;
use crate::io::link::{duplicates, read_answer};
use crate::state::CommandId;
use crate::wire::Execution;

/// A command that was sent, and whose answer is still to come.
///
/// If it is dropped, the answer is let go; the command runs all the same.
#[derive(Debug)]
pub struct Pending {
    handle: Arc<Handle>,
    id: CommandId,
    command: String,
}

impl Pending {
    pub(super) fn submit<A: Serialize + ?Sized>(
        handle: &Arc<Handle>,
        execution: Execution,
        command: &str,
        arguments: Option<&A>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Pending, Error> {
        let files = duplicates(fds)?;
        let mut link = handle.lock();
        let id = link.session.submit(execution, command, arguments, files)?;
        handle.flush(&mut link);
        Ok(Pending {
            handle: Arc::clone(handle),
            id,
            command: command.to_owned(),
        })
    }

    /// Gives the answer as soon as it comes; none at `until`, after which the caller may wait again.
    ///
    /// # Errors
    ///
    /// If QEMU refuses the command or goes away, or the answer was given already.
    pub async fn wait(&mut self, until: Instant) -> Result<Option<Value>, Error> {
        self.wait_as(until).await
    }

    /// Gives the command's name.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    async fn wait_as<T: DeserializeOwned>(&mut self, until: Instant) -> Result<Option<T>, Error> {
        let answer = self
            .handle
            .wait(until, |link| {
                link.session.poll_answer(self.id, &self.command)
            })
            .await?;
        answer
            .map(|answer| read_answer(&self.command, &answer))
            .transpose()
    }

    pub(super) async fn finish<T: DeserializeOwned>(mut self, until: Instant) -> Result<T, Error> {
        self.wait_as(until).await?.ok_or_else(|| Error::Timeout {
            command: self.command.clone(),
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.handle.lock().session.abandon(self.id);
    }
}
