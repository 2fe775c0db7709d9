//! Snapshots in a tree, which are made in one place and used in another.

use hotbed_image::Progress;
use hotbed_image::cache::Tree;

use super::{KIND, Plan};
use crate::config::{Hot as Point, MachineKind};
use crate::machine::Machine;
use crate::{Call, Error};

impl Machine {
    /// Puts what the machine begins from into a tree: its image, and its snapshot unless it is to have none. Boots the machine where
    /// there is no snapshot yet; it is off at the end. Says whether a snapshot went there.
    ///
    /// # Errors
    ///
    /// When the machine has no image or becomes no snapshot, or a file cannot be written.
    pub fn put_into(
        &self,
        tree: &Tree,
        progress: &dyn Progress,
        call: &Call<'_>,
    ) -> Result<bool, Error> {
        let failed = Error::image(self.name());
        let MachineKind::Image(machine) = &self.config.kind else {
            return Err(self.has_none("it is started by a script"));
        };
        let start = self.image_start(machine, false, call)?;
        let image = self.site.image(self.name(), &machine.spec(), call)?;
        tree.put_image(&machine.spec(), &image, progress)
            .map_err(&failed)?;
        if machine.hot == Some(Point::Never) {
            return Ok(false);
        }
        let reason = || self.hot.why_cold.get().map_or("", String::as_str);
        let Some(plan) = self.plan(machine, &start) else {
            return Err(self.has_none(match self.site.is_cold {
                true => "all machines are to boot from power-on",
                false => reason(),
            }));
        };
        if !plan.cache.has(KIND, &plan.key.key) {
            progress.step(&format!("booting {}", self.name()));
            self.connect(call)?;
            self.crash(call)?;
        }
        let snapshot = plan.cache.stored(KIND, &plan.key.key);
        let snapshot = snapshot.ok_or_else(|| self.has_none(reason()))?;
        tree.put(KIND, &plan.key.key, &snapshot, progress)
            .map_err(&failed)?;
        Ok(true)
    }

    fn has_none(&self, why: &str) -> Error {
        Error::Machine(format!("{} has no snapshot: {why}", self.name()))
    }

    /// Says why the machine does not begin from a snapshot of the tree, if there is a tree.
    pub(super) fn why_not_from_tree(&self, plan: &Plan) {
        let Some(tree) = plan.cache.tree() else {
            return;
        };
        // One that was of no use has been told already.
        if !tree.has(KIND, &plan.key.key) {
            self.why_cold(&plan.key.why_not_in(&tree, self.kind_name()));
        }
    }

    /// The machine's name, or that of what it is a clone of.
    pub(super) fn kind_name(&self) -> &str {
        self.config.clone_of.as_deref().unwrap_or(self.name())
    }
}
