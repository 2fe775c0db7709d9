//! Archives are read back by the cpio crate's own reader.

use std::io::Read as _;

use cpio::newc::Reader;

use super::*;

fn listing(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut entries = Vec::new();
    loop {
        let mut reader = Reader::new(bytes).unwrap();
        if reader.entry().is_trailer() {
            return entries;
        }
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        entries.push((name, mode, content));
        bytes = reader.finish().unwrap();
    }
}

#[test]
fn folders_come_before_what_is_in_them_and_only_once() {
    let mut archive = Initramfs::default();
    archive.file("usr/lib/a", 0o644, b"abc").unwrap();
    archive.file("usr/lib/b", 0o755, b"").unwrap();
    archive.link("bin/sh", "busybox").unwrap();
    archive.folder("tmp", 0o1777).unwrap();
    archive.folder("usr", 0o700).unwrap();
    let entries = listing(&archive.finish().unwrap());
    let names: Vec<(&str, u32)> = entries
        .iter()
        .map(|(name, mode, _)| (name.as_str(), *mode))
        .collect();
    let expected = [
        ("usr", 0o040_755),
        ("usr/lib", 0o040_755),
        ("usr/lib/a", 0o100_644),
        ("usr/lib/b", 0o100_755),
        ("bin", 0o040_755),
        ("bin/sh", 0o120_777),
        ("tmp", 0o041_777),
    ];
    assert_eq!(names, expected);
    assert_eq!(entries[2].2, b"abc");
    assert_eq!(entries[5].2, b"busybox");
}

#[test]
fn another_archive_can_follow() {
    let mut archive = Initramfs::default();
    archive.file("x", 0o644, b"odd").unwrap();
    assert_eq!(archive.finish().unwrap().len() % ALIGNMENT, 0);
}
