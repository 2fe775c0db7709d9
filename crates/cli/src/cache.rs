//! `hotbed cache`: what is kept so that machines boot at once, and how much room it takes.

use std::time::{Duration, SystemTime};

use anstream::{eprintln, println};
use hotbed_driver::CACHE_KINDS;
use hotbed_image::cache::{Limit, Listed};
use hotbed_image::{Cache, Error};

use crate::arguments::CacheCommand;
use crate::report::{self, Exit};

/// How much of a key is shown.
const KEY_SHOWN: usize = 12;

/// Runs `hotbed cache …`.
pub(crate) fn run(command: &CacheCommand) -> Exit {
    let result = Cache::open().and_then(|cache| match command {
        CacheCommand::List => list(&cache),
        CacheCommand::Show { key } => show(&cache, key),
        CacheCommand::Gc { limit, unused } => gc(&cache, *limit, *unused),
        CacheCommand::Verify => verify(&cache),
    });
    result.unwrap_or_else(|error| {
        report::error(&error);
        match error {
            Error::InvalidSpec(_) => Exit::Usage,
            _ => Exit::HostFailed,
        }
    })
}

/// One line for each entry: kind, key, size on the disk and as it is read, age, uses, last use.
fn list(cache: &Cache) -> Result<Exit, Error> {
    let entries = cache.list()?;
    println!(
        "{:<8} {:<12} {:>9} {:>9}  {:<11} {:>5}  LAST USE",
        "KIND", "KEY", "ON DISK", "SIZE", "BUILT", "USES"
    );
    for entry in &entries {
        let used = match (entry.hits, cache.is_in_use(&entry.kind, &entry.key)) {
            (_, true) => "in use".to_owned(),
            (0, false) => "never".to_owned(),
            (_, false) => ago(entry.used),
        };
        println!(
            "{:<8} {:<12} {:>9} {:>9}  {:<11} {:>5}  {used}",
            entry.kind,
            short(&entry.key),
            size(entry.bytes),
            size(entry.apparent),
            ago(entry.built),
            entry.hits,
        );
    }
    let sum = |is_saved: bool| -> u64 {
        let mut counted: Vec<_> = entries.iter().collect();
        counted.retain(|entry| !is_saved || CACHE_KINDS.contains(&&*entry.kind));
        counted.iter().map(|entry| entry.bytes).sum()
    };
    println!(
        "{} entries, {} on the disk, {} of it snapshots and checkpoints (limit {}), in {}",
        entries.len(),
        size(sum(false)),
        size(sum(true)),
        size(Limit::of_environment()?.bytes),
        cache.root().display()
    );
    Ok(Exit::Success)
}

/// All about one entry.
fn show(cache: &Cache, key: &str) -> Result<Exit, Error> {
    let mut found = cache.list()?;
    found.retain(|entry| entry.key.starts_with(key));
    let entry = match &found[..] {
        [entry] => entry,
        [] => {
            report::problem(format_args!(
                "no entry of the cache has a key that begins with `{key}`: `hotbed cache list` shows them"
            ));
            return Ok(Exit::Usage);
        }
        several => {
            report::problem(format_args!(
                "`{key}` is the beginning of {} keys: give more of it",
                several.len()
            ));
            return Ok(Exit::Usage);
        }
    };
    let (kind, key) = (&*entry.kind, &*entry.key);
    println!("kind      {kind}");
    println!("key       {key}");
    println!("on disk   {}", size(entry.bytes));
    println!("size      {}", size(entry.apparent));
    println!("built     {}", ago(entry.built));
    println!("uses      {}, last {}", entry.hits, ago(entry.used));
    println!("in use    {}", cache.is_in_use(kind, key));
    for (name, value) in cache.notes(kind, key).unwrap_or_default() {
        println!("note      {name} = {value}");
    }
    for (name, apparent, bytes) in cache.files(kind, key) {
        println!(
            "file      {name}  {} ({} on the disk)",
            size(apparent),
            size(bytes)
        );
    }
    Ok(Exit::Success)
}

/// Makes room now, as a save does.
fn gc(cache: &Cache, limit: Option<Limit>, unused: Option<Duration>) -> Result<Exit, Error> {
    let mut limit = match limit {
        Some(limit) => limit,
        None => Limit::of_environment()?,
    };
    limit.unused = unused.unwrap_or(limit.unused);
    let gone = cache.make_room(&CACHE_KINDS, &limit)?;
    say_gone("removed", &gone);
    println!(
        "{} removed, {} freed",
        entries(gone.len()),
        size(gone.iter().map(|entry| entry.bytes).sum())
    );
    Ok(Exit::Success)
}

/// Reads everything; what is damaged goes, and is built again when it is needed.
fn verify(cache: &Cache) -> Result<Exit, Error> {
    let count = cache.list()?.len();
    eprintln!("reading {} …", entries(count));
    let gone = cache.verify()?;
    say_gone("damaged, and removed", &gone);
    if gone.is_empty() {
        println!("{} sound", entries(count));
        return Ok(Exit::Success);
    }
    report::problem(format_args!(
        "{} damaged; it is made again when it is needed",
        entries(gone.len())
    ));
    Ok(Exit::HostFailed)
}

fn say_gone(what: &str, gone: &[Listed]) {
    for entry in gone {
        println!(
            "{what}: {} {} ({}, last used {})",
            entry.kind,
            short(&entry.key),
            size(entry.bytes),
            ago(entry.used)
        );
    }
}

fn entries(count: usize) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

fn short(key: &str) -> String {
    key.chars().take(KEY_SHOWN).collect()
}

/// Bytes in the unit that gives a number that can be read.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

/// How long ago something was, in the largest unit that fits; what is from the future, as a clock that was set back makes things, was now.
pub(crate) fn ago(then: SystemTime) -> String {
    match then.elapsed().unwrap_or_default().as_secs() / 60 {
        minutes @ 0..60 => format!("{minutes} min ago"),
        minutes @ 60..1440 => format!("{} h ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1440),
    }
}
