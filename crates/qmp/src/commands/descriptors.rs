//! The commands that carry an open file to QEMU.

use std::os::fd::BorrowedFd;

use serde::Serialize;

use super::{Command, Empty, FdInfo};

/// Gives QEMU an open file under a name, for a later command that says `fd:NAME`.
///
/// If the name is in use, it goes to the new file, and QEMU closes the old one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GetFd<'a> {
    /// The name: anything that does not begin with a digit.
    pub fdname: &'a str,
    /// The open file; QEMU gets a duplicate.
    #[serde(skip)]
    pub file: BorrowedFd<'a>,
}

impl Command for GetFd<'_> {
    const NAME: &'static str = "getfd";
    type Answer = Empty;

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file)
    }
}

/// Adds an open file to a set, for a later command that opens `/dev/fdset/N`.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AddFd<'a> {
    /// The open file; QEMU gets a duplicate.
    #[serde(skip)]
    pub file: BorrowedFd<'a>,
    /// The set to add it to; without one, QEMU makes a new set and says its number.
    #[serde(rename = "fdset-id", skip_serializing_if = "Option::is_none")]
    pub fdset_id: Option<i64>,
    /// Words to find the file again by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opaque: Option<&'a str>,
}

impl Command for AddFd<'_> {
    const NAME: &'static str = "add-fd";
    type Answer = FdInfo;

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file)
    }
}
