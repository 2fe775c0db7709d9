//! Text in pictures, by the program `tesseract`.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Machine;
use super::files::TemporaryDirectory;
use crate::call::now;
use crate::picture::Picture;
use crate::{Call, Error};

/// How long one picture may take, on a host that is very busy.
const TEXT_MAX: Duration = Duration::from_mins(5);
/// The program.
const TESSERACT: &str = "tesseract";
/// Letters anywhere, in no order, as on a screen.
const SPARSE_TEXT: &str = "11";
/// Both of its engines.
const BOTH_ENGINES: &str = "2";
/// What it says when it knows a language by one of its engines only.
const ONE_ENGINE: &str = "legacy";

/// Whether the language data here are those of one engine.
static HAS_ONE_ENGINE: AtomicBool = AtomicBool::new(false);

impl Machine {
    /// Recognises the text in a picture; uses a directory of its own for files.
    pub(super) fn text_in(
        &self,
        picture: &Picture,
        directory: &TemporaryDirectory,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let directory = &directory.0;
        let png = picture
            .to_png()
            .map_err(|error| Error::Machine(format!("Image processing failed: {error}")))?;
        let path = directory.join("picture.png");
        fs::write(&path, png).map_err(Error::host(format!("cannot write {}", path.display())))?;
        if !HAS_ONE_ENGINE.load(Ordering::Relaxed) {
            match self.run_tesseract(directory, &["--oem", BOTH_ENGINES], call) {
                Err(Error::Machine(said)) if said.contains(ONE_ENGINE) => {
                    HAS_ONE_ENGINE.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.run_tesseract(directory, &[], call)
    }

    fn run_tesseract(
        &self,
        directory: &Path,
        engines: &[&str],
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let (text, errors) = (directory.join("text"), directory.join("errors"));
        let mut command = Command::new(TESSERACT);
        command
            .args(["picture.png", "-", "--psm", SPARSE_TEXT])
            .args(["-c", "debug_file=/dev/null"])
            .args(engines)
            .current_dir(directory)
            .stdin(std::process::Stdio::null())
            .stdout(create(&text)?)
            .stderr(create(&errors)?);
        if std::env::var_os("OMP_THREAD_LIMIT").is_none() {
            // Its threads wait for each other in loops: on a busy host, more of them take longer.
            command.env("OMP_THREAD_LIMIT", "1");
        }
        let process = self.site.spawn(command).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Machine(format!(
                "OCR requested but `{TESSERACT}` is not available (Debian and Ubuntu package `tesseract-ocr`)"
            )),
            _ => Error::host("cannot start tesseract")(error),
        })?;
        let call = call.no_later_than(now() + TEXT_MAX);
        let doing = || format!("recognising text on the screen of {}", self.name());
        let status = loop {
            let exited = process.poll_exit(call.slice(&doing)?);
            if let Some(status) = exited.map_err(Error::host("cannot wait for tesseract"))? {
                break status;
            }
        };
        let read = |path: &Path| {
            fs::read(path).map_err(Error::host(format!("cannot read {}", path.display())))
        };
        if !status.success() {
            return Err(Error::Machine(format!(
                "OCR failed with {}: {}",
                status.to_string().replace("exit status:", "exit code"),
                String::from_utf8_lossy(&read(&errors)?).trim()
            )));
        }
        Ok(String::from_utf8_lossy(&read(&text)?).into_owned())
    }
}

fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(Error::host(format!("cannot write {}", path.display())))
}
