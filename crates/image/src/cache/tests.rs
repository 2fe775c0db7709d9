//! One builds, many wait; what is damaged is built again; what the dead leave is cleared.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use super::*;
use crate::Silent;

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().join("cache")).unwrap();
    (folder, cache)
}

fn obtain(cache: &Cache, builds: &AtomicUsize) -> Entry {
    let build = |folder: &Path| {
        builds.fetch_add(1, Ordering::SeqCst);
        files::write(&folder.join("part"), b"first half, ")?;
        thread::yield_now();
        files::write(&folder.join("file"), b"whole")?;
        Ok(Notes::from([("fact".to_owned(), "7".to_owned())]))
    };
    cache.obtain("thing", "00ff", &Silent, build).unwrap()
}

#[test]
fn many_who_ask_at_once_get_one_build() {
    let (_folder, cache) = cache();
    let builds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            // Each opens the cache anew, as a process of its own would.
            let other = Cache::at(cache.root()).unwrap();
            let builds = &builds;
            scope.spawn(move || {
                let entry = obtain(&other, builds);
                assert_eq!(files::read(&entry.path("file"), 100).unwrap(), b"whole");
                assert_eq!(entry.note("fact").unwrap(), "7");
            });
        }
    });
    assert_eq!(builds.into_inner(), 1);
    assert!(files::names(&cache.root().join("tmp")).unwrap().is_empty());
}

#[test]
fn what_was_built_is_listed_with_its_size() {
    let (_folder, cache) = cache();
    assert_eq!(cache.list().unwrap(), []);
    let entry = obtain(&cache, &AtomicUsize::new(0));
    let sizes =
        ["part", "file", "manifest.json"].map(|name| fs::metadata(entry.path(name)).unwrap().len());
    fs::write(cache.root().join("entries").join("stray"), b"not an entry").unwrap();
    let listed = cache.list().unwrap();
    let [one] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((&*one.kind, &*one.key), ("thing", "00ff"));
    assert_eq!(one.bytes, sizes.iter().sum::<u64>());
    assert!(one.built.elapsed().unwrap().as_secs() < 60);
}

#[test]
fn a_damaged_entry_is_built_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("truncated", |path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(3)
                .unwrap()
        }),
        ("altered", |path| fs::write(path, b"whale").unwrap()),
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("without its manifest", |path| {
            fs::remove_file(path.with_file_name("manifest.json")).unwrap()
        }),
        ("with half a manifest", |path| {
            fs::write(path.with_file_name("manifest.json"), b"{\"files\": {").unwrap()
        }),
    ];
    for (what, damage) in damages {
        let (_folder, cache) = cache();
        let builds = AtomicUsize::new(0);
        damage(&obtain(&cache, &builds).path("file"));
        let entry = obtain(&cache, &builds);
        assert_eq!(builds.load(Ordering::SeqCst), 2, "{what}");
        assert_eq!(
            files::read(&entry.path("file"), 100).unwrap(),
            b"whole",
            "{what}"
        );
        obtain(&cache, &builds);
        assert_eq!(
            builds.load(Ordering::SeqCst),
            2,
            "{what}: built for nothing"
        );
    }
}

#[test]
fn a_copied_cache_is_still_good() {
    let (_folder, cache) = cache();
    let builds = AtomicUsize::new(0);
    let file = obtain(&cache, &builds).path("file");
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, content).unwrap();
    obtain(&cache, &builds);
    assert_eq!(builds.into_inner(), 1);
}

#[test]
fn a_failed_build_leaves_nothing_and_the_next_one_builds() {
    let (_folder, cache) = cache();
    let fail = |folder: &Path| {
        files::write(&folder.join("file"), b"ha")?;
        Err(Error::Interrupted)
    };
    assert!(matches!(
        cache.obtain("thing", "00ff", &Silent, fail),
        Err(Error::Interrupted)
    ));
    for folder in ["tmp", "entries"] {
        assert!(
            files::names(&cache.root().join(folder)).unwrap().is_empty(),
            "{folder}"
        );
    }
    obtain(&cache, &AtomicUsize::new(0));
}

#[test]
fn opening_clears_what_the_dead_left_and_spares_the_living() {
    let (_folder, cache) = cache();
    fs::create_dir_all(cache.root().join("tmp/thing-1.77.0/entry")).unwrap();
    let living = cache.workspace("thing-2").unwrap();
    Cache::at(cache.root()).unwrap();
    assert_eq!(
        files::names(&cache.root().join("tmp")).unwrap(),
        [living.path().file_name().unwrap()]
    );
    let path = living.path().to_owned();
    drop(living);
    assert!(!path.exists());
}

#[test]
fn whoever_waits_can_give_up() {
    struct GiveUp;
    impl Progress for GiveUp {
        fn step(&self, message: &str) {
            assert!(message.contains("waiting"), "{message}");
        }
        fn line(&self, _text: &str) {}
        fn is_interrupted(&self) -> bool {
            true
        }
    }
    let (_folder, cache) = cache();
    let _held = cache.lock("thing-00ff", &Silent).unwrap();
    let build = |_: &Path| unreachable!("the lock is held");
    assert!(matches!(
        cache.obtain("thing", "00ff", &GiveUp, build),
        Err(Error::Interrupted)
    ));
}

fn store(cache: &Cache, key: &str) -> Stored {
    let fill = |folder: &Path| {
        let file = File::create(folder.join("ram.sparse")).unwrap();
        file.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 1 << 20], 32 << 20).unwrap();
        Ok(Notes::from([("way".to_owned(), "file".to_owned())]))
    };
    cache.store("snapshot", key, &Silent, fill).unwrap()
}

#[test]
fn what_others_keep_is_found_again_and_takes_the_room_of_its_data_only() {
    let (_folder, cache) = cache();
    assert!(cache.stored("snapshot", "aa").is_none());
    store(&cache, "aa");
    let found = cache.stored("snapshot", "aa").unwrap();
    assert_eq!(found.note("way").unwrap(), "file");
    assert_eq!(
        fs::metadata(found.path("ram.sparse")).unwrap().len(),
        64 << 20
    );
    assert!(cache.list().unwrap()[0].bytes < 2 << 20);
    cache.remove("snapshot", "aa").unwrap();
    assert!(cache.stored("snapshot", "aa").is_none());
    cache.remove("snapshot", "aa").unwrap();
}

/// Has an entry been used so many days ago.
#[expect(clippy::disallowed_methods, reason = "what is old is so from now")]
fn age(path: PathBuf, days: u64) {
    let then = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
    let used = File::options().create(true).append(true).open(path);
    used.unwrap().set_modified(then).unwrap();
}

fn limit(bytes: u64) -> Limit {
    Limit {
        bytes,
        ..Limit::default()
    }
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| &*listed.key).collect()
}

#[test]
fn what_was_of_no_use_for_longest_goes_first() {
    let (_folder, cache) = cache();
    for (key, days) in [("aa", 30), ("bb", 10), ("cc", 20)] {
        age(store(&cache, key).path("used"), days);
    }
    obtain(&cache, &AtomicUsize::new(0));
    let gone = cache.make_room(&["snapshot"], &limit(5 << 19)).unwrap();
    assert_eq!(keys(&gone), ["aa"]);
    assert!(cache.stored("snapshot", "cc").is_some());
    assert_eq!(cache.list().unwrap().len(), 3, "other kinds stay");
    // What was used just now is used last, whatever it was before.
    let gone = cache.make_room(&["snapshot"], &limit(3 << 19)).unwrap();
    assert_eq!(keys(&gone), ["bb"]);
}

#[test]
fn what_somebody_uses_stays_whatever_the_limit() {
    let (_folder, cache) = cache();
    let held = store(&cache, "aa").lease();
    let second = held.clone();
    drop(held);
    store(&cache, "bb");
    assert!(cache.is_in_use("snapshot", "aa"));
    let gone = cache.make_room(&["snapshot"], &limit(0)).unwrap();
    assert_eq!(keys(&gone), ["bb"]);
    drop(second);
    assert!(!cache.is_in_use("snapshot", "aa"));
    let gone = cache.make_room(&["snapshot"], &limit(0)).unwrap();
    assert_eq!(keys(&gone), ["aa"]);
    assert!(!cache.is_in_use("snapshot", "aa"));
    assert!(files::names(&cache.root().join("tmp")).unwrap().is_empty());
}

#[test]
fn an_image_goes_when_there_is_too_much_and_nobody_used_it_for_long() {
    let (_folder, cache) = cache();
    let builds = AtomicUsize::new(0);
    let used = obtain(&cache, &builds).path("used");
    store(&cache, "aa");
    let none: [&str; 0] = [];
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(1 << 30)).unwrap()),
        none
    );
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(0)).unwrap()),
        ["aa"]
    );
    age(used.clone(), 29);
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(0)).unwrap()),
        none
    );
    age(used.clone(), 31);
    obtain(&cache, &builds);
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(0)).unwrap()),
        none
    );
    age(used, 31);
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(1 << 30)).unwrap()),
        none
    );
    assert_eq!(
        keys(&cache.make_room(&["snapshot"], &limit(0)).unwrap()),
        ["00ff"]
    );
    assert_eq!(builds.into_inner(), 1);
}

#[test]
fn an_image_is_in_use_as_long_as_somebody_holds_it() {
    let (_folder, cache) = cache();
    let entry = obtain(&cache, &AtomicUsize::new(0));
    let image = crate::Image {
        kind: crate::Kind::Micro,
        kernel: "/boot/vmlinuz".into(),
        initrd: entry.path("file"),
        root: None,
        digest: String::new(),
    };
    let held = cache.hold(&image).unwrap();
    assert!(cache.is_in_use("thing", "00ff"));
    drop(held);
    assert!(!cache.is_in_use("thing", "00ff"));
    cache.remove("thing", "00ff").unwrap();
    assert!(cache.hold(&image).is_none());
}

#[test]
fn uses_are_counted_though_many_use_it_at_once() {
    let (_folder, cache) = cache();
    drop(store(&cache, "aa"));
    assert_eq!(cache.list().unwrap()[0].hits, 0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert!(cache.stored("snapshot", "aa").is_some());
                }
            });
        }
    });
    let [listed] = &cache.list().unwrap()[..] else {
        panic!("one entry")
    };
    assert_eq!(listed.hits, 200);
    assert!(
        listed.apparent > 64 << 20 && listed.bytes < 2 << 20,
        "{listed:?}"
    );
}

#[test]
fn a_limit_is_a_size() {
    let bytes = |text: &str| text.parse::<Limit>().map(|limit| limit.bytes);
    for (text, want) in [
        ("0", 0),
        ("4096", 4096),
        ("3K", 3 << 10),
        ("512M", 512 << 20),
        ("20g", 20 << 30),
        ("2TiB", 2 << 40),
    ] {
        assert_eq!(bytes(text), Ok(want), "{text}");
    }
    for text in ["", "G", "-1", "1.5G", "1 G", "1GB", "99999999999T", "x1"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn a_byte_that_changed_is_found_though_size_and_time_are_the_same() {
    let (_folder, cache) = cache();
    store(&cache, "aa");
    let path = store(&cache, "bb").path("ram.sparse");
    assert!(cache.verify().unwrap().is_empty());
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[2], 33 << 20).unwrap();
    file.set_modified(time).unwrap();
    let gone = cache.verify().unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!((&*gone[0].key, cache.list().unwrap().len()), ("bb", 1));
}

#[test]
fn a_tree_is_found_wherever_it_is_without_reading_its_files_and_is_never_written() {
    let (folder, cache) = cache();
    let stored = store(&cache, "aa");
    let place = folder.path().join("made");
    let tree = Tree::at(&place).unwrap();
    tree.put("snapshot", "aa", &stored, &Silent).unwrap();
    tree.put("snapshot", "aa", &stored, &Silent).unwrap();
    tree.finish().unwrap();
    assert_eq!(files::names(&place).unwrap(), ["entries"]);
    // As a store of Nix has it: at another place, without holes, with that time.
    let moved = folder.path().join("moved");
    let inside = moved.join("entries/snapshot-aa");
    fs::create_dir_all(&inside).unwrap();
    for name in files::names(&place.join("entries/snapshot-aa")).unwrap() {
        let copy = inside.join(&name);
        fs::write(
            &copy,
            fs::read(stored.path(&name.to_string_lossy())).unwrap(),
        )
        .unwrap();
        files::sync_as_of(&copy, Duration::from_secs(1)).unwrap();
    }
    fs::remove_dir_all(place).unwrap();
    let (_other, empty) = self::cache();
    let other = empty.with_tree(&moved).unwrap();
    let file = File::options().write(true).open(inside.join("ram.sparse"));
    let file = file.unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"?", 0).unwrap();
    file.set_modified(time).unwrap();
    assert!(other.has("snapshot", "aa") && other.stored("snapshot", "aa").is_some());
    assert!(!other.tree().unwrap().is_sound("snapshot", "aa"));
    assert!(other.list().unwrap().is_empty() && !inside.join("used").exists());
    // What is made again is the cache's own.
    let own = store(&other, "aa");
    assert!(own.path("ram.sparse").starts_with(other.root()));
    let found = other.stored("snapshot", "aa").unwrap();
    assert_eq!(found.path("ram.sparse"), own.path("ram.sparse"));
    assert!(matches!(
        Tree::at(other.root().join("locks")),
        Err(Error::Malformed { .. })
    ));
    assert!(
        Cache::at(folder.path().join("x"))
            .unwrap()
            .with_tree(folder.path())
            .is_err()
    );
}

#[test]
fn the_digest_of_a_file_is_remembered_until_the_file_changes() {
    let (folder, cache) = cache();
    let file = folder.path().join("program");
    fs::write(&file, b"one").unwrap();
    let one = cache.digest_of(&file).unwrap();
    assert_eq!(one, files::digest(&file).unwrap());
    // What is remembered counts; what is damaged does not.
    let memory = cache.root().join("digests");
    let memory = memory.join(&files::names(&memory).unwrap()[0]);
    fs::write(&memory, "f".repeat(64)).unwrap();
    assert_eq!(cache.digest_of(&file).unwrap(), "f".repeat(64));
    fs::write(&memory, "f").unwrap();
    assert_eq!(cache.digest_of(&file).unwrap(), one);
    fs::write(&file, b"two").unwrap();
    assert_ne!(cache.digest_of(&file).unwrap(), one);
}
