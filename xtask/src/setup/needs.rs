//! The one table of what the jobs need.

use std::fmt;

use super::host::{Host, Only};

/// What a thing is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To compile.
    Build,
    /// To make images and boot machines.
    Guests,
    /// To test against programs that others wrote.
    Peers,
    /// To check the Python stubs.
    Stubs,
    /// To evaluate the flake.
    Nix,
}

/// How a thing is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Probe {
    /// A program on `PATH`.
    Program(&'static str),
    /// A program on `PATH` that needs no shared library: it also runs inside a guest.
    Static(&'static str),
    /// A file. `{python}` stands for what `/usr/bin/python3` is, as `python3.11`; `*` for any one folder.
    File(&'static str),
}

impl Probe {
    /// Whether the thing is there.
    pub(crate) fn is_met(self, host: &Host) -> bool {
        match self {
            Self::Program(name) => host.find_program(name).is_some(),
            Self::Static(name) => host
                .find_program(name)
                .is_some_and(|file| host.is_static(&file)),
            Self::File(pattern) => host.has_file(pattern),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => f.write_str(name),
            Self::Static(name) => write!(f, "{name} (static)"),
            Self::File(pattern) => f.write_str(&pattern.replace("{python}", "python3.x")),
        }
    }
}

/// A thing that a job needs.
#[derive(Debug)]
pub(crate) struct Need {
    /// How it is looked for.
    pub(crate) probe: Probe,
    /// What brings it: the name is the same on Debian 12, Debian 13 and Ubuntu 24.04.
    pub(crate) package: &'static str,
    /// What it is needed for.
    pub(crate) purpose: Purpose,
    /// Where it is needed.
    pub(crate) only: Only,
    /// Why, in a few words.
    pub(crate) reason: &'static str,
}

const fn need(probe: Probe, package: &'static str, purpose: Purpose, reason: &'static str) -> Need {
    Need {
        probe,
        package,
        purpose,
        only: Only::Everywhere,
        reason,
    }
}

const fn only(only: Only, need: Need) -> Need {
    Need { only, ..need }
}

/// Everything, grouped by purpose. (`cc` is asked for too, though nothing gets here without a linker.)
pub(crate) const TABLE: &[Need] = &[
    need(
        Probe::Program("cc"),
        "gcc",
        Purpose::Build,
        "links programs",
    ),
    need(
        Probe::File("/usr/lib/*/crt1.o"),
        "libc6-dev",
        Purpose::Build,
        "links programs",
    ),
    need(
        Probe::Program("git"),
        "git",
        Purpose::Build,
        "lists the source files",
    ),
    need(
        Probe::File("/usr/bin/python3"),
        "python3",
        Purpose::Build,
        "tests are written in Python",
    ),
    need(
        Probe::File("/usr/lib/*/lib{python}.so"),
        "python3-dev",
        Purpose::Build,
        "Hotbed embeds Python",
    ),
    need(
        Probe::Program("qemu-system-x86_64"),
        "qemu-system-x86",
        Purpose::Guests,
        "runs the machines",
    ),
    need(
        Probe::Static("busybox"),
        "busybox-static",
        Purpose::Guests,
        "the programs of a micro machine",
    ),
    need(
        Probe::Static("bash-static"),
        "bash-static",
        Purpose::Guests,
        "the shell of a micro machine",
    ),
    need(
        Probe::Program("mmdebstrap"),
        "mmdebstrap",
        Purpose::Guests,
        "makes Debian roots",
    ),
    need(
        Probe::Program("mkfs.erofs"),
        "erofs-utils",
        Purpose::Guests,
        "packs Debian roots",
    ),
    only(
        Only::NotRoot,
        need(
            Probe::Program("newuidmap"),
            "uidmap",
            Purpose::Guests,
            "lets mmdebstrap work without root",
        ),
    ),
    only(
        Only::NotDebian,
        need(
            Probe::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
            "debian-archive-keyring",
            Purpose::Guests,
            "verifies what guests are made of",
        ),
    ),
    need(
        Probe::Program("vde_switch"),
        "vde2",
        Purpose::Peers,
        "the switch that Hotbed's is compared with",
    ),
    need(
        Probe::Program("vde_plug"),
        "vde2",
        Purpose::Peers,
        "a VDE program that Hotbed's switch must serve",
    ),
    need(
        Probe::Program("dpdk-testpmd"),
        "dpdk-dev",
        Purpose::Peers,
        "a driver that polls Hotbed's vhost-user network ports",
    ),
    need(
        Probe::Program("tesseract"),
        "tesseract-ocr",
        Purpose::Peers,
        "reads the text on screens",
    ),
    need(
        Probe::Program("dpkg-deb"),
        "dpkg",
        Purpose::Peers,
        "takes the kernel that tests of screens boot out of its package",
    ),
    need(
        Probe::Program("ip"),
        "iproute2",
        Purpose::Peers,
        "sets up taps in tests",
    ),
    need(
        Probe::Program("kill"),
        "procps",
        Purpose::Peers,
        "sends signals in tests",
    ),
    only(
        Only::Debian,
        need(
            Probe::Program("linux.uml"),
            "user-mode-linux",
            Purpose::Peers,
            "a guest that uses Hotbed's vhost-user devices",
        ),
    ),
    need(
        Probe::File("/usr/lib/{python}/ensurepip/__init__.py"),
        "python3-venv",
        Purpose::Stubs,
        "a place for mypy",
    ),
    need(
        Probe::Program("nix-instantiate"),
        "nix-bin",
        Purpose::Nix,
        "evaluates the flake",
    ),
];
