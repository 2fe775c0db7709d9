//! How long a call may take, and who may end it early.

use std::time::{Duration, Instant};

use crate::Error;

/// Tells a waiting call to give up; asked at least every 50 ms.
pub trait Interrupt: Sync {
    /// Whether the call is to end now with [`Error::Interrupted`].
    fn is_interrupted(&self) -> bool;
}

/// Never interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

impl Interrupt for Never {
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// The longest that a call waits before it asks its [`Interrupt`] again.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// No wait is longer: a century.
const FOREVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long a call may take, and who may end it early.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// When the call ends with [`Error::Timeout`]; `None`: when it is done.
    pub until: Option<Instant>,
    /// Asked at least every 50 ms while the call waits.
    pub interrupt: &'a dyn Interrupt,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl Call<'static> {
    /// A call without a deadline that nobody interrupts.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            until: None,
            interrupt: &Never,
        }
    }
}

impl Call<'_> {
    /// This call with a deadline no later than `until`.
    #[must_use]
    pub fn no_later_than(self, until: Instant) -> Self {
        Self {
            until: Some(self.until.map_or(until, |mine| mine.min(until))),
            ..self
        }
    }

    /// The end of the next piece of waiting, which is at most [`SLICE`] away.
    ///
    /// # Errors
    ///
    /// When the call is interrupted, or its deadline has passed (`doing` names what it was about).
    pub(crate) fn slice(&self, doing: &dyn Fn() -> String) -> Result<Instant, Error> {
        if self.interrupt.is_interrupted() {
            return Err(Error::Interrupted);
        }
        let now = now();
        match self.until {
            Some(until) if until <= now => Err(Error::Timeout(format!(
                "the caller's deadline passed while {}",
                doing()
            ))),
            Some(until) => Ok(until.min(now + SLICE)),
            None => Ok(now + SLICE),
        }
    }
}

/// The moment `duration` after `moment`; one that never comes, when a front writes "for ever" as a very long time.
pub(crate) fn after(moment: Instant, duration: Duration) -> Instant {
    moment + duration.min(FOREVER)
}

/// The time; the driver's only clock.
#[expect(clippy::disallowed_methods, reason = "the I/O shell's one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
