//! What a test demands of the frames that pass.

use std::fmt::Write;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hotbed_switch::{End, Selection, Sighting, Switch};

use super::{Vlan, chain};
use crate::call::{after, now};
use crate::{Call, Error, Log};

/// Looks for frames from when it was made.
#[derive(Debug)]
pub struct Watch {
    number: u8,
    filter: String,
    watch: hotbed_switch::Watch,
}

impl Vlan {
    /// Looks for the frames that an expression means, as they come in; with `ports`, as they come in or go out there.
    ///
    /// # Errors
    ///
    /// When the expression means nothing, or too many watches and captures run.
    pub fn watch(&self, filter: &str, ports: Option<Vec<End>>) -> Result<Watch, Error> {
        let selection = Selection {
            ports,
            filter: Some(super::rules::filter(filter)?),
        };
        Ok(Watch {
            number: self.number,
            filter: filter.to_owned(),
            watch: self.with_switch(|switch| switch.watch(&selection))?,
        })
    }

    /// Waits for a frame that was looked for.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when none has passed since the watch began or `within` that time; it tells what has.
    pub fn expect(
        &self,
        watch: &Watch,
        within: Duration,
        log: &Log,
        call: &Call<'_>,
    ) -> Result<Sighting, Error> {
        let doing = format!(
            "waiting for a frame `{}` on VLAN {}",
            watch.filter, self.number
        );
        let end = after(now(), within);
        log.nested(None, &doing, || {
            self.with_switch(Switch::settle)?;
            loop {
                let slice = call.slice(&|| doing.clone())?.min(end);
                if let Some(sighting) = watch.poll(slice)? {
                    return Ok(sighting);
                }
                if now() >= end {
                    return Err(watch.in_vain(within));
                }
            }
        })
    }

    /// Forbids frames, as [`Vlan::watch`] looks for them, until that is lifted or the test is over.
    ///
    /// # Errors
    ///
    /// As [`Vlan::watch`].
    pub fn forbid(&self, filter: &str, ports: Option<Vec<End>>) -> Result<Arc<Watch>, Error> {
        let ban = Arc::new(self.watch(filter, ports)?);
        self.bans().push(Arc::clone(&ban));
        Ok(ban)
    }

    /// Allows again what [`Vlan::forbid`] forbade, if it still does; then it tells whether such a frame has passed.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when one has.
    pub fn lift(&self, ban: &Arc<Watch>) -> Result<(), Error> {
        let mut bans = self.bans();
        let count = bans.len();
        bans.retain(|other| !Arc::ptr_eq(other, ban));
        let was_there = bans.len() < count;
        drop(bans);
        if was_there {
            self.with_switch(Switch::settle)?;
            ban.check()?;
        }
        Ok(())
    }

    /// Lifts all bans: the test is over.
    pub(crate) fn lift_all(&self) -> Result<(), Error> {
        let bans = self.bans().clone();
        bans.iter().try_for_each(|ban| self.lift(ban))
    }

    fn bans(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watch>>> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    fn in_vain(&self, within: Duration) -> Error {
        let (last, count) = self.watch.others();
        let mut text = format!(
            "no frame `{}` passed on VLAN {} within {} seconds; {count} others did",
            self.filter,
            self.number,
            within.as_secs_f64()
        );
        if !last.is_empty() {
            text.push_str(", the last of them:");
        }
        for other in last {
            let _ = write!(text, "\n  {other}"); // Strings take all.
        }
        Error::TestFailed(text)
    }

    fn check(&self) -> Result<(), Error> {
        let Some(first) = self.poll(now())? else {
            return Ok(());
        };
        let mut count = 1 + self.watch.missed();
        while self.poll(now())?.is_some() {
            count += 1;
        }
        Err(Error::TestFailed(format!(
            "forbidden frames `{}` passed on VLAN {}: {count}, the first {first}",
            self.filter, self.number
        )))
    }

    fn poll(&self, until: Instant) -> Result<Option<Sighting>, Error> {
        let failed = |error| Error::Machine(format!("VLAN {}: {}", self.number, chain(&error)));
        self.watch.poll(until).map_err(failed)
    }
}
