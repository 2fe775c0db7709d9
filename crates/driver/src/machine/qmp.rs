//! QEMU's machine protocol.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hotbed_qmp::Error as QmpError;
use hotbed_qmp::Event;
use serde_json::{Map, Value, json};

use super::Machine;
use super::run::Run;
use crate::call::{after, now};
use crate::{Call, Error};

impl Machine {
    /// Sends a QMP command; the answer is the whole object `{"return": …}`.
    ///
    /// # Errors
    ///
    /// [`Error::Qmp`] when QEMU refuses it, [`Error::Runtime`] when there is no QMP session.
    pub fn qmp(&self, command: &str, arguments: Value, call: &Call<'_>) -> Result<Value, Error> {
        self.touch(call)?;
        let run = self.qmp_run()?;
        let mut pending = run
            .qmp
            .submit(command, arguments, &[])
            .map_err(|error| self.qmp_error(&run, error))?;
        loop {
            let slice = call.slice(&|| format!("QEMU of {} answers `{command}`", self.name()))?;
            match pending.wait(slice) {
                Ok(Some(answer)) => return Ok(json!({ "return": answer })),
                Ok(None) => {}
                Err(error) => return Err(self.qmp_error(&run, error)),
            }
        }
    }

    /// Takes the next QMP event from the machine's queue; `None` when none comes within `timeout`.
    ///
    /// # Errors
    ///
    /// When the call ends before, or QEMU is gone.
    pub fn qmp_event(&self, timeout: Duration, call: &Call<'_>) -> Result<Option<Value>, Error> {
        self.touch(call)?;
        let run = self.qmp_run()?;
        let deadline = after(now(), timeout);
        loop {
            let slice = call
                .slice(&|| format!("QEMU of {} sends an event", self.name()))?
                .min(deadline);
            let cursor = run.next_event.load(Ordering::Acquire);
            match run.qmp.wait_event(cursor, &mut |_| true, slice) {
                Ok(Some(event)) => {
                    run.next_event
                        .fetch_max(event.sequence + 1, Ordering::AcqRel);
                    return Ok(Some(event_object(&event)));
                }
                Ok(None) if now() >= deadline => return Ok(None),
                Ok(None) => {}
                Err(QmpError::EventsLost { lost }) => {
                    self.site.log.warning(&format!(
                        "{}: {lost} QMP events came and went before they were looked at",
                        self.name()
                    ));
                    run.next_event.fetch_max(cursor + lost, Ordering::AcqRel);
                }
                Err(error) => return Err(self.qmp_error(&run, error)),
            }
        }
    }

    /// Takes events from the queue until `filter` likes one.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] when none comes within `timeout`; what `filter` reports.
    pub fn wait_for_qmp_event(
        &self,
        filter: &mut dyn FnMut(&Value) -> Result<bool, Error>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<Value, Error> {
        let deadline = after(now(), timeout);
        let _doing = self.begin_doing("waiting for a QMP event");
        while let Some(event) = self.qmp_event(deadline.saturating_duration_since(now()), call)? {
            if filter(&event)? {
                return Ok(event);
            }
        }
        Err(Error::Timeout(format!(
            "no such QMP event from {} within {} seconds",
            self.name(),
            timeout.as_secs_f64()
        )))
    }

    fn qmp_run(&self) -> Result<Arc<Run>, Error> {
        self.present_run()
            .ok_or_else(|| Error::Runtime("QMP API is not ready yet, is the VM ready?".to_owned()))
    }

    fn qmp_error(&self, run: &Run, error: QmpError) -> Error {
        match failure(error) {
            error @ Error::Qmp { .. } => error,
            error => self.explain(run, error),
        }
    }
}

/// What an error of QMP means: QEMU refuses a command, or QEMU is in trouble.
pub(super) fn failure(error: QmpError) -> Error {
    match error {
        QmpError::Command {
            command,
            class,
            description,
        } => Error::Qmp {
            command,
            class: class.name().to_owned(),
            description,
        },
        error => Error::Machine(error.to_string()),
    }
}

/// The event as QEMU sent it.
fn event_object(event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("event".to_owned(), event.name.clone().into());
    if !event.data.is_null() {
        object.insert("data".to_owned(), event.data.clone());
    }
    if let Some(timestamp) = &event.timestamp {
        let timestamp =
            json!({ "seconds": timestamp.seconds, "microseconds": timestamp.microseconds });
        object.insert("timestamp".to_owned(), timestamp);
    }
    Value::Object(object)
}
