//! What can go wrong, and whose fault it is.

use std::io;
use std::path::PathBuf;

/// Why a front end is not served any longer, or could not be at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The front end sent what is no vhost-user message.
    #[error("the front end sent no vhost-user message: {0}")]
    Malformed(&'static str),
    /// The front end hung up in the middle of a message.
    #[error("the front end hung up in the middle of a message")]
    HalfMessage,
    /// The front end sends requests and does not read the answers.
    #[error("the front end does not read the answers to its requests")]
    Unread,
    /// The front end asked for something that is not possible, or not allowed then.
    #[error("the front end's request {request}")]
    Request {
        /// The request's name in the specification.
        request: String,
        /// What was wrong with it.
        source: vhost::vhost_user::Error,
    },
    /// A guest's queue is broken: the driver in the guest, or the front end, is at fault.
    #[error("queue {queue}")]
    Queue {
        /// The number of the queue.
        queue: usize,
        /// What was wrong with it.
        source: virtio_queue::Error,
    },
    /// A device with no queues, or too many, or with a queue size that is no power of two.
    #[error("a device with {queues} queues of up to {size} entries cannot be served")]
    Device {
        /// How many queues it has.
        queues: usize,
        /// How many entries a queue may have.
        size: u16,
    },
    /// The socket could not be made where it was wanted.
    #[error("listening on {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket, or epoll, failed.
    #[error("the front end's socket")]
    Socket(#[from] io::Error),
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Socket(errno.into())
    }
}
