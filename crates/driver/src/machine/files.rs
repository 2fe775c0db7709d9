//! Files between host and guest.

use std::path::Path;

use super::Machine;
use crate::{Call, Error};

impl Machine {
    /// Copies a file or a directory into the guest; it becomes root's and keeps its mode.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or the guest does not take it.
    pub fn copy_from_host(
        &self,
        source: &Path,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (source, target, call);
        Err(Error::Unsupported("copy_from_host"))
    }

    /// Copies a file into the guest without a shared directory.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or the guest does not take it.
    pub fn copy_from_host_via_shell(
        &self,
        source: &Path,
        target: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (source, target, call);
        Err(Error::Unsupported("copy_from_host_via_shell"))
    }

    /// Copies a file or a directory of the guest to `<out dir>/<target_dir>/<its name>`.
    ///
    /// # Errors
    ///
    /// When the source is not there, or a directory is to be copied to where one is already.
    pub fn copy_from_machine(
        &self,
        source: &str,
        target_dir: &str,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (source, target_dir, call);
        Err(Error::Unsupported("copy_from_machine"))
    }
}
