//! What a snapshot depends on.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hotbed_image::KeyBuilder;

use super::KIND;
use crate::Error;
use crate::config::{Hot, ImageMachine};
use crate::machine::boot::ImageStart;
use crate::machine::command_line::Accelerator;

/// Goes up when the same inputs would be saved as something else.
const FORMAT: &str = "4";
/// What the testbed's directory is called in the key.
const DIRECTORY: &[u8] = b"@testbed@";
/// What a clone's directory is called there.
const STATE_DIR: &[u8] = b"@clone@";

/// Everything that goes into a boot.
pub(super) struct Inputs<'i> {
    /// QEMU's program.
    pub(super) qemu: &'i Path,
    /// Image, identity, agent, arguments.
    pub(super) start: &'i ImageStart<'i>,
    /// The machine's configuration.
    pub(super) machine: &'i ImageMachine,
    /// When it is saved.
    pub(super) point: &'i Hot,
    /// The testbed's directory, which has another name every time.
    pub(super) directory: &'i Path,
    /// The machine's directory, which has its name; clones have names of their own.
    pub(super) state_dir: &'i Path,
}

impl Inputs<'_> {
    /// The key of a snapshot.
    pub(super) fn key(&self) -> Result<String, Error> {
        // Clones are one machine until each is told which one it is.
        let (identity, arguments) = match &self.start.template {
            Some(template) => (&template.identity, &template.arguments),
            None => (&self.start.identity, &self.start.arguments),
        };
        let identity = identity
            .digest()
            .map_err(Error::image(&identity.hostname))?;
        let agent = self.start.agent.map(hotbed_image::Agent::digest);
        let arguments = arguments.iter();
        let mut key = KeyBuilder::new(KIND)
            .input("format", FORMAT)
            .input("driver", env!("CARGO_PKG_VERSION"))
            .input("qemu", stamp(self.qemu)?)
            .input("image", &self.start.image.digest)
            .input("identity", identity)
            .input("agent", agent.unwrap_or_default())
            .input("point", format!("{:?}", self.point))
            .inputs(
                "argument",
                arguments.map(|argument| self.without_directory(argument)),
            );
        if let Some(kernel) = &self.machine.kernel {
            key = key.input("kernel", stamp(kernel)?);
        }
        if self.start.accelerator == Accelerator::Kvm {
            key = key.input("host", host());
        }
        Ok(key.finish())
    }

    /// An argument that is the same in every testbed, and for every clone.
    fn without_directory(&self, argument: &OsStr) -> Vec<u8> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let mut argument = argument.as_bytes().to_vec();
        if self.start.template.is_some() {
            argument = replace(&argument, &bytes(self.state_dir), STATE_DIR);
        }
        replace(&argument, &bytes(self.directory), DIRECTORY)
    }
}

/// A file as it is now: which one, how long, since when.
fn stamp(path: &Path) -> Result<String, Error> {
    let failed = || Error::host(format!("cannot look at {}", path.display()));
    let path = path.canonicalize().map_err(failed())?;
    let file: Metadata = path.metadata().map_err(failed())?;
    Ok(format!(
        "{} {} {} {} {}.{:09}",
        path.display(),
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec()
    ))
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
