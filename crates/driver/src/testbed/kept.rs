//! Checkpoints in the cache, from which a later run of the same test goes on.
//!
//! Each is an entry of its own, also of the same name: a new one is whole before an old one goes, and of two runs at once the one that
//! publishes last counts. A test is known by the path of its script, so that the script may change.
//!
//! Invariant: a machine goes on only from what one was that is in no way different, and whose files are what was written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hotbed_image::cache::{Listed, Notes, Stored};
use hotbed_image::{Cache, KeyBuilder, Silent};
use hotbed_switch::FROZEN_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::Testbed;
use super::checkpoint::{Checkpoint, at_once, find};
use crate::machine::hot::CHECKPOINT;
use crate::machine::hot::kept::{Record, damaged, read, write};
use crate::machine::hot::save::{make_room, store};
use crate::vlan::Frozen as FrozenVlan;
use crate::{Call, Error};

/// The file that says what the others are.
const INDEX: &str = "index.json";
/// The most bytes of it.
const INDEX_MAX: u64 = 16 << 20;
/// The notes of an entry: which test it is of, what it is called there, and its form.
const TEST: &str = "test";
const NAME: &str = "name";
const FORM: &str = "form";
/// Goes up when checkpoints are kept in another form.
const PRESENT_FORM: &str = "1";

/// Tells the checkpoints of a run apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a checkpoint is of.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// Each machine, sorted by name; those that were on have a record.
    machines: Vec<(String, Option<Record>)>,
    vlans: Vec<u8>,
}

impl Testbed {
    /// Keeps a checkpoint for later runs. A test goes on without, but for a call that has ended.
    pub(super) fn keep(
        &self,
        name: &str,
        checkpoint: &Checkpoint,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        match self.write(name, checkpoint, call) {
            Err(error @ (Error::Interrupted | Error::Timeout(_))) => Err(error),
            Err(error) => {
                let why = error.chain();
                let line = format!("checkpoint `{name}` is not kept for later runs: {why}");
                self.site.log.warning(&line);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn write(&self, name: &str, checkpoint: &Checkpoint, call: &Call<'_>) -> Result<(), Error> {
        let cache = self.cache()?;
        let (test, run) = (self.test()?, self.site.directory.to_string_lossy());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let key = KeyBuilder::new(CHECKPOINT)
            .inputs(NAME, [&*test, name, &*run, &*number].iter())
            .finish();
        let stored = store(&cache, (CHECKPOINT, &key), &Silent, |folder| {
            let index = Index {
                machines: self.keep_machines(checkpoint, folder, call)?,
                vlans: self.vlans.iter().map(|vlan| vlan.number()).collect(),
            };
            for (vlan, frozen) in self.vlans.iter().zip(&checkpoint.vlans) {
                write(&folder.join(vlan_file(vlan.number())), &frozen.to_bytes()?)?;
            }
            let index = serde_json::to_vec(&index).map_err(|error| damaged(&error.to_string()))?;
            write(&folder.join(INDEX), &index)?;
            let notes = [(TEST, &*test), (NAME, name), (FORM, PRESENT_FORM)];
            let notes = notes.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Ok(Notes::from(notes))
        })?;
        let lease = stored.map_err(Error::image(CHECKPOINT))?.lease();
        let kept = self.kept(&cache)?;
        let size = self.forget_older(&cache, &kept, name, &key);
        self.site.log.info(&format!(
            "checkpoint `{name}` is kept for later runs ({} MiB); `hotbed run --from-checkpoint '{name}'` goes on from it",
            size >> 20
        ));
        let room = make_room(&cache).map_err(Error::image(CHECKPOINT));
        drop(lease);
        room
    }

    fn keep_machines(
        &self,
        checkpoint: &Checkpoint,
        folder: &std::path::Path,
        call: &Call<'_>,
    ) -> Result<Vec<(String, Option<Record>)>, Error> {
        let pairs: Vec<_> = self.machines.iter().zip(&checkpoint.machines).collect();
        at_once(&pairs, |(machine, frozen)| {
            let record = frozen
                .as_ref()
                .map(|frozen| machine.keep(frozen, folder, call));
            Ok((machine.name().to_owned(), record.transpose()?))
        })
    }

    /// Removes checkpoints of that name that are older than this one, unless somebody reads them; gives the size of this one.
    fn forget_older(&self, cache: &Cache, kept: &[(String, Listed)], name: &str, key: &str) -> u64 {
        let Some((_, present)) = kept.iter().find(|(_, listed)| listed.key == key) else {
            return 0;
        };
        for (other, listed) in kept {
            let is_older = listed.key != key && listed.built <= present.built;
            if other == name && is_older && !cache.is_in_use(CHECKPOINT, &listed.key) {
                // What cannot be removed now goes with the next one, or when there is no room.
                let _ = cache.remove(CHECKPOINT, &listed.key);
            }
        }
        present.bytes
    }

    /// Goes to where an earlier run of this test was when it took the checkpoint of that name, and kept it. The checkpoint is one of
    /// this run, too.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is no such checkpoint, or when the machines were not as they are now; the message says which
    /// there are, or what differs. [`Error::Machine`] when its files are not what was written.
    pub fn resume(&self, name: &str, call: &Call<'_>) -> Result<(), Error> {
        let message = format!("going to checkpoint `{name}` of an earlier run");
        self.site.log.nested(None, &message, || {
            let _turn = self.take_turn(call)?;
            let stored = self.find_kept(name)?;
            let checkpoint = Arc::new(self.read(&stored, name, call)?);
            self.checkpoints.insert(name, Arc::clone(&checkpoint));
            self.go_back_to(&checkpoint, call)
        })
    }

    /// Finds the checkpoint of that name that was kept last, and looks at every byte of it.
    fn find_kept(&self, name: &str) -> Result<Stored, Error> {
        let cache = self.cache()?;
        let kept = self.kept(&cache)?;
        let by_name = kept.iter().map(|(name, listed)| (name.clone(), listed));
        let listed = find(&by_name.collect(), "kept checkpoint", name)?;
        let stored = cache.stored(CHECKPOINT, &listed.key);
        let stored = stored.ok_or_else(|| damaged("its files are not those that were kept"))?;
        if !cache.is_sound(CHECKPOINT, &listed.key) {
            return Err(damaged("its files are not those that were kept"));
        }
        Ok(stored)
    }

    fn read(&self, stored: &Stored, name: &str, call: &Call<'_>) -> Result<Checkpoint, Error> {
        let malformed = |error: serde_json::Error| damaged(&error.to_string());
        let index = read(&stored.path(INDEX), INDEX_MAX)?;
        let index: Index = serde_json::from_slice(&index).map_err(malformed)?;
        let differences = self.differences(&index, call)?;
        if !differences.is_empty() {
            return Err(Error::Argument(format!(
                "checkpoint `{name}` was taken of something else: {}",
                differences.join("; ")
            )));
        }
        let folder = stored.path("");
        let pairs: Vec<_> = self.machines.iter().zip(&index.machines).collect();
        let machines = at_once(&pairs, |(machine, (_, record))| {
            let record = record.as_ref();
            let frozen = record.map(|record| machine.take_up(record, &folder, call));
            frozen.transpose()
        })?;
        let read_vlan = |number: &u8| {
            let bytes = read(&stored.path(&vlan_file(*number)), FROZEN_BYTES_MAX as u64)?;
            FrozenVlan::from_bytes(&bytes)
        };
        let vlans = index.vlans.iter().map(read_vlan);
        Ok(Checkpoint {
            machines,
            vlans: vlans.collect::<Result<_, _>>()?,
        })
    }

    /// What is not as it was when the checkpoint was taken.
    fn differences(&self, index: &Index, call: &Call<'_>) -> Result<Vec<String>, Error> {
        let list = |names: Vec<String>| match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        let then: Vec<_> = index
            .machines
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let now: Vec<_> = self
            .machines
            .iter()
            .map(|it| it.name().to_owned())
            .collect();
        if then != now {
            let (then, now) = (list(then), list(now));
            return Ok(vec![format!("the machines were {then}, and are {now}")]);
        }
        let now: Vec<_> = self.vlans.iter().map(|vlan| vlan.number()).collect();
        if index.vlans != now {
            let words = |numbers: &[u8]| list(numbers.iter().map(u8::to_string).collect());
            let (then, now) = (words(&index.vlans), words(&now));
            return Ok(vec![format!("the VLANs were {then}, and are {now}")]);
        }
        let mut found = Vec::new();
        for (machine, (name, record)) in self.machines.iter().zip(&index.machines) {
            let of_machine = record
                .as_ref()
                .map(|record| machine.differences(record, call));
            let of_machine = of_machine.transpose()?.unwrap_or_default();
            found.extend(of_machine.into_iter().map(|what| format!("{name}: {what}")));
        }
        Ok(found)
    }

    /// The checkpoints of this test that are kept, by name, in the order in which they were.
    fn kept(&self, cache: &Cache) -> Result<Vec<(String, Listed)>, Error> {
        let test = self.test()?;
        let listed = cache.list().map_err(Error::image(CHECKPOINT))?;
        let of_kind = listed.into_iter().filter(|it| it.kind == CHECKPOINT);
        let of_test = of_kind.filter_map(|listed| {
            let notes = cache.notes(CHECKPOINT, &listed.key)?;
            let is_it = notes.get(TEST) == Some(&test);
            let has_form = notes.get(FORM).is_some_and(|form| form == PRESENT_FORM);
            let name = notes.get(NAME).filter(|_| is_it && has_form)?;
            Some((name.clone(), listed))
        });
        let mut kept: Vec<_> = of_test.collect();
        kept.sort_by_key(|(_, listed)| listed.built);
        Ok(kept)
    }

    fn cache(&self) -> Result<Cache, Error> {
        self.site.images.cache().map_err(Error::image(CHECKPOINT))
    }

    /// Which test this is.
    fn test(&self) -> Result<String, Error> {
        let script: &PathBuf = &self.config.script;
        let failed = Error::host(format!("cannot find {}", script.display()));
        let path = script.canonicalize().map_err(failed)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn vlan_file(number: u8) -> String {
    format!("vlan{number}")
}
