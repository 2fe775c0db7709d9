//! Files and folders, both ways.

use crate::support::{is_root, run, soon, start};
use hotbed_console::agent::wire::{Entry, EntryKind, Put, PutKind};
use hotbed_console::agent::{Agent, Error, GetProgress, Putting};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};

/// Another owner than oneself.
fn owner() -> Option<(u32, u32)> {
    is_root("the owner of a file").then_some((7, 8))
}

fn begin(agent: &Agent, path: &str, mode: u32, len: u64) -> Putting {
    let put = Put {
        path: path.to_owned(),
        kind: PutKind::File { mode, len },
        owner: owner(),
    };
    agent.put(put).unwrap()
}

/// Pieces of a file, each at its offset.
type Pieces = Vec<(u64, Vec<u8>)>;

fn get(agent: &Agent, path: &str) -> Result<(Entry, Pieces), Error> {
    let getting = agent.get(path)?;
    let (mut entry, mut data) = (None, Pieces::new());
    loop {
        match getting.poll(soon())? {
            GetProgress::Entry(found) => entry = Some(found),
            GetProgress::Data(offset, bytes) => data.push((offset, bytes)),
            GetProgress::Done => return Ok((entry.expect("what it is comes first"), data)),
            GetProgress::Pending => panic!("no answer"),
        }
    }
}

fn joined(data: Pieces) -> Vec<u8> {
    data.into_iter().flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_file_gets_its_bytes_mode_and_owner_and_appears_whole() {
    let (guest, agent) = start();
    let path = guest.path("a/new/folder/file");
    let putting = begin(&agent, &path, 0o640, 5);
    assert_eq!(putting.write(0, b"hel", soon()), 3);
    agent.ping(soon()).unwrap().unwrap();
    assert!(!std::fs::exists(&path).unwrap(), "it is there too early");
    assert_eq!(putting.write(3, b"lo", soon()), 2);
    putting.finish();
    putting.poll(soon()).unwrap().unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    let own = (metadata.uid(), metadata.gid());
    assert_eq!(own, owner().unwrap_or(own));
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    let (entry, data) = get(&agent, &path).unwrap();
    let kind = EntryKind::File { len: 5 };
    assert_eq!(
        entry,
        Entry {
            kind,
            mode: 0o640,
            owner: own
        }
    );
    assert_eq!(joined(data), b"hello");
}

#[test]
fn much_data_comes_through_both_ways() {
    let (guest, agent) = start();
    let path = guest.path("large");
    let bytes: Vec<u8> = (0..20_000_003_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let putting = begin(&agent, &path, 0o600, bytes.len() as u64);
    assert_eq!(putting.write(0, &bytes, soon()), bytes.len());
    putting.finish();
    putting.poll(soon()).unwrap().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    let (_, data) = get(&agent, &path).unwrap();
    assert!(joined(data) == bytes);
}

#[test]
fn holes_stay_holes_both_ways() {
    const LEN: u64 = 1 << 30;
    let (guest, agent) = start();
    let path = guest.path("sparse");
    let putting = begin(&agent, &path, 0o600, LEN);
    putting.write(LEN / 2, b"middle", soon());
    putting.finish();
    putting.poll(soon()).unwrap().unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), LEN);
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} blocks",
        metadata.blocks()
    );
    let (entry, data) = get(&agent, &path).unwrap();
    assert_eq!(entry.kind, EntryKind::File { len: LEN });
    let total: usize = data.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total < 1 << 20, "{total} bytes came");
    let copy = std::fs::File::create(guest.path("copy")).unwrap();
    for (offset, bytes) in data {
        copy.write_all_at(&bytes, offset).unwrap();
    }
    let mut middle = [0; 6];
    let copy = std::fs::File::open(guest.path("copy")).unwrap();
    copy.read_exact_at(&mut middle, LEN / 2).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn what_is_cancelled_or_fails_leaves_nothing_behind() {
    let (guest, agent) = start();
    let folder = guest.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let putting = begin(&agent, &format!("{folder}/file"), 0o600, 100);
    putting.write(0, b"x", soon());
    drop(putting);
    let putting = begin(&agent, &format!("{folder}/file"), 0o600, 2);
    putting.write(0, b"too long", soon());
    putting.finish();
    let error = putting.poll(soon()).unwrap_err();
    assert!(error.to_string().contains("more bytes"), "{error}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let error = get(&agent, "/nowhere").unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
    let putting = begin(&agent, &folder, 0o600, 2);
    assert!(
        putting
            .poll(soon())
            .unwrap_err()
            .to_string()
            .contains("is a folder")
    );
}

#[test]
fn files_without_a_length_and_files_that_cannot_be_replaced_work() {
    let (_guest, agent) = start();
    let (entry, data) = get(&agent, "/proc/self/status").unwrap();
    assert_eq!(entry.kind, EntryKind::File { len: 0 });
    assert!(joined(data).starts_with(b"Name:\thotbed-agent\n"));
    let putting = begin(&agent, "/dev/null", 0o600, 3);
    putting.write(0, b"abc", soon());
    putting.finish();
    putting.poll(soon()).unwrap().unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_folder_goes_both_ways_as_a_tar_stream() {
    let (guest, agent) = start();
    let from = guest.path("from");
    run(
        &agent,
        &format!(
            "mkdir -p {from}/sub; echo a >{from}/sub/a; ln -s a {from}/sub/link; chmod 751 {from}/sub; head -c 3000000 /dev/zero >{from}/zeros"
        ),
    );
    let (entry, data) = get(&agent, &from).unwrap();
    assert_eq!(entry.kind, EntryKind::Folder);
    let stream = joined(data);
    for owner in [None, owner()] {
        let to = guest.path(&format!("to/{}", owner.is_some()));
        let putting = agent
            .put(Put {
                path: to.clone(),
                kind: PutKind::Folder,
                owner,
            })
            .unwrap();
        assert_eq!(putting.write(0, &stream, soon()), stream.len());
        putting.finish();
        putting.poll(soon()).unwrap().unwrap();
        assert_eq!(
            run(&agent, &format!("diff -r {from} {to} && cat {to}/sub/link")).text(),
            "a\n"
        );
        let metadata = std::fs::metadata(format!("{to}/sub")).unwrap();
        let from = std::fs::metadata(&from).unwrap();
        let own = (from.uid(), from.gid());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o751);
        assert_eq!((metadata.uid(), metadata.gid()), owner.unwrap_or(own));
    }
    // What is no tar stream fails, and says so.
    let put = Put {
        path: guest.path("none"),
        kind: PutKind::Folder,
        owner: None,
    };
    let putting = agent.put(put).unwrap();
    putting.write(0, &[b'x'; 2000], soon());
    putting.finish();
    assert!(putting.poll(soon()).is_err());
}
