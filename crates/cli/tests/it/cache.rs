//! `hotbed cache`, on caches of its own making.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hotbed_image::cache::{Notes, Stored};
use hotbed_image::{Cache, Silent};

use crate::support::{Ended, Place};

/// A cache with a snapshot for each of these keys, each of 1 MiB of data and 15 of holes.
fn cache(place: &Place, keys: &[&str]) -> (Cache, Vec<Stored>) {
    let cache = Cache::at(place.path("cache/hotbed")).expect("a cache");
    let fill = |folder: &std::path::Path| {
        let file = fs::File::create(folder.join("ram.sparse")).expect("a cache");
        file.set_len(16 << 20).expect("a cache");
        file.write_all_at(&[1; 1 << 20], 8 << 20).expect("a cache");
        Ok(Notes::from([("way".to_owned(), "file".to_owned())]))
    };
    let store = |key: &&str| {
        cache
            .store("snapshot", key, &Silent, fill)
            .expect("a cache")
    };
    let stored = keys.iter().map(store).collect();
    (cache, stored)
}

fn hotbed(place: &Place, arguments: &[&str]) -> Ended {
    let mut command = place.command(&["cache"]);
    Ended::of(
        command
            .args(arguments)
            .env("XDG_CACHE_HOME", place.path("cache"))
            .env_remove("HOTBED_CACHE_LIMIT"),
    )
}

#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    // How many minutes it takes to get here is the host's matter.
    let words_of = |line: &str| {
        let mut words: Vec<_> = line.split_whitespace().collect();
        for index in 1..words.len() {
            if words[index] == "min" {
                words[index - 1] = "N";
            }
        }
        words.join(" ")
    };
    let text: Vec<String> = ended.stdout.lines().map(words_of).collect();
    for word in words {
        assert!(
            text.iter().any(|line| line.contains(word)),
            "{word}: {ended}"
        );
    }
}

#[test]
fn entries_are_listed_and_shown_with_sizes_uses_and_notes() {
    let place = Place::new();
    let (cache, stored) = cache(&place, &["aa11", "bb22"]);
    drop(stored);
    let _used = cache.stored("snapshot", "bb22").unwrap();
    let list = hotbed(&place, &["list"]);
    list.expect(0, &[]);
    says(
        &list,
        &[
            "KIND KEY ON DISK SIZE BUILT USES LAST USE",
            "snapshot aa11 1 MiB 16 MiB N min ago 0 never",
            "snapshot bb22 1 MiB 16 MiB N min ago 1 in use",
            "2 entries, 2 MiB on the disk, 2 MiB of it snapshots and checkpoints (limit 8192 MiB)",
        ],
    );
    let show = hotbed(&place, &["show", "bb"]);
    show.expect(0, &[]);
    says(
        &show,
        &[
            "key bb22",
            "uses 1, last N min ago",
            "in use true",
            "note way = file",
            "file ram.sparse 16 MiB (1 MiB on the disk)",
        ],
    );
    hotbed(&place, &["show", "cc"]).expect(2, &["no entry", "`cc`"]);
    hotbed(&place, &["show", ""]).expect(2, &["the beginning of 2 keys"]);
}

#[test]
fn gc_removes_what_was_used_least_recently_but_nothing_that_is_in_use() {
    let place = Place::new();
    let (cache, mut stored) = cache(&place, &["aa", "bb", "cc"]);
    for (key, age) in [("aa", 3), ("bb", 2), ("cc", 1)] {
        let used = place.path(&format!("cache/hotbed/entries/snapshot-{key}/used"));
        let file = fs::File::create(used).unwrap();
        let hours = std::time::Duration::from_secs(age * 3600);
        file.set_modified(std::time::SystemTime::now() - hours)
            .unwrap();
    }
    stored.truncate(1);
    let gc = hotbed(&place, &["gc", "--limit", "2500K"]);
    gc.expect(0, &[]);
    says(
        &gc,
        &[
            "removed: snapshot bb",
            "last used 2 h ago",
            "1 entry removed",
        ],
    );
    drop(stored);
    let mut command = place.command(&["cache", "gc"]);
    command.env("XDG_CACHE_HOME", place.path("cache"));
    let gc = Ended::of(command.env("HOTBED_CACHE_LIMIT", "0"));
    says(&gc, &["2 entries removed"]);
    assert!(cache.list().unwrap().is_empty());
    Ended::of(command.env("HOTBED_CACHE_LIMIT", "much")).expect(2, &["HOTBED_CACHE_LIMIT", "much"]);
    hotbed(&place, &["gc", "--limit", "1.5G"]).expect(2, &["--limit"]);
}

#[test]
fn verify_finds_and_removes_what_was_altered() {
    let place = Place::new();
    let (cache, stored) = cache(&place, &["aa", "bb"]);
    drop(stored);
    says(&hotbed(&place, &["verify"]), &["2 entries sound"]);
    let path: PathBuf = place.path("cache/hotbed/entries/snapshot-aa/ram.sparse");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[9], 9 << 20).unwrap();
    file.set_modified(time).unwrap();
    let verify = hotbed(&place, &["verify"]);
    verify.expect(3, &["1 entry damaged"]);
    says(&verify, &["damaged, and removed: snapshot aa"]);
    assert_eq!(cache.list().unwrap().len(), 1);
}
