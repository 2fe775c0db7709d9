//! From power-on to the guest's shell.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hotbed_image::{Agent, Identity, Image};

use super::command_line::{self, Accelerator, Sockets};
use super::console_log::Opening;
use super::hot::clones::{NOBODY, Template};
use super::marks::Mark;
use super::quoting::{python_bytes, quote};
use super::run::{Run, Start, quoted_lines};
use super::{Machine, lock};
use crate::call::{after, now};
use crate::config::{ImageMachine, MachineKind, Net};
use crate::{AgentProgram, Call, Error};

/// The initramfs of a clone that boots as nobody.
const NOBODYS_INITRD: &str = "initrd-of-nobody";
/// How often a guest that says nothing is remarked upon.
const REMARK: Duration = Duration::from_secs(30);

impl Machine {
    /// Starts QEMU unless it runs; does not wait for the guest. Without `allow_reboot`, a guest that reboots ends.
    ///
    /// # Errors
    ///
    /// When QEMU exits at once (its words are in the message), or the image cannot be had.
    pub fn start(&self, allow_reboot: bool, call: &Call<'_>) -> Result<(), Error> {
        let _starting = self
            .starting
            .take(call, &|| format!("starting {}", self.name()))?;
        if let Some(run) = self.present_run() {
            if run.is_running() {
                return Ok(());
            }
            self.forget_run();
        }
        self.marks.begin();
        let _doing = self.begin_doing("starting");
        self.log("starting vm");
        let run = match &self.config.kind {
            MachineKind::Image(image) => {
                let start = self.image_start(image, allow_reboot, call)?;
                self.start_image(image, &start, call)?
            }
            MachineKind::StartScript(script) => {
                self.why_scripts_are_cold();
                let sockets = Sockets::in_directory(self.state_dir());
                let command = self.script_command(script, &sockets, allow_reboot);
                self.start_run(command, &sockets, None, call)?
            }
        };
        let pid = run.process.pid();
        self.set_run(Arc::new(run));
        self.log(&format!("QEMU running (pid {pid})"));
        Ok(())
    }

    /// Starts QEMU by `command`.
    fn start_run(
        &self,
        command: Command,
        sockets: &Sockets,
        opening: Option<&Opening>,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        *lock(&self.start_command) = shell_words(&command);
        let start = Start {
            machine: self.name(),
            site: &self.site,
            console: &self.console,
            marks: &self.marks,
            sockets,
            agent: self.listens_to_agent(),
            opening,
        };
        Run::start(command, &start, call)
    }

    /// Starts the QEMU of an image machine with these arguments.
    pub(super) fn start_qemu(
        &self,
        arguments: Vec<OsString>,
        opening: Option<&Opening>,
        call: &Call<'_>,
    ) -> Result<Run, Error> {
        let mut command = Command::new(&self.site.qemu);
        command
            .args(arguments)
            .current_dir(self.state_dir())
            .env("TMPDIR", self.state_dir());
        let sockets = Sockets::in_directory(self.state_dir());
        self.start_run(command, &sockets, opening, call)
    }

    fn script_command(&self, script: &str, sockets: &Sockets, allow_reboot: bool) -> Command {
        let display =
            std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(command_line::start_script(
            script,
            sockets,
            allow_reboot,
            display,
            self.listens_to_agent(),
        ));
        command
            .current_dir(self.state_dir())
            .env("TMPDIR", self.state_dir())
            .env("USE_TMPDIR", "1")
            .env("SHARED_DIR", self.shared_dir());
        command.env("NIX_EFI_VARS", self.efi_vars_path());
        command.envs(
            self.site
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }

    /// All that goes into the boot of an image machine.
    pub(super) fn image_start(
        &self,
        machine: &ImageMachine,
        allow_reboot: bool,
        call: &Call<'_>,
    ) -> Result<ImageStart<'_>, Error> {
        let mut image = self.site.image(self.name(), &machine.spec(), call)?;
        if let Some(kernel) = &machine.kernel {
            check_file("kernel", kernel)?;
            // QEMU runs in another directory.
            image.kernel = std::path::absolute(kernel)
                .map_err(Error::host("there is no current directory"))?;
        }
        if crate::accelerator::which(&self.site.qemu).is_none() {
            return Err(Error::Machine(format!(
                "QEMU is not there: no program `{}` (Debian and Ubuntu package `qemu-system-x86`; HOTBED_QEMU names another)",
                self.site.qemu.display()
            )));
        }
        let agent = match &self.site.agent {
            AgentProgram::Found(agent) if self.config.agent => Some(agent),
            _ => None,
        };
        let accelerator = self.site.accelerator(call)?;
        let own = self.vlan_sockets();
        let initrd = self.state_dir().join("initrd");
        let arguments_as = |name: &str, number, vlans: &[(u8, PathBuf)], initrd: &Path| {
            let parts = command_line::Parts {
                name,
                number,
                vlans,
                accelerator,
                sockets: &Sockets::in_directory(self.state_dir()),
                allow_reboot,
                agent: agent.is_some(),
            };
            command_line::image_machine(machine, &parts, &image.arguments(initrd, machine.log))
        };
        // Who a clone is, its agent tells it.
        let clone_of = self.config.clone_of.as_ref().filter(|_| agent.is_some());
        let template = clone_of.map(|name| Template {
            identity: self.identity_as(name, NOBODY),
            arguments: arguments_as(
                name,
                NOBODY,
                &self.anybodys_vlan_sockets(),
                &self.state_dir().join(NOBODYS_INITRD),
            ),
            initrd: self.state_dir().join(NOBODYS_INITRD),
        });
        let arguments = arguments_as(self.name(), self.config.number, &own, &initrd);
        Ok(ImageStart {
            image,
            identity: self.identity_as(self.name(), self.config.number),
            template,
            agent,
            accelerator,
            allow_reboot,
            memory: command_line::memory(machine),
            arguments,
            initrd,
        })
    }

    /// Whether there is a port for an agent.
    pub(super) fn listens_to_agent(&self) -> bool {
        let is_there = match self.config.kind {
            MachineKind::Image(_) => matches!(self.site.agent, AgentProgram::Found(_)),
            MachineKind::StartScript(_) => self.site.agent.is_wanted(),
        };
        is_there && self.config.agent
    }

    /// The sockets at which the switches know this machine by its name.
    fn vlan_sockets(&self) -> Vec<(u8, PathBuf)> {
        let mut sockets = self.anybodys_vlan_sockets();
        for (_, socket) in &mut sockets {
            *socket = crate::vlan::socket_of(socket, self.name());
        }
        sockets
    }

    fn anybodys_vlan_sockets(&self) -> Vec<(u8, PathBuf)> {
        let socket = |vlan: &u8| {
            let path = self.site.vlan_sockets.get(vlan)?;
            let path = match self.config.net() {
                Net::Stream => path.clone(),
                Net::VhostUser => crate::vlan::shared_socket_of(path),
            };
            Some((*vlan, path))
        };
        self.config.vlans.iter().filter_map(socket).collect()
    }

    /// Waits for the guest's shell; starts the machine if need be.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] when the shell does not come within the boot timeout, [`Error::Machine`] when QEMU ends before.
    pub fn connect(&self, call: &Call<'_>) -> Result<(), Error> {
        if self.is_connected() && !self.has_booted_anew() {
            return self.wait_for_others(call);
        }
        self.nested("waiting for the VM to finish booting", || {
            self.come_up(now(), call)?;
            self.wait_for_others(call)
        })
    }

    /// Waits for the guest's shell since `begin`; starts the machine if need be, and saves it if that is to be.
    pub(super) fn come_up(&self, begin: Instant, call: &Call<'_>) -> Result<(), Error> {
        let run = self.started(call)?;
        let doing = || format!("waiting for the shell of {}", self.name());
        let mut shell = run.shell.take(call, &doing)?;
        if run.connected.load(Ordering::Acquire) {
            return Ok(());
        }
        let said = if self.is_up_with_agent() {
            self.wait_for_agent(&run, &mut shell, begin, call)?
        } else {
            self.wait_for_shell(&run, &mut shell, begin, call)?
        };
        self.marks.set(Mark::Up);
        let successor = self.go_on_from_snapshot(&run, &mut shell, call)?;
        let present = successor.as_ref().unwrap_or(&run);
        if let Some(identity) = &present.becomes {
            self.adopt(present, identity, call)?;
        }
        let hello = present.agent.poll_ready(now()).map(|(_, hello)| hello);
        present.agent.begin_boot(hello.as_ref());
        present.came_up.store(true, Ordering::Release);
        present.connected.store(true, Ordering::Release);
        // Who waits for its shell looks for the present run then.
        run.connected.store(true, Ordering::Release);
        if !said.is_empty() {
            self.log(&format!("Guest shell says: {}", python_bytes(&said)));
        }
        self.log("connected to guest root shell");
        self.log(&format!(
            "(connecting took {:.2} seconds)",
            now().saturating_duration_since(begin).as_secs_f64()
        ));
        Ok(())
    }

    /// Whether the guest's agent comes up when everything is there that a test may ask for: in our own images, whose shell starts after
    /// it. In others, systemd may start it long before the shell.
    fn is_up_with_agent(&self) -> bool {
        matches!(self.config.kind, MachineKind::Image(_))
    }

    /// Whether the guest has booted again by itself; if so, its new shell is still to come.
    fn has_booted_anew(&self) -> bool {
        let Some(run) = self.present_run() else {
            return false;
        };
        let is_anew = run
            .agent
            .poll_ready(now())
            .is_some_and(|(_, hello)| run.agent.is_other_boot(&hello));
        if is_anew {
            run.connected.store(false, Ordering::Release);
        }
        is_anew
    }

    /// Waits for the agent, or for a shell whose agent does not come.
    fn wait_for_agent(
        &self,
        run: &Run,
        shell: &mut hotbed_console::Shell,
        begin: Instant,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, Error> {
        let mut deadline = after(begin, self.site.boot_timeout);
        let mut is_announced = false;
        while run.agent.is_open() && run.is_running() && now() < deadline {
            let slice = call
                .slice(&|| format!("{} boots", self.name()))?
                .min(deadline);
            if run.agent.poll_ready(slice).is_some() {
                return Ok(Vec::new());
            }
            // Looked at, not waited for; what is wrong with it is told below.
            if !is_announced && !matches!(shell.poll_ready(now()), Ok(None)) {
                is_announced = true;
                deadline = deadline.min(now() + run.agent.patience());
            }
        }
        self.wait_for_shell(run, shell, begin, call)
    }

    /// Waits for the shell to announce itself.
    pub(crate) fn wait_for_shell(
        &self,
        run: &Run,
        shell: &mut hotbed_console::Shell,
        begin: Instant,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, Error> {
        let deadline = after(begin, self.site.boot_timeout);
        let mut remark = begin + REMARK;
        loop {
            let slice = call
                .slice(&|| format!("{} boots", self.name()))?
                .min(deadline);
            match shell.poll_ready(slice) {
                Ok(Some(said)) => return Ok(said),
                Ok(None) => {}
                Err(error) => {
                    return Err(self.explain(
                        run,
                        Error::Machine(format!(
                            "the shell of {} did not come: {error}",
                            self.name()
                        )),
                    ));
                }
            }
            if !run.is_running() {
                return Err(self.explain(run, Error::Machine(format!("{} is gone", self.name()))));
            }
            if now() >= deadline {
                return Err(Error::Runtime(format!(
                    "Shell did not start in time: {} has not reached it {} s after it was waited for (`boot_timeout` in the test's head sets how long){}",
                    self.name(),
                    self.site.boot_timeout.as_secs(),
                    quoted_lines(&self.console)
                )));
            }
            if now() >= remark {
                remark += REMARK;
                self.log("Guest root shell did not produce any data yet...");
                self.log("  To debug, enter the VM and run 'systemctl status backdoor.service'.");
            }
        }
    }

    /// The run of a machine that takes commands; boots it if need be.
    pub(crate) fn connected(&self, call: &Call<'_>) -> Result<Arc<Run>, Error> {
        self.connect(call)?;
        self.running()
    }

    /// The run of a machine that is on; starts it if it is off.
    pub(crate) fn started(&self, call: &Call<'_>) -> Result<Arc<Run>, Error> {
        if self.present_run().is_none() {
            self.start(false, call)?;
        }
        self.running()
    }
}

/// All that goes into the boot of an image machine.
pub(super) struct ImageStart<'s> {
    pub(super) image: Image,
    pub(super) identity: Identity,
    /// What it boots as when it boots for all clones.
    pub(super) template: Option<Template>,
    pub(super) agent: Option<&'s Agent>,
    pub(super) accelerator: Accelerator,
    pub(super) allow_reboot: bool,
    /// MiB.
    pub(super) memory: u32,
    /// QEMU's, for a boot from power-on.
    pub(super) arguments: Vec<OsString>,
    /// Where the initramfs is to be.
    pub(super) initrd: PathBuf,
}

impl ImageStart<'_> {
    /// Writes the initramfs of the machine.
    pub(super) fn write_initrd(&self) -> Result<(), Error> {
        self.write_initrd_of(&self.identity, &self.initrd)
    }

    /// Writes the initramfs of a machine that has this identity.
    pub(super) fn write_initrd_of(&self, identity: &Identity, path: &Path) -> Result<(), Error> {
        let write = || {
            self.image.write_initrd(identity, path)?;
            match self.agent {
                Some(agent) => agent.append_to(path),
                None => Ok(()),
            }
        };
        write().map_err(Error::image(&self.identity.hostname))
    }
}

/// The command as one would type it.
fn shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<_> = words.map(|word| quote(&word.to_string_lossy())).collect();
    quoted.join(" ")
}

fn check_file(what: &str, path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() => Ok(()),
        Ok(_) => Err(Error::Argument(format!(
            "{what} {} is not a file",
            path.display()
        ))),
        Err(error) => Err(Error::host(format!(
            "{what} {} cannot be used",
            path.display()
        ))(error)),
    }
}
