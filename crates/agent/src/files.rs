//! Files and folders, into the guest and out of it.
//!
//! A file goes through the loop itself, a piece at a time. A folder is a tar stream, which our own program packs or unpacks in a process
//! of its own: it may take its time there, and is a command like any other.

use crate::failure::Failure;
use hotbed_console::agent::wire::{Entry, EntryKind};
use rustix::fs::Stat;
use std::path::Path;

pub(crate) mod folder;
pub(crate) mod get;
pub(crate) mod put;

/// What a folder is, for the host.
pub(crate) fn folder_entry(path: &str) -> Result<Entry, Failure> {
    let stat = rustix::fs::stat(path)
        .map_err(|error| Failure::os(format_args!("cannot read {path}"), error))?;
    Ok(entry(EntryKind::Folder, &stat))
}

fn entry(kind: EntryKind, stat: &Stat) -> Entry {
    Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
    }
}

/// How our own program is told to pack a folder.
pub(crate) fn pack_arguments(path: &str) -> Vec<String> {
    vec!["pack".to_owned(), path.to_owned()]
}

/// How our own program is told to unpack one.
pub(crate) fn unpack_arguments(path: &str, owner: Option<(u32, u32)>) -> Vec<String> {
    let mut arguments = vec!["unpack".to_owned(), path.to_owned()];
    if let Some((user, group)) = owner {
        arguments.extend([user.to_string(), group.to_string()]);
    }
    arguments
}

/// Makes the folders above a path.
fn make_parents(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(parent) if !parent.is_dir() => std::fs::create_dir_all(parent).map_err(|error| {
            Failure::os(
                format_args!("cannot make the folder {}", parent.display()),
                error,
            )
        }),
        _ => Ok(()),
    }
}
