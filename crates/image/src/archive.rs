//! The packages' archive: which one, how it was last seen, and how apt is asked about it.
//!
//! apt runs on folders of our own, so that it needs no root, and neither sees nor changes the host's state.

use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::key::KeyBuilder;
use crate::sources::{self, Source};
use crate::tool::{self, Run};
use crate::{Error, Progress, files};

/// An archive of packages for one release of a distribution.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) distribution: Distribution,
    pub(crate) codename: String,
    pub(crate) sources: Vec<Source>,
}

/// Whose packages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
}

/// What the distributions call the same things.
struct Names {
    id: &'static str,
    /// The package that depends on the newest kernel for virtual machines.
    kernel: &'static str,
    keyring: &'static str,
    keyring_package: &'static str,
    /// The release to take when the host does not say.
    codename: &'static str,
    /// Address and suffix of the suite.
    archives: &'static [(&'static str, &'static str)],
    components: &'static [&'static str],
}

const DEBIAN: Names = Names {
    id: "debian",
    kernel: "linux-image-cloud-amd64",
    keyring: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keyring_package: "debian-archive-keyring",
    codename: "trixie",
    archives: &[
        ("http://deb.debian.org/debian", ""),
        ("http://deb.debian.org/debian", "-updates"),
        ("http://deb.debian.org/debian-security", "-security"),
    ],
    components: &["main"],
};

const UBUNTU: Names = Names {
    id: "ubuntu",
    kernel: "linux-image-virtual",
    keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keyring_package: "ubuntu-keyring",
    codename: "noble",
    archives: &[
        ("http://archive.ubuntu.com/ubuntu", ""),
        ("http://archive.ubuntu.com/ubuntu", "-updates"),
        ("http://security.ubuntu.com/ubuntu", "-security"),
    ],
    components: &["main", "universe"],
};

impl Distribution {
    fn names(self) -> &'static Names {
        match self {
            Self::Debian => &DEBIAN,
            Self::Ubuntu => &UBUNTU,
        }
    }

    /// The package that depends on the newest kernel for virtual machines.
    pub(crate) fn kernel_package(self) -> &'static str {
        self.names().kernel
    }
}

impl Archive {
    /// The archive that the host itself is made from.
    pub(crate) fn of_host() -> Result<Self, Error> {
        let (distribution, codename) = host_release()?;
        Self::new(distribution, codename)
    }

    /// The archive that `debian` images are made from: the host's, or Debian's own on an Ubuntu host.
    pub(crate) fn for_debian() -> Result<Self, Error> {
        let (distribution, codename) = host_release()?;
        match distribution {
            Distribution::Debian => Self::new(distribution, codename),
            Distribution::Ubuntu => Self::new(Distribution::Debian, DEBIAN.codename.to_owned()),
        }
    }

    fn new(distribution: Distribution, codename: String) -> Result<Self, Error> {
        let names = distribution.names();
        let mirror = std::env::var(MIRROR)
            .ok()
            .filter(|_| distribution == Distribution::Debian);
        let mut sources = match mirror {
            Some(uri) => vec![default_source(names, &uri, codename.clone())],
            None => sources::of_release(host_sources(), names.id, &codename),
        };
        if sources.is_empty() {
            let archives = names.archives.iter();
            sources = archives
                .map(|(uri, suffix)| default_source(names, uri, format!("{codename}{suffix}")))
                .collect();
        }
        for source in &mut sources {
            // Debian says where its keys are; Ubuntu's older sources leave it to apt's own list of trusted keys.
            let keyring = source
                .signed_by
                .get_or_insert_with(|| names.keyring.to_owned());
            if !Path::new(keyring).exists() {
                return Err(Error::MissingTool {
                    tool: keyring.clone(),
                    package: names.keyring_package,
                });
            }
        }
        Ok(Self {
            distribution,
            codename,
            sources,
        })
    }

    /// The text of its `sources.list`.
    pub(crate) fn sources_list(&self) -> String {
        self.sources
            .iter()
            .map(|source| source.line() + "\n")
            .collect()
    }

    /// Names the archive in file names and keys: the same sources have the same identifier.
    pub(crate) fn id(&self) -> String {
        let digest = KeyBuilder::new("archive")
            .input("sources", self.sources_list())
            .finish();
        format!(
            "{}-{}-{}",
            self.distribution.names().id,
            self.codename,
            &digest[..12]
        )
    }

    /// The part of apt's configuration that says how the host fetches: proxies, retries, checks.
    pub(crate) fn fetching(cache: &Cache, id: &str) -> PathBuf {
        cache.root().join("apt").join(id).join("fetching.conf")
    }

    /// Prepares apt to be run on this archive.
    pub(crate) fn apt(&self, cache: &Cache, progress: &dyn Progress) -> Result<Apt, Error> {
        let root = cache.root().join("apt").join(self.id());
        for folder in ["state/lists/partial", "cache/archives/partial", "parts"] {
            files::create_folder(&root.join(folder))?;
        }
        let apt_config = tool::find("apt-config", "apt")?;
        let host = Run::new("reading apt's configuration", apt_config)
            .arg("dump")
            .arg("Acquire")
            .quiet();
        let is_wanted = |line: &String| !UNWANTED.iter().any(|prefix| line.starts_with(prefix));
        let host: Vec<String> = host.run(progress)?.into_iter().filter(is_wanted).collect();
        let fetching =
            host.join("\n") + "\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n";
        files::write_lightly(&Self::fetching(cache, &self.id()), fetching.as_bytes())?;
        let path = |name: &str| root.join(name).display().to_string();
        let configuration = format!(
            "{}Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"{}\";\nDir::Etc::sourcelist \"{}\";\n\
             Dir::Etc::sourceparts \"{}\";\nDir::Etc::preferencesparts \"{}\";\nDir::State \"{}\";\n\
             Dir::State::status \"{}\";\nDir::Cache \"{}\";\n\
             APT::Install-Recommends \"false\";\nAPT::Get::Assume-Yes \"true\";\n",
            fetching,
            path("parts"),
            path("sources.list"),
            path("parts"),
            path("parts"),
            path("state"),
            path("status"),
            path("cache"),
        );
        files::write_lightly(&root.join("apt.conf"), configuration.as_bytes())?;
        files::write_lightly(&root.join("sources.list"), self.sources_list().as_bytes())?;
        files::write_lightly(&root.join("status"), b"")?;
        Ok(Apt {
            configuration: root.join("apt.conf"),
            nowhere: root.join("parts"),
        })
    }
}

/// apt, on an archive's own folders.
pub(crate) struct Apt {
    configuration: PathBuf,
    /// An empty folder.
    nowhere: PathBuf,
}

impl Apt {
    /// Fetches the lists of packages.
    pub(crate) fn update(&self, progress: &dyn Progress) -> Result<(), Error> {
        progress.step("fetching the lists of packages");
        self.run(
            "fetching the lists of packages",
            &["update", "--error-on=any"],
            None,
            progress,
        )
    }

    /// Runs `apt-get` for what it prints.
    pub(crate) fn ask(
        &self,
        what: &str,
        arguments: &[&str],
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        self.command(what, arguments)?.quiet().run(progress)
    }

    /// Runs `apt-get` for what it does.
    pub(crate) fn run(
        &self,
        what: &str,
        arguments: &[&str],
        folder: Option<&Path>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let run = self.command(what, arguments)?;
        let run = folder.into_iter().fold(run, Run::folder);
        run.run(progress).map(drop)
    }

    fn command(&self, what: &str, arguments: &[&str]) -> Result<Run, Error> {
        let run = Run::new(what, tool::find("apt-get", "apt")?).args(arguments.iter().copied());
        // Not where the user is: of a file that lies there, `download --print-uris` says nothing.
        Ok(run
            .env("APT_CONFIG", &self.configuration)
            .folder(&self.nowhere))
    }
}

fn default_source(names: &Names, uri: &str, suite: String) -> Source {
    let components = names
        .components
        .iter()
        .map(|&component| component.to_owned())
        .collect();
    Source {
        uri: uri.to_owned(),
        suite,
        components,
        signed_by: None,
    }
}

fn host_release() -> Result<(Distribution, String), Error> {
    let path = Path::new("/etc/os-release");
    let text = String::from_utf8_lossy(&files::read(path, TEXT_MAX)?).into_owned();
    let value = |wanted: &str| {
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='));
        found.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let distribution = match value("ID").as_deref() {
        Some("debian") => Distribution::Debian,
        Some("ubuntu") => Distribution::Ubuntu,
        other => {
            let name = other.unwrap_or("a system without a name");
            return Err(Error::UnusableHost(format!(
                "images are made on Debian or Ubuntu, and this host is {name}"
            )));
        }
    };
    let codename =
        value("VERSION_CODENAME").unwrap_or_else(|| distribution.names().codename.to_owned());
    Ok((distribution, codename))
}

/// All sources of the host; a file that cannot be read has none.
fn host_sources() -> Vec<Source> {
    let read = |path: &Path| {
        String::from_utf8_lossy(&files::read(path, TEXT_MAX).unwrap_or_default()).into_owned()
    };
    let mut sources = sources::parse_list(&read(Path::new("/etc/apt/sources.list")));
    let folder = Path::new("/etc/apt/sources.list.d");
    for name in files::names(folder).unwrap_or_default() {
        let path = folder.join(name);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(sources::parse_list(&read(&path))),
            Some("sources") => sources.extend(sources::parse_paragraphs(&read(&path))),
            _ => {}
        }
    }
    sources
}

/// Set to the address of a mirror, Debian's packages come from there alone.
const MIRROR: &str = "HOTBED_DEBIAN_MIRROR";
/// What the host may have set for itself, and is of no use here: lists beside that of the packages.
const UNWANTED: [&str; 3] = [
    "Acquire::IndexTargets",
    "Acquire::Changelogs",
    "Acquire::Languages",
];
const TEXT_MAX: u64 = 1 << 20;
