//! What is sent to the guest next, and what that which arrives means.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status as the shell gives it: 0 to 255, 128 + n after signal n, 124 after a timeout.
    pub status: i32,
}

/// What became known about a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing new came in time; ask again.
    Pending,
    /// The next piece of its standard output, never empty.
    Output(Vec<u8>),
    /// All output so far belongs to an attempt of a [`Repeat`](crate::Repeat) that another one follows: forget it.
    Discard,
    /// It ended. All its output was handed out before.
    Done(Exit),
}
