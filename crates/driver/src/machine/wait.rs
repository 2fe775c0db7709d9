//! Waits for files, ports and sockets; each loops inside the guest.

use std::time::Duration;

use super::Machine;
use crate::{Call, Error};

impl Machine {
    /// Waits in the guest until a file is there.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_file(
        &self,
        filename: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (filename, timeout, call);
        Err(Error::Unsupported("wait_for_file"))
    }

    /// Waits in the guest until a TCP connection to `address` (a name or an address) succeeds.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_open_port(
        &self,
        port: u16,
        address: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (port, address, timeout, call);
        Err(Error::Unsupported("wait_for_open_port"))
    }

    /// Waits in the guest until a TCP connection to `address` fails.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_closed_port(
        &self,
        port: u16,
        address: &str,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (port, address, timeout, call);
        Err(Error::Unsupported("wait_for_closed_port"))
    }

    /// Waits in the guest until something listens on a UNIX-domain socket.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes.
    pub fn wait_for_open_unix_socket(
        &self,
        address: &str,
        is_datagram: bool,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (address, is_datagram, timeout, call);
        Err(Error::Unsupported("wait_for_open_unix_socket"))
    }
}
