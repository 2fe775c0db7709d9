//! Runs mmdebstrap, as root or in a user namespace: it mounts what a root needs, keeps services from starting, and
//! cleans up.
//!
//! Files go in and out by its "special hooks", which work for every user in both modes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::files::{INSTALL, MAKE_EROFS, quote};
use crate::archive::Archive;
use crate::cache::{Cache, Workspace};
use crate::tool::{self, Run};
use crate::{Error, Progress, files};

/// One run in the making: hooks are run in the order in which they were added.
pub(super) struct Mmdebstrap<'a> {
    archive: &'a Archive,
    /// What apt has downloaded, and its lists.
    apt: PathBuf,
    /// Where our own files are.
    work: PathBuf,
    /// Where mmdebstrap works: root of a user namespace must reach it, and may not reach a user's cache.
    temporary: PathBuf,
    is_root: bool,
    options: Vec<OsString>,
    packages: String,
}

impl<'a> Mmdebstrap<'a> {
    /// Begins a run that keeps its own files in `work`.
    pub(super) fn new(
        cache: &Cache,
        archive: &'a Archive,
        work: &Workspace,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let apt = cache.root().join("apt").join(archive.id());
        files::create_folder(&apt.join("packages"))?;
        let is_root = rustix::process::geteuid().is_root();
        archive.apt(cache, progress)?;
        let fetching = format!(
            "--aptopt={}",
            Archive::fetching(cache, &archive.id()).display()
        );
        Ok(Self {
            archive,
            apt,
            temporary: if is_root {
                work.path().to_owned()
            } else {
                work.outside()?
            },
            work: work.path().to_owned(),
            is_root,
            options: vec![fetching.into()],
            packages: String::new(),
        })
    }

    /// Runs a command of the shell on the host before the packages are in; the root is `$1`.
    pub(super) fn setup_hook(&mut self, command: &str) {
        self.options.push(format!("--setup-hook={command}").into());
    }

    /// Makes the root that is in a tar file the beginning.
    pub(super) fn start_from(&mut self, base: &Path) {
        self.setup_hook(&format!("tar-in {} /", word(base)));
        self.setup_hook(
            "mkdir -p \"$1\"/var/cache/apt/archives \"$1\"/var/lib/apt/lists \"$1\"/.hotbed",
        );
    }

    /// Gives the root what apt has downloaded before.
    pub(super) fn sync_archive_in(&mut self) {
        self.setup_hook(&format!(
            "sync-in {} /var/cache/apt/archives",
            word(&self.apt.join("packages"))
        ));
        self.setup_hook("mkdir -p \"$1\"/var/lib/apt/lists");
        self.setup_hook(&format!(
            "sync-in {} /var/lib/apt/lists",
            word(&self.apt.join("state/lists"))
        ));
    }

    /// Keeps what apt has downloaded.
    pub(super) fn sync_archive_out(&mut self) {
        self.customize_hook(
            "rm -rf \"$1\"/var/cache/apt/archives/partial \"$1\"/var/cache/apt/archives/lock",
        );
        self.customize_hook(&format!(
            "sync-out /var/cache/apt/archives {}",
            word(&self.apt.join("packages"))
        ));
    }

    /// Unpacks a tar file into the root.
    pub(super) fn unpack(&mut self, tar: &Path) {
        let hook = self.tar_in(tar);
        self.customize_hook(&hook);
    }

    /// The special hook is slow, but reads as the user; root needs no help.
    fn tar_in(&self, tar: &Path) -> String {
        if self.is_root {
            return format!(
                "tar --extract --numeric-owner --xattrs --xattrs-include='*' --directory \"$1\" --file {}",
                quote_path(tar)
            );
        }
        format!("tar-in {} /", word(tar))
    }

    /// Installs packages, with what they depend on.
    pub(super) fn install(&mut self, packages: &[&str]) {
        self.packages = packages.join(" ");
        self.customize_hook(INSTALL);
    }

    /// Runs a script in the root.
    pub(super) fn put_script(&mut self, name: &str, script: &str) -> Result<(), Error> {
        let path = self.work.join(name);
        files::write_lightly(&path, script.as_bytes())?;
        self.customize_hook("mkdir -p \"$1\"/.hotbed");
        self.customize_hook(&format!("upload {} /.hotbed/{name}", word(&path)));
        self.customize_hook(&format!("chroot \"$1\" bash /.hotbed/{name}"));
        Ok(())
    }

    /// Makes an EROFS file of the root, at the end.
    pub(super) fn make_erofs(&mut self, path: &Path) -> Result<(), Error> {
        tool::find("mkfs.erofs", "erofs-utils")?;
        self.customize_hook("rm -rf \"$1\"/.hotbed");
        if self.is_root {
            self.customize_hook(&format!("out={}; {MAKE_EROFS}", quote_path(path)));
        } else {
            self.customize_hook(&format!("out=\"$1.erofs\"; {MAKE_EROFS}; mkdir \"$1/.hotbed\"; mv \"$out\" \"$1/.hotbed/root.erofs\""));
            self.customize_hook(&format!("download /.hotbed/root.erofs {}", word(path)));
        }
        Ok(())
    }

    /// Makes a new root and packs it into a tar file.
    pub(super) fn make_base(
        mut self,
        packages: &[&str],
        tar: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        self.customize_hook("rm -rf \"$1\"/.hotbed \"$1\"/var/cache/apt \"$1\"/var/lib/apt/lists");
        for path in EXCLUDED {
            self.options
                .push(format!("--dpkgopt=path-exclude={path}").into());
        }
        self.options.push("--dpkgopt=force-unsafe-io".into());
        if Path::new(MERGED_USR).is_dir() {
            self.options.push(format!("--hook-dir={MERGED_USR}").into());
        }
        let include = format!("--include={}", packages.join(","));
        let options = [
            "--variant=apt",
            "--format=tar",
            "--skip=download/empty",
            "--skip=essential/unlink",
            // A user namespace cannot make device nodes again, and the kernel makes them all in a machine.
            "--skip=output/dev",
            &include,
        ];
        self.run("making Debian's base system", &options, tar, progress)
    }

    /// Changes the root that it started from; what is to be kept was taken out by hooks.
    pub(super) fn customize(self, needs_lists: bool, progress: &dyn Progress) -> Result<(), Error> {
        let mut options = vec![
            "--variant=custom",
            "--skip=cleanup",
            "--format=null",
            "--skip=download/empty",
            "--skip=essential/unlink",
        ];
        if !needs_lists {
            options.push("--skip=update");
        }
        self.run(
            "making the debian image",
            &options,
            Path::new("/dev/null"),
            progress,
        )
    }

    fn customize_hook(&mut self, command: &str) {
        self.options
            .push(format!("--customize-hook={command}").into());
    }

    fn run(
        self,
        what: &str,
        options: &[&str],
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let mmdebstrap = tool::find("mmdebstrap", "mmdebstrap")?;
        let mode = if self.is_root { "root" } else { "unshare" };
        let run = match self.own_namespaces(progress)? {
            Some(unshare) => Run::new(what, unshare)
                .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
                .arg(mmdebstrap),
            None => Run::new(what, mmdebstrap),
        };
        let run = run
            .arg(format!("--mode={mode}"))
            .arg("--architectures=amd64")
            .args(options.iter().copied());
        let run = run
            .args(self.options)
            .arg(&self.archive.codename)
            .arg(target);
        let run = run.args(
            self.archive
                .sources
                .iter()
                .map(crate::sources::Source::line),
        );
        let run = run.env("HOTBED_PACKAGES", self.packages);
        let run = run.env("TMPDIR", self.temporary);
        run.run(progress).map(drop)
    }

    /// As root, mounts and processes get namespaces of their own, so that both end with the tool, however it ends.
    /// In containers that allow none, and in user namespaces, mmdebstrap cleans up alone.
    fn own_namespaces(&self, progress: &dyn Progress) -> Result<Option<PathBuf>, Error> {
        if !self.is_root {
            return Ok(None);
        }
        let unshare = tool::find("unshare", "util-linux")?;
        let trial = Run::new("trying a namespace", unshare.clone()).quiet();
        let trial = trial
            .args(["--mount", "--pid", "--fork", "--mount-proc", "true"])
            .run(progress);
        match trial {
            Ok(_) => Ok(Some(unshare)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(_) => Ok(None),
        }
    }
}

fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// One word of a special hook's line.
fn word(path: &Path) -> String {
    let path = path.display().to_string();
    let mut word = String::new();
    for character in path.chars() {
        if !character.is_alphanumeric() && !"/._-+".contains(character) {
            word.push('\\');
        }
        word.push(character);
    }
    word
}

/// Makes /bin and its like links into /usr before any package is in, where the release wants that.
const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";

/// What nobody reads in a test.
pub(super) const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/bug/*",
];
