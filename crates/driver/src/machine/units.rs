//! systemd in the guest.

use std::time::Duration;

use super::{Machine, Output};
use crate::{Call, Error};

impl Machine {
    /// Runs `systemctl <query>`, as `user` when one is given.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn systemctl(
        &self,
        query: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        let _ = (query, user, call);
        Err(Error::Unsupported("systemctl"))
    }

    /// The properties of a unit, in systemd's order.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `systemctl` fails.
    pub fn get_unit_info(
        &self,
        unit: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Vec<(String, String)>, Error> {
        let _ = (unit, user, call);
        Err(Error::Unsupported("get_unit_info"))
    }

    /// One property of a unit.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `systemctl` fails.
    pub fn get_unit_property(
        &self,
        unit: &str,
        property: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let _ = (unit, property, user, call);
        Err(Error::Unsupported("get_unit_property"))
    }

    /// Waits in the guest until a unit is active.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it failed, when it is inactive and no job is pending, or when `timeout` passes.
    pub fn wait_for_unit(
        &self,
        unit: &str,
        user: Option<&str>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (unit, user, timeout, call);
        Err(Error::Unsupported("wait_for_unit"))
    }

    /// Checks the state of a unit.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when it is in another one.
    pub fn require_unit_state(
        &self,
        unit: &str,
        state: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (unit, state, call);
        Err(Error::Unsupported("require_unit_state"))
    }

    /// Runs `systemctl start <name>`; a failure is in the output's status.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn start_job(
        &self,
        name: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        let _ = (name, user, call);
        Err(Error::Unsupported("start_job"))
    }

    /// Runs `systemctl stop <name>`; a failure is in the output's status.
    ///
    /// # Errors
    ///
    /// When the shell is lost or the call ends before.
    pub fn stop_job(
        &self,
        name: &str,
        user: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Output, Error> {
        let _ = (name, user, call);
        Err(Error::Unsupported("stop_job"))
    }
}
