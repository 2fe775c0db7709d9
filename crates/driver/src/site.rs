//! What a testbed lends its machines: directories, the log, the reaper, images, the accelerator.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hotbed_image::Image;

use crate::accelerator::Verdict;
use crate::capacity::Admission;
use crate::images::Images;
use crate::machine::console_log::Tail;
use crate::machine::hot::Others;
use crate::machine::hot::clones::Clones;
use crate::process::{Process, spawn};
use crate::testbed::reaper::{MARK, Reaper};
use crate::turn::Turns;
use crate::{AgentProgram, Call, Error, Log};

/// What a testbed lends its machines.
#[derive(Debug)]
pub(crate) struct Site {
    /// The testbed's directory, which the NixOS driver calls `<tmp>`.
    pub(crate) directory: PathBuf,
    /// What the machines' directories are in: the same, or where other testbeds find them.
    pub(crate) state_root: PathBuf,
    /// Where `copy_from_machine` puts files.
    pub(crate) out_dir: PathBuf,
    /// The log.
    pub(crate) log: Arc<Log>,
    /// How long a guest may take to its shell.
    pub(crate) boot_timeout: Duration,
    /// The QEMU that image machines run in.
    pub(crate) qemu: PathBuf,
    /// The program that goes into guests.
    pub(crate) agent: AgentProgram,
    /// Whether all machines boot from power-on.
    pub(crate) is_cold: bool,
    /// The images that were built or found.
    pub(crate) images: Images,
    /// The sockets of the VLANs' switches, for QEMU's `-netdev stream`.
    pub(crate) vlan_sockets: BTreeMap<u8, PathBuf>,
    /// `QEMU_VDE_SOCKET_<n>`.
    pub(crate) environment: Vec<(String, String)>,
    /// Every machine's addresses and names, for `/etc/hosts`.
    pub(crate) hosts: Vec<(std::net::IpAddr, Vec<String>)>,
    /// What runs guests here, once it was found out.
    pub(crate) verdict: Turns<Option<Verdict>>,
    /// What follows the machines' console logs.
    pub(crate) tail: Tail,
    /// The machines that are to be saved.
    pub(crate) others: Others,
    /// How many machines may start at once.
    pub(crate) admission: Admission,
    /// Which clones boot for all.
    pub(crate) clones: Clones,
    reaper: Arc<Reaper>,
    processes: Mutex<Vec<Weak<Process>>>,
}

/// What [`Site::new`] takes.
pub(crate) struct Parts {
    pub(crate) directory: PathBuf,
    pub(crate) state_root: PathBuf,
    pub(crate) out_dir: PathBuf,
    pub(crate) log: Arc<Log>,
    pub(crate) boot_timeout: Duration,
    pub(crate) qemu: PathBuf,
    pub(crate) agent: AgentProgram,
    pub(crate) is_cold: bool,
    pub(crate) images: Images,
    pub(crate) vlan_sockets: BTreeMap<u8, PathBuf>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) hosts: Vec<(std::net::IpAddr, Vec<String>)>,
    pub(crate) tail: Tail,
    pub(crate) reaper: Arc<Reaper>,
}

impl Site {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            tail: parts.tail,
            directory: parts.directory,
            state_root: parts.state_root,
            out_dir: parts.out_dir,
            log: parts.log,
            boot_timeout: parts.boot_timeout,
            qemu: parts.qemu,
            agent: parts.agent,
            is_cold: parts.is_cold,
            images: parts.images,
            vlan_sockets: parts.vlan_sockets,
            environment: parts.environment,
            hosts: parts.hosts,
            verdict: Turns::new(None),
            others: Others::default(),
            admission: Admission::default(),
            clones: Clones::default(),
            reaper: parts.reaper,
            processes: Mutex::default(),
        }
    }

    /// The directory that all machines share with the host.
    pub(crate) fn shared_dir(&self) -> PathBuf {
        self.directory.join("shared-xchg")
    }

    /// Starts a process that ends with the testbed, whatever happens to us.
    pub(crate) fn spawn(&self, mut command: Command) -> io::Result<Arc<Process>> {
        command.env(MARK, &self.directory);
        let reaper = Arc::clone(&self.reaper);
        let process = Arc::new(spawn(command, Box::new(move |group| reaper.forget(group)))?);
        self.reaper.watch(process.pid())?;
        let mut processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        processes.retain(|process| process.strong_count() > 0);
        processes.push(Arc::downgrade(&process));
        Ok(process)
    }

    /// Kills all that was started.
    pub(crate) fn kill_all(&self) {
        let processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for process in processes.iter().filter_map(Weak::upgrade) {
            process.kill();
        }
    }

    /// Builds or finds a machine's image.
    pub(crate) fn image(
        &self,
        machine: &str,
        spec: &hotbed_image::Spec,
        call: &Call<'_>,
    ) -> Result<Image, Error> {
        let progress = LogProgress {
            log: Arc::clone(&self.log),
            machine: machine.to_owned(),
        };
        self.images.get(machine, spec, &progress, call)
    }

    /// Where accelerator verdicts are kept.
    pub(crate) fn cache_root(&self) -> Option<&Path> {
        self.images.cache_root()
    }
}

/// Tells the log what a build is doing.
struct LogProgress {
    log: Arc<Log>,
    machine: String,
}

impl hotbed_image::Progress for LogProgress {
    fn step(&self, message: &str) {
        self.log.log(Some(&self.machine), message);
    }

    fn line(&self, text: &str) {
        self.log.debug(&format!("{}: {text}", self.machine));
    }
}
