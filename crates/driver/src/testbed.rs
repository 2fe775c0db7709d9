//! A test's machines and VLANs, the directories they live in, the global timeout and the end of it all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::machine::Activity;
use crate::{Call, Error, Log, Machine, TestConfig, Vlan};

/// How a testbed is run, beside what the test itself asks for.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where `copy_from_machine` and console logs go; by default the current directory and the user's state directory.
    pub out_dir: Option<PathBuf>,
    /// Whether the testbed's directory is kept at the end.
    pub keep_state: bool,
    /// The image cache; by default the user's.
    pub cache: Option<PathBuf>,
    /// The QEMU binary; by default `$HOTBED_QEMU`, else `qemu-system-x86_64` in `PATH`.
    pub qemu: Option<PathBuf>,
    /// The directory below which the testbed's own is made; by default as the NixOS driver finds it.
    pub temporary_root: Option<PathBuf>,
}

/// A test's machines and VLANs.
#[derive(Debug)]
pub struct Testbed {
    config: TestConfig,
    log: Arc<Log>,
    machines: Vec<Arc<Machine>>,
    vlans: Vec<Arc<Vlan>>,
    directory: PathBuf,
    out_dir: PathBuf,
}

impl Testbed {
    /// Makes the directories, the reaper, the VLANs and the machines; boots nothing.
    ///
    /// # Errors
    ///
    /// When the host does not give what is needed.
    pub fn new(config: TestConfig, options: Options, log: Arc<Log>) -> Result<Arc<Self>, Error> {
        let _ = (config, options, log);
        Err(Error::Unsupported("Testbed::new"))
    }

    /// What the test asks for.
    #[must_use]
    pub fn config(&self) -> &TestConfig {
        &self.config
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The machines, sorted by name.
    #[must_use]
    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// The VLANs, sorted by number.
    #[must_use]
    pub fn vlans(&self) -> &[Arc<Vlan>] {
        &self.vlans
    }

    /// The directory that holds everything: the NixOS driver's `<tmp>`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where `copy_from_machine` puts files.
    #[must_use]
    pub fn out_dir(&self) -> &Path {
        &self.out_dir
    }

    /// The variables that the NixOS driver sets in its own process: `QEMU_VDE_SOCKET_<n>`. Start scripts get them in any case.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Builds or finds the images of all machines, so that no boot has to; `start` does it for those that are not there yet.
    ///
    /// # Errors
    ///
    /// When an image cannot be built.
    pub fn prepare_images(
        &self,
        progress: &dyn hotbed_image::Progress,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let _ = (progress, call);
        Err(Error::Unsupported("prepare_images"))
    }

    /// Starts every machine at once; does not wait for their shells.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`] with all that failed.
    pub fn start_all(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("start_all"))
    }

    /// Waits until every machine is off, and disarms the timeout.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn join_all(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("join_all"))
    }

    /// Runs `sync` in every machine that is up, as the end of `run_tests` does.
    ///
    /// # Errors
    ///
    /// When the call ends before.
    pub fn sync_all(&self, call: &Call<'_>) -> Result<(), Error> {
        let _ = call;
        Err(Error::Unsupported("sync_all"))
    }

    /// Starts the global timeout: logs `Test will time out and terminate in <N> seconds`, and when it passes, says what each
    /// machine was doing, kills them all and then calls `on_expiry` (on the timer's own thread).
    pub fn arm_timeout(&self, timeout: Duration, on_expiry: Box<dyn FnOnce() + Send>) {
        let _ = (timeout, on_expiry);
    }

    /// Stops the global timeout.
    pub fn disarm_timeout(&self) {}

    /// Whether the global timeout has passed.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        false
    }

    /// What each machine is doing.
    #[must_use]
    pub fn status(&self) -> Vec<(String, Activity)> {
        self.machines
            .iter()
            .map(|machine| (machine.name().to_owned(), machine.activity()))
            .collect()
    }

    /// Ends everything: machines, VLANs, helpers, directories. Takes well under a second; a second call does nothing.
    pub fn stop(&self) {}
}
