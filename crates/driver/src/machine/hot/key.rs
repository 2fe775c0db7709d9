//! What a snapshot depends on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hotbed_image::cache::Notes;
use hotbed_image::{Cache, KeyBuilder};

use super::KIND;
use super::clones::Template;
use super::save::MACHINE;
use crate::Error;
use crate::config::{Hot, ImageMachine};
use crate::machine::boot::ImageStart;
use crate::machine::command_line::Accelerator;

/// Goes up when the same inputs would be saved as something else.
const FORMAT: &str = "5";
/// What the input with the arguments of QEMU is called; between two of them is a zero.
pub(super) const ARGUMENTS: &str = "command line of QEMU";
/// What the testbed's directory is called in the key.
const DIRECTORY: &[u8] = b"@testbed@";
/// What the image's files are called there: it is known by its digest, wherever it is.
const IMAGE: [&[u8]; 2] = [b"@kernel@", b"@root@"];
/// What a clone's directory is called there.
const STATE_DIR: &[u8] = b"@clone@";

/// Everything that goes into a boot.
pub(super) struct Inputs<'i> {
    /// What remembers the digests of programs.
    pub(super) cache: &'i Cache,
    /// QEMU's program.
    pub(super) qemu: &'i Path,
    /// Image, identity, agent, arguments.
    pub(super) start: &'i ImageStart<'i>,
    /// The machine's configuration.
    pub(super) machine: &'i ImageMachine,
    /// When it is saved.
    pub(super) point: &'i Hot,
    /// What clones are before each is told which one it is, when it is about that.
    pub(super) template: Option<&'i Template>,
    /// The testbed's directory, which has another name every time.
    pub(super) directory: &'i Path,
    /// The machine's directory, which has its name; clones have names of their own.
    pub(super) state_dir: &'i Path,
}

/// What a snapshot is known by.
#[derive(Debug)]
pub(super) struct Key {
    /// Its key in the cache.
    pub(super) key: String,
    /// A digest of each input, as notes for whoever wants to know what has changed.
    pub(super) parts: Notes,
}

/// What the names of these notes begin with.
const PART: &str = "part ";

impl Key {
    /// Why a tree has no snapshot like this, of the machine of that name.
    pub(super) fn why_not_in(&self, tree: &Cache, machine: &str) -> String {
        let folder = tree.root().display();
        let mut closest: Option<Vec<&str>> = None;
        for listed in tree.list().unwrap_or_default() {
            let notes = tree.notes(KIND, &listed.key).unwrap_or_default();
            if listed.kind != KIND || notes.get(MACHINE).is_none_or(|name| name != machine) {
                continue;
            }
            if listed.key == self.key {
                return format!("the one in {folder} is damaged");
            }
            let parts = self.parts.iter();
            let others = parts.filter(|(name, digest)| notes.get(*name) != Some(digest));
            let others: Vec<&str> = others
                .filter_map(|(name, _)| name.strip_prefix(PART))
                .collect();
            if closest
                .as_ref()
                .is_none_or(|known| others.len() < known.len())
            {
                closest = Some(others);
            }
        }
        match closest {
            Some(others) => format!(
                "the one in {folder} is of another {}",
                others.join(", another ")
            ),
            None => format!("there is none in {folder}"),
        }
    }
}

impl Inputs<'_> {
    /// All of them, by names for people.
    pub(super) fn list(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let (identity, arguments) = match self.template {
            Some(template) => (&template.identity, &template.arguments),
            None => (&self.start.identity, &self.start.arguments),
        };
        let name = &identity.hostname;
        let digest_of = |path: &Path| self.cache.digest_of(path).map_err(Error::image(name));
        let identity = identity.digest().map_err(Error::image(name))?;
        let agent = self.start.agent.map(hotbed_image::Agent::digest);
        let arguments = arguments.iter();
        let arguments: Vec<_> = arguments
            .map(|argument| self.without_paths(argument))
            .collect();
        let version = format!("{FORMAT} {}", env!("CARGO_PKG_VERSION"));
        let mut list = vec![
            ("version of Hotbed", version.into()),
            ("QEMU", digest_of(self.qemu)?.into()),
            ("image", self.start.image.digest.clone().into()),
            ("name or address", identity.into()),
            ("agent", agent.unwrap_or_default().into()),
            ("point in its boot", format!("{:?}", self.point).into()),
            // No argument holds a zero.
            (ARGUMENTS, arguments.join(&0)),
        ];
        if let Some(kernel) = &self.machine.kernel {
            list.push(("kernel", digest_of(kernel)?.into()));
        }
        if self.start.accelerator == Accelerator::Kvm {
            list.push(("processor or kernel of the host", host().into()));
        }
        Ok(list)
    }

    /// The key of a snapshot.
    pub(super) fn key(&self) -> Result<Key, Error> {
        let list = self.list()?;
        let part = |(name, value): &(&str, Vec<u8>)| {
            let digest = KeyBuilder::new("part").input(name, value).finish();
            (format!("{PART}{name}"), digest)
        };
        let key = list
            .iter()
            .fold(KeyBuilder::new(KIND), |key, (name, value)| {
                key.input(name, value)
            });
        Ok(Key {
            key: key.finish(),
            parts: list.iter().map(part).collect(),
        })
    }

    /// An argument that is the same in every testbed, and for every clone.
    fn without_paths(&self, argument: &OsStr) -> Vec<u8> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let mut argument = argument.as_bytes().to_vec();
        if self.template.is_some() {
            argument = replace(&argument, &bytes(self.state_dir), STATE_DIR);
        }
        let image = &self.start.image;
        for (path, name) in [Some(&image.kernel), image.root.as_ref()]
            .into_iter()
            .zip(IMAGE)
        {
            let path = path.map(|path| bytes(path)).unwrap_or_default();
            argument = replace(&argument, &path, name);
        }
        replace(&argument, &bytes(self.directory), DIRECTORY)
    }
}

/// What a guest sees of the host when the host's processor runs it.
fn host() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = [
        "vendor_id",
        "cpu family",
        "model",
        "stepping",
        "microcode",
        "flags",
    ];
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut host = release;
    for name in names {
        let line = text.lines().find(|line| line.starts_with(name));
        host.push_str(line.unwrap_or_default());
        host.push('\n');
    }
    host
}

fn replace(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after_first)) = rest.split_first() {
        match rest.strip_prefix(what) {
            Some(after) if !what.is_empty() => {
                out.extend_from_slice(by);
                rest = after;
            }
            _ => {
                out.push(first);
                rest = after_first;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_testbeds_directory_is_no_part_of_an_argument() {
        let text = b"unix:/tmp/t-1/vm/qmp,x=/tmp/t-1";
        assert_eq!(replace(text, b"/tmp/t-1", b"@"), b"unix:@/vm/qmp,x=@");
        assert_eq!(replace(text, b"", b"@"), text);
        assert_eq!(replace(b"", b"x", b"@"), b"");
    }
}
