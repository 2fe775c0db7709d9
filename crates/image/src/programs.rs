//! The host's static programs that guests run.

use std::path::{Path, PathBuf};

use crate::tool::{self, Run};
use crate::{Error, Progress, files};

/// busybox and bash, as files of the host.
pub(crate) struct Programs {
    pub(crate) busybox: Vec<u8>,
    busybox_path: PathBuf,
    pub(crate) bash: Vec<u8>,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, Error> {
        let busybox_path = tool::find("busybox", "busybox-static")?;
        let bash_path = tool::find("bash-static", "bash-static")?;
        let busybox = read_static(&busybox_path, "busybox-static")?;
        let bash = read_static(&bash_path, "bash-static")?;
        Ok(Self {
            busybox,
            busybox_path,
            bash,
        })
    }

    /// The names under which busybox is called, asked of itself.
    pub(crate) fn applets(&self, progress: &dyn Progress) -> Result<Vec<String>, Error> {
        let run =
            Run::new("asking busybox for its applets", self.busybox_path.clone()).arg("--list");
        run.quiet().run(progress)
    }
}

/// Reads a program that must run where there are no libraries.
fn read_static(path: &Path, package: &'static str) -> Result<Vec<u8>, Error> {
    let program = files::read(path, PROGRAM_MAX)?;
    if program.starts_with(b"\x7fELF") && !names_an_interpreter(&program) {
        return Ok(program);
    }
    Err(Error::MissingTool {
        tool: format!("a static {}", path.display()),
        package,
    })
}

/// Whether the program asks for a dynamic loader: a program header of the type `PT_INTERP` (ELF, 64 bit).
fn names_an_interpreter(program: &[u8]) -> bool {
    let field = |at: usize, size: usize| {
        let bytes = program.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    let header = || {
        Some((
            usize::try_from(field(0x20, 8)?).ok()?,
            usize::try_from(field(0x36, 2)?).ok()?,
            field(0x38, 2)?,
        ))
    };
    let Some((start, size, count)) = header() else {
        return true;
    };
    (0..usize::try_from(count).unwrap_or(0)).any(|index| {
        let at = size
            .checked_mul(index)
            .and_then(|offset| offset.checked_add(start));
        at.and_then(|at| field(at, 4))
            .is_none_or(|kind| kind == PT_INTERP)
    })
}

const PROGRAM_MAX: u64 = 64 << 20;
const PT_INTERP: u64 = 3;
