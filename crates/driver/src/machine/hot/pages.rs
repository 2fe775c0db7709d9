//! The memory that a running machine has changed since it began from a file: pages of its own, over those of the file.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::ram::{CHUNK, Memory, PAGE};
use crate::{Call, Error};

/// Bytes of `/proc/<pid>/pagemap` for a page.
const ENTRY: usize = 8;
/// Of an entry: the page is in memory, is swapped out, is one of the file's.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Entries that are read at once.
const ENTRIES: usize = 64 << 10;

/// Where a part of a file is mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    addresses: Range<u64>,
    offset: u64,
}

/// Copies the pages that process `pid`, which stands still, has changed of the private mapping of `file` over those of `target`; gives
/// how many bytes that are.
pub(super) fn copy_changed(
    pid: u32,
    file: &File,
    target: &Memory,
    call: &Call<'_>,
) -> Result<u64, Error> {
    let failed = || Error::host("cannot read the memory of QEMU");
    let inode = file.metadata().map_err(failed())?.ino();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(failed())?;
    let mappings: Vec<Mapping> = mappings(&maps, inode).collect();
    if mappings.is_empty() {
        return Err(Error::Machine(
            "QEMU does not map its memory as it was told to".to_owned(),
        ));
    }
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).map_err(failed())?;
    let memory = File::open(format!("/proc/{pid}/mem")).map_err(failed())?;
    let mut copied = 0;
    for mapping in mappings {
        copied += copy_mapping(&pagemap, &memory, &mapping, target, call)?;
    }
    Ok(copied)
}

fn copy_mapping(
    pagemap: &File,
    memory: &File,
    mapping: &Mapping,
    target: &Memory,
    call: &Call<'_>,
) -> Result<u64, Error> {
    let failed = || Error::host("cannot read the memory of QEMU");
    let page = PAGE as u64;
    let mut copied = 0;
    let mut entries = vec![0_u8; ENTRIES * ENTRY];
    let mut buffer = vec![0_u8; CHUNK];
    let mut at = mapping.addresses.start;
    while at < mapping.addresses.end {
        call.slice(&|| "copying a machine's memory".to_owned())?;
        let pages = ((mapping.addresses.end - at) / page).min(ENTRIES as u64);
        let len = usize::try_from(pages).map_or(0, |pages| pages * ENTRY);
        let entries = entries.get_mut(..len).unwrap_or_default();
        pagemap
            .read_exact_at(entries, at / page * ENTRY as u64)
            .map_err(failed())?;
        for run in changed(entries) {
            let (mut from, to) = (at + run.start * page, at + run.end * page);
            while from < to {
                let len = usize::try_from(to - from).map_or(CHUNK, |left| left.min(CHUNK));
                let bytes = buffer.get_mut(..len).unwrap_or_default();
                memory.read_exact_at(bytes, from).map_err(failed())?;
                let place = from - mapping.addresses.start + mapping.offset;
                target.write_at(bytes, place).map_err(failed())?;
                from += len as u64;
                copied += len as u64;
            }
        }
        at += pages.max(1) * page;
    }
    Ok(copied)
}

/// The runs of pages that are a process's own, by number.
fn changed(entries: &[u8]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for (number, entry) in (0..).zip(entries.chunks_exact(ENTRY)) {
        let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
        if entry & (PRESENT | SWAPPED) == 0 || entry & OF_FILE != 0 {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == number => run.end = number + 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

/// Where a file is mapped for writing, by the lines of `/proc/<pid>/maps`; paths there may be others than those by which it was opened.
fn mappings(maps: &str, inode: u64) -> impl Iterator<Item = Mapping> {
    maps.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_private = words.next()? == "rw-p";
        let offset = words.next()?;
        let is_it = words.nth(1)?.parse() == Ok(inode);
        let hex = |text| u64::from_str_radix(text, 16).ok();
        (is_private && is_it).then_some(Mapping {
            addresses: hex(start)?..hex(end)?,
            offset: hex(offset)?,
        })
    })
}

impl Memory {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file().write_all_at(bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_mappings_of_a_file_are_found_by_its_inode() {
        let maps = "7f00-8000 rw-p 00001000 00:01 42   /memfd:hotbed-ram (deleted)\n\
                    8000-9000 r--p 00002000 00:01 42   /memfd:hotbed-ram (deleted)\n\
                    9000-a000 rw-s 00000000 00:01 42   /memfd:hotbed-ram (deleted)\n\
                    a000-b000 rw-p 00000000 00:00 0\nodd\n";
        let found: Vec<Mapping> = mappings(maps, 42).collect();
        let only = Mapping {
            addresses: 0x7f00..0x8000,
            offset: 0x1000,
        };
        assert_eq!(found, [only]);
    }

    #[test]
    fn changed_pages_are_those_in_memory_or_swapped_that_are_not_the_files() {
        let entries = [0, PRESENT, SWAPPED, PRESENT | OF_FILE, PRESENT];
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_ne_bytes())
            .collect();
        assert_eq!(changed(&bytes), [1..3, 4..5]);
    }
}
