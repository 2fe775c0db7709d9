//! A lock that is waited for with a deadline and an interrupt.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::call::now;
use crate::{Call, Error};

/// A value that threads use in turns.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    value: Mutex<Option<T>>,
    free: Condvar,
}

/// A turn with the value; dropping it gives the value back.
#[derive(Debug)]
pub(crate) struct Turn<'t, T> {
    turns: &'t Turns<T>,
    value: Option<T>,
}

impl<T> Turns<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(Some(value)),
            free: Condvar::new(),
        }
    }

    /// Waits for a turn.
    pub(crate) fn take(
        &self,
        call: &Call<'_>,
        doing: &dyn Fn() -> String,
    ) -> Result<Turn<'_, T>, Error> {
        loop {
            let until = call.slice(doing)?;
            let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            if value.is_none() {
                let left = until.saturating_duration_since(now());
                value = self
                    .free
                    .wait_timeout(value, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            if let Some(value) = value.take() {
                return Ok(Turn {
                    turns: self,
                    value: Some(value),
                });
            }
        }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        *self
            .turns
            .value
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.value.take();
        self.turns.free.notify_one();
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
            .as_ref()
            .expect("a turn holds the value until it is dropped")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a turn holds the value until it is dropped")
    }
}
