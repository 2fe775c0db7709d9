//! Looking again and again from the host: at terminals and windows, and for a graphical session.

use std::ops::ControlFlow;
use std::time::Duration;

use hotbed_console::Until;

use super::shell::timed_out;
use super::{Execute, Machine};
use crate::call::{after, now};
use crate::{Call, Error};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the guest may take to show what is looked at for the first time, however short the timeout.
const LOOK_MIN: Duration = Duration::from_secs(5);
/// The names of all windows.
const WINDOWS: &str = r#"xwininfo -root -tree | sed 's/.*0x[0-9a-f]* \"\([^\"]*\)\".*/\1/; t; d'"#;
/// Whether there is a graphical session.
const GRAPHICAL: &str = r#"journalctl -b SYSLOG_IDENTIFIER=systemd | grep "Reached target Current graphical" >/dev/null && [ -e /tmp/.X11-unix/X0 ]"#;

/// Says whether what is looked for is in a text.
pub type Search<'a> = &'a mut dyn FnMut(&str) -> Result<bool, Error>;

/// Looks once: finds it, or says what is to be logged if this was the last look.
pub(super) type Look<'a> = &'a mut dyn FnMut(&Call<'_>) -> Result<ControlFlow<(), String>, Error>;

impl Machine {
    /// Looks until it is found.
    pub(super) fn look_until(
        &self,
        timeout: Duration,
        call: &Call<'_>,
        look: Look<'_>,
    ) -> Result<(), Error> {
        let begin = now();
        let deadline = after(begin, timeout);
        let mut last_words = None;
        loop {
            let limited = call.no_later_than(deadline.max(begin + LOOK_MIN));
            match look(&limited) {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(words)) => last_words = Some(words),
                Err(Error::Timeout(_)) if now() >= deadline => {}
                Err(error) => return Err(error),
            }
            if now() >= deadline {
                last_words.iter().for_each(|words| self.log(words));
                return Err(timed_out(begin, timeout));
            }
            let left = deadline.saturating_duration_since(now());
            self.wait_on_host(left.min(PAUSE), call)?;
        }
    }

    /// What a virtual terminal shows.
    ///
    /// # Errors
    ///
    /// When the guest has no such terminal or does not answer.
    pub fn get_tty_text(&self, tty: &str, call: &Call<'_>) -> Result<String, Error> {
        let command =
            format!("fold -w$(stty -F /dev/tty{tty} size | awk '{{print $2}}') /dev/vcs{tty}");
        let output = self.execute(&command, &Execute::default(), call)?;
        Ok(output.text().into_owned())
    }

    /// Waits until `search` finds what it looks for on a virtual terminal. `pattern` is for the log.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes; what `search` reports.
    pub fn wait_until_tty_matches(
        &self,
        tty: &str,
        pattern: &str,
        search: Search<'_>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let message = format!("waiting for {pattern} to appear on tty {tty}");
        self.nested(&message, || {
            self.look_until(timeout, call, &mut |call| {
                let text = self.get_tty_text(tty, call)?;
                Ok(match search(&text)? {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(format!(
                        "Last chance to match /{pattern}/ on TTY{tty}, which currently contains: {text}"
                    )),
                })
            })
        })
    }

    /// Writes what a virtual terminal shows to the guest's journal.
    ///
    /// # Errors
    ///
    /// When the guest does not answer.
    pub fn dump_tty_contents(&self, tty: &str, call: &Call<'_>) -> Result<(), Error> {
        let command = format!("fold -w 80 /dev/vcs{tty} | systemd-cat");
        self.execute(&command, &Execute::default(), call)
            .map(|_| ())
    }

    /// The names of all windows of the X server.
    ///
    /// # Errors
    ///
    /// When there is no X server.
    pub fn get_window_names(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        let names = self.succeed(&[WINDOWS], None, call)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Waits until `search` finds what it looks for in the name of a window. `pattern` is for the log.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes; what `search` reports.
    pub fn wait_for_window(
        &self,
        pattern: &str,
        search: Search<'_>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        self.nested("waiting for a window to appear", || {
            self.look_until(timeout, call, &mut |call| {
                let names = self.get_window_names(call)?;
                for name in &names {
                    if search(name)? {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(format!(
                    "Last chance to match {pattern} on the window list, which currently contains: {}",
                    names.join(", ")
                )))
            })
        })
    }

    /// Waits until a graphical session is there.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_x(&self, timeout: Duration, call: &Call<'_>) -> Result<(), Error> {
        self.nested("waiting for the X11 server", || {
            self.repeat(GRAPHICAL, Until::Success, PAUSE, timeout, call)
                .map(|_| ())
        })
    }
}
