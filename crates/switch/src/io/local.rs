//! In-process ports: the program that runs the switch sends and receives frames itself.
//!
//! Two bounded queues behind locks that are held for a batch on our side, and for a frame on the other. An eventfd is
//! readable as long as there is something in a queue.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::report::Counters;
use crate::state::PortId;
use crate::state::queue::{Overflow, Popped, Queue};
use crate::sys::RecvBatch;
use crate::wire::{FRAME_MAX, Span};

/// A port of a switch in the same process.
///
/// It can be used from many threads at once. Dropping it takes the port off the switch. As a descriptor it is readable
/// while a frame waits, or when the port is gone.
#[derive(Debug)]
pub struct LocalPort {
    id: PortId,
    queues: Arc<Queues>,
}

/// What is between a port and the switch.
#[derive(Debug)]
pub(super) struct Queues {
    to_switch: Side,
    to_user: Side,
}

/// A queue, and the eventfd that is readable while there is something in it.
#[derive(Debug)]
struct Side {
    state: Mutex<State>,
    event: OwnedFd,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// What has left the queue for whom it is.
    taken: Popped,
    is_closed: bool,
    is_signalled: bool,
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too many frames wait for the switch already.
    #[error("the port's queue is full")]
    Full,
    /// It is longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes; {FRAME_MAX} is the most")]
    TooLong(usize),
    /// The port is gone.
    #[error("the port was taken off its switch")]
    Closed,
}

/// Why no frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The port is gone.
    #[error("the port was taken off its switch")]
    Closed,
    /// The next frame does not fit; it waits on.
    #[error("the next frame has {0} bytes, which is more than the buffer has")]
    TooLong(usize),
}

impl LocalPort {
    pub(super) fn new(id: PortId, queues: Arc<Queues>) -> LocalPort {
        LocalPort { id, queues }
    }

    /// Names the port on its switch.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Takes the port off its switch; whoever waits for a frame gets [`RecvError::Closed`].
    #[cfg(feature = "hosts")]
    pub(super) fn close(&self) {
        self.queues.close();
    }

    /// Sends a frame: without FCS, from the target address on.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the frame was not sent then.
    pub fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        if frame.len() > FRAME_MAX {
            return Err(SendError::TooLong(frame.len()));
        }
        let side = &self.queues.to_switch;
        let mut state = side.lock();
        if state.is_closed {
            return Err(SendError::Closed);
        }
        if !state.queue.push([frame, &[]], frame.len()) {
            return Err(SendError::Full);
        }
        side.settle(&mut state);
        Ok(())
    }

    /// Puts the next frame in `buffer`, and gives its length; `None` if none is there.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        let side = &self.queues.to_user;
        let mut state = side.lock();
        match state.queue.front() {
            None if state.is_closed => Err(RecvError::Closed),
            None => Ok(None),
            Some([first, second]) => {
                let len = first.len() + second.len();
                let room = buffer.get_mut(..len).ok_or(RecvError::TooLong(len))?;
                let (head, tail) = room.split_at_mut(first.len());
                head.copy_from_slice(first);
                tail.copy_from_slice(second);
                let popped = state.queue.pop_frames(1);
                state.taken.frames += popped.frames;
                state.taken.bytes += popped.bytes;
                side.settle(&mut state);
                Ok(Some(len))
            }
        }
    }

    /// Waits for the next frame, until `until`; `None` if none came.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv_until(
        &self,
        buffer: &mut [u8],
        until: Instant,
    ) -> Result<Option<usize>, RecvError> {
        loop {
            if let Some(len) = self.recv(buffer)? {
                return Ok(Some(len));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.queues.to_user.event, PollFlags::IN)];
            // Interrupted or not, the queue says what is there.
            let _ = poll(&mut fds, timeout.as_ref());
        }
    }
}

impl AsFd for LocalPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queues.to_user.event.as_fd()
    }
}

impl Drop for LocalPort {
    fn drop(&mut self) {
        self.queues.to_switch.close();
    }
}

impl Queues {
    pub(super) fn new(frames_max: usize, bytes_max: usize) -> Result<Queues, Errno> {
        let side = || {
            Ok(Side {
                state: Mutex::new(State {
                    queue: Queue::new(frames_max, bytes_max),
                    taken: Popped::default(),
                    is_closed: false,
                    is_signalled: false,
                }),
                event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            })
        };
        Ok(Queues {
            to_switch: side()?,
            to_user: side()?,
        })
    }

    /// Gives a descriptor that is readable while frames wait for the switch.
    pub(super) fn switch_event(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.to_switch.event, 0)
    }

    /// Takes the frames that wait for the switch; gives how many, or `None` if the port was dropped.
    pub(super) fn recv(&self, batch: &mut RecvBatch) -> Option<usize> {
        let mut state = self.to_switch.lock();
        let count = batch.fill(|room| {
            let [first, second] = state.queue.front()?;
            let len = first.len() + second.len();
            let (head, tail) = room.get_mut(..len)?.split_at_mut(first.len());
            head.copy_from_slice(first);
            tail.copy_from_slice(second);
            state.queue.pop_frames(1);
            Some(len)
        });
        if count == 0 && state.is_closed {
            return None;
        }
        self.to_switch.settle(&mut state);
        Some(count)
    }

    /// Gives frames to the user; what does not fit is lost.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        frames: &[Span],
        overflow: Overflow,
        counters: &mut Counters,
        lost: &mut Vec<Span>,
    ) {
        let mut state = self.to_user.lock();
        for frame in frames {
            let pieces = [frame.of(bytes), &[]];
            let count = state.queue.push_over(overflow, pieces, frame.len());
            counters.drops.queue_full += count;
            if count > 0 && overflow == Overflow::DropNewest {
                lost.push(*frame);
            }
        }
        self.to_user.settle(&mut state);
    }

    /// Counts the frames that wait for the user, and those that the user has taken.
    pub(super) fn to_user(&self) -> (usize, Popped) {
        let state = self.to_user.lock();
        (state.queue.len(), state.taken)
    }

    /// Says to both that the port is gone.
    pub(super) fn close(&self) {
        self.to_switch.close();
        self.to_user.close();
    }
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the eventfd readable if, and only if, there is something to see.
    fn settle(&self, state: &mut State) {
        let wanted = state.is_closed || !state.queue.is_empty();
        if wanted == state.is_signalled {
            return;
        }
        state.is_signalled = wanted;
        // Neither can fail: the counter is 0 before the one, and 1 before the other.
        if wanted {
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        } else {
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.settle(&mut state);
    }
}
