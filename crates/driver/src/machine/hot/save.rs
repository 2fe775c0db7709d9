//! A machine that has just come up becomes a snapshot, and goes on from it.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hotbed_console::Shell;
use hotbed_image::Cache;
use hotbed_image::cache::{Limit, Notes, Stored};
use serde_json::{Value, json};

use super::checkpoint::{front_of, save_devices};
use super::restore::{Console, ask, await_migration, version};
use super::{KIND, KINDS, Plan, Saving, deadline};
use crate::call::now;
use crate::machine::Machine;
use crate::machine::run::Run;
use crate::{Call, Error};

/// The files of a snapshot.
pub(super) const RAM: &str = "ram.sparse";
pub(super) const DEVICES: &str = "devices";
pub(super) const CONSOLE: &str = "console";
/// Its notes: how QEMU takes its devices back, which QEMU it was, and whether an agent had answered.
pub(super) const WAY: &str = "way";
pub(super) const QEMU: &str = "qemu";
pub(super) const AGENT: &str = "agent";
/// The machine's name, or that of what it is a clone of.
pub(super) const MACHINE: &str = "machine";
/// Bytes in front of the devices' states in the file of that name, if that is known.
pub(super) const FRONT: &str = "front";
/// How long QEMU may take to go on with a machine that could not be saved.
const GRACE: Duration = Duration::from_secs(10);

impl Machine {
    /// Saves a machine that has just come up, if it is to be saved, and goes on from the snapshot: gives the run that is the
    /// machine's from now on, unless it is the same. A machine that cannot be saved goes on as it is.
    pub(crate) fn go_on_from_snapshot(
        &self,
        run: &Arc<Run>,
        shell: &mut Shell,
        call: &Call<'_>,
    ) -> Result<Option<Arc<Run>>, Error> {
        let Some(plan) = self.hot.take_plan() else {
            return Ok(None);
        };
        let _saving = Saving(&self.hot);
        if self.site.others.is_disturbed() {
            self.why_cold("the test began before all machines had come up");
            return Ok(None);
        }
        let begin = now();
        let saved = self
            .reach_point(run, shell, &plan, call)
            .and_then(|has_agent| self.save(run, &plan, has_agent, call))
            .and_then(|snapshot| {
                let restored = self.restore(&plan, &snapshot, Console::GoesOn, call);
                if !matches!(
                    restored,
                    Ok(_) | Err(Error::Interrupted | Error::Timeout(_))
                ) {
                    let _ = plan.cache.remove(KIND, &plan.key.key);
                }
                restored
            });
        match saved {
            Ok(restored) => {
                let restored = Arc::new(restored);
                if !self.replace_run(run, &restored) {
                    return Err(Error::Machine(format!("{} was stopped", self.name())));
                }
                run.process.kill();
                self.log(&format!(
                    "saved as a snapshot and restored from it in {:.2} s (pid {})",
                    now().saturating_duration_since(begin).as_secs_f64(),
                    restored.process.pid()
                ));
                self.make_room(&plan.cache);
                Ok(Some(restored))
            }
            Err(error) => {
                // Whatever was tried, the machine itself is as it was.
                for command in ["migrate_cancel", "cont"] {
                    let _ = run.qmp.execute(command, Value::Null, deadline(GRACE));
                }
                if matches!(error, Error::Interrupted | Error::Timeout(_)) {
                    return Err(error);
                }
                self.why_cold(&error.chain());
                Ok(None)
            }
        }
    }

    fn save(
        &self,
        run: &Run,
        plan: &Plan,
        has_agent: bool,
        call: &Call<'_>,
    ) -> Result<Stored, Error> {
        let progress = Quiet {
            interrupt: call.interrupt,
        };
        let stored = store(&plan.cache, (KIND, &plan.key.key), &progress, |folder| {
            self.fill(run, plan, has_agent, folder, call)
        });
        // It must not talk while another one takes its place, even if it was another process that saved it.
        let stopped = ask(&run.qmp, "stop", Value::Null, &[], call);
        let stored = stored?.map_err(Error::image(self.name()))?;
        stopped.map(|_| stored)
    }

    /// Writes the files of a snapshot.
    fn fill(
        &self,
        run: &Run,
        plan: &Plan,
        has_agent: bool,
        folder: &Path,
        call: &Call<'_>,
    ) -> Result<Notes, Error> {
        if plan.becomes.is_some() && !has_agent {
            return Err(Error::Machine(
                "it has no agent that could give each clone its name".to_owned(),
            ));
        }
        let devices = folder.join(DEVICES);
        let way = send_devices(run, &devices, call)?;
        let front = self.front(run, &devices, call);
        let ram = plan
            .ram
            .as_ref()
            .ok_or_else(|| Error::Machine("its memory is not to be had".to_owned()))?;
        ram.copy_to(&folder.join(RAM), call)?;
        let failed = Error::host("cannot keep the console's text");
        let text = self
            .console
            .boot_bytes()
            .and_then(|text| std::fs::write(folder.join(CONSOLE), text));
        text.map_err(failed)?;
        let mut notes = Notes::from([
            (WAY.to_owned(), way.to_owned()),
            (QEMU.to_owned(), version(run)),
            (AGENT.to_owned(), has_agent.to_string()),
            (MACHINE.to_owned(), self.kind_name().to_owned()),
        ]);
        notes.extend(plan.key.parts.clone());
        notes.extend(front.map(|len| (FRONT.to_owned(), len.to_string())));
        Ok(notes)
    }

    /// How long is what comes before the devices in a state, which machines need that are saved again; `None` when it cannot be found out.
    fn front(&self, run: &Run, whole: &Path, call: &Call<'_>) -> Option<usize> {
        let path = self.state_dir().join(DEVICES);
        save_devices(run, &path, call).ok()?;
        let devices = std::fs::read(&path).ok()?;
        let _ = std::fs::remove_file(&path);
        let front = front_of(&std::fs::read(whole).ok()?, &devices).ok()?;
        Some(front.len())
    }

    /// Removes the snapshots that were of no use for longest, when all take too much room.
    fn make_room(&self, cache: &Cache) {
        if let Err(source) = make_room(cache) {
            self.log(&Error::image(self.name())(source).chain());
        }
    }

    /// Makes `new` the machine's run if `old` still is.
    fn replace_run(&self, old: &Arc<Run>, new: &Arc<Run>) -> bool {
        let mut present = super::super::lock(&self.run);
        let is_present = present.as_ref().is_some_and(|run| Arc::ptr_eq(run, old));
        if is_present {
            *present = Some(Arc::clone(new));
        }
        is_present
    }
}

/// Removes what was saved and of no use for longest, when all takes too much room.
pub(crate) fn make_room(cache: &Cache) -> Result<(), hotbed_image::Error> {
    let limit = Limit::of_environment()?;
    cache.make_room(&KINDS, &limit).map(drop)
}

/// Has an entry of the cache made by what fails in its own way; gives what came of it.
pub(crate) fn store(
    cache: &Cache,
    (kind, key): (&str, &str),
    progress: &dyn hotbed_image::Progress,
    fill: impl FnOnce(&Path) -> Result<Notes, Error>,
) -> Result<Result<Stored, hotbed_image::Error>, Error> {
    let mut failure = None;
    let stored = cache.store(kind, key, progress, |folder| {
        fill(folder).map_err(|error| {
            failure = Some(error);
            hotbed_image::Error::Interrupted
        })
    });
    match (stored, failure) {
        (_, Some(error)) => Err(error),
        (Err(hotbed_image::Error::Interrupted), None) => Err(Error::Interrupted),
        (stored, None) => Ok(stored),
    }
}

/// Has QEMU write the state of its devices; gives the way by which it did. The guest stands still then.
pub(super) fn send_devices(run: &Run, path: &Path, call: &Call<'_>) -> Result<&'static str, Error> {
    ask(
        &run.qmp,
        "migrate-set-capabilities",
        capabilities(),
        &[],
        call,
    )?;
    // QEMU 8.2 and later write a file; those before take one that is open.
    let uri = json!({ "uri": format!("file:{}", path.display()) });
    let mut cursor = run.qmp.cursor();
    let way = match ask(&run.qmp, "migrate", uri, &[], call) {
        Ok(_) => "file",
        Err(Error::Qmp { .. }) => {
            let file = File::create_new(path)
                .map_err(Error::host(format!("cannot write {}", path.display())))?;
            let name = json!({ "fdname": "devices" });
            ask(&run.qmp, "getfd", name, &[file.as_fd()], call)?;
            cursor = run.qmp.cursor(); // The attempt before has failed with an event.
            ask(
                &run.qmp,
                "migrate",
                json!({ "uri": "fd:devices" }),
                &[],
                call,
            )?;
            "fd"
        }
        Err(error) => return Err(error),
    };
    await_migration(&run.qmp, cursor, call)?;
    Ok(way)
}

/// Memory is a file that stays where it is, and QEMU says how far it is.
pub(super) fn capabilities() -> Value {
    json!({ "capabilities": [
        { "capability": "x-ignore-shared", "state": true },
        { "capability": "events", "state": true },
    ] })
}

/// Says nothing, and gives up with the call.
struct Quiet<'c> {
    interrupt: &'c dyn crate::Interrupt,
}

impl hotbed_image::Progress for Quiet<'_> {
    fn step(&self, _message: &str) {}
    fn line(&self, _text: &str) {}
    fn is_interrupted(&self) -> bool {
        self.interrupt.is_interrupted()
    }
}
