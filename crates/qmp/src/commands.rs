//! A type for each command that Hotbed sends: its arguments are fields, its answer is a type.
//!
//! Optional arguments are `Option`s, and every type has a default, so a call names what it means:
//!
//! ```
//! use hotbed_qmp::commands::Screendump;
//!
//! let command = Screendump { filename: "/tmp/screen.ppm", ..Screendump::default() };
//! ```
//!
//! QEMU has many more commands; `execute` on a client sends any of them by name. A test holds each type here
//! against the schema of a real QEMU.

mod answers;
mod descriptors;
mod list;

use std::os::fd::BorrowedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use answers::*;
pub use descriptors::{AddFd, GetFd};
pub use list::*;

/// A command with its arguments, whose name and answer the compiler knows.
pub trait Command: Serialize {
    /// The name that QEMU gives the command.
    const NAME: &'static str;
    /// What QEMU answers.
    type Answer: DeserializeOwned;

    /// Gives the file that travels beside the command, if one does.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
