//! What is on a machine's screen: pictures, and the text in them.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::Machine;
use super::files::TemporaryDirectory;
use super::looks::Search;
use super::quoting::python_text;
use crate::picture::{Picture, Variant};
use crate::{Call, Error};

/// Tells the directories of pictures apart.
static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

impl Machine {
    /// Writes a picture of the screen, a PNG file: `.png` is added to a name without a dot, and a name without a slash is one in
    /// the output directory.
    ///
    /// # Errors
    ///
    /// When the machine has no screen, or the file cannot be written.
    pub fn screenshot(&self, filename: &str, call: &Call<'_>) -> Result<(), Error> {
        let mut path = PathBuf::from(filename);
        if !filename.contains('.') {
            path.set_extension("png");
        }
        if !filename.contains('/') {
            path = self.site.out_dir.join(path);
        }
        self.nested(&format!("making screenshot {}", path.display()), || {
            let png = self.screen(&self.pictures()?, call)?.to_png();
            let png =
                png.map_err(|error| Error::Machine(format!("Cannot convert screenshot: {error}")))?;
            fs::write(&path, png).map_err(Error::host(format!("cannot write {}", path.display())))
        })
    }

    /// The text on the screen.
    ///
    /// # Errors
    ///
    /// When the machine has no screen, or `tesseract` is not there or fails.
    pub fn get_screen_text(&self, call: &Call<'_>) -> Result<String, Error> {
        let directory = self.pictures()?;
        let picture = self.screen(&directory, call)?;
        self.text_in(&picture, &directory, call)
    }

    /// The text on the screen as it is recognised in the picture and in what is made of it: one of them is the best.
    ///
    /// # Errors
    ///
    /// As [`Machine::get_screen_text`].
    pub fn get_screen_text_variants(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        let directory = self.pictures()?;
        let picture = self.screen(&directory, call)?;
        let texts = Variant::ALL.iter();
        texts
            .map(|&variant| self.text_in(&picture.variant(variant), &directory, call))
            .collect()
    }

    /// Waits until `search` finds what it looks for in the text on the screen, which is recognised anew when the screen changes.
    /// `pattern` is for the log.
    ///
    /// # Errors
    ///
    /// [`Error::TestFailed`] when `timeout` passes; what `search` reports; as [`Machine::get_screen_text`].
    pub fn wait_for_text(
        &self,
        pattern: &str,
        search: Search<'_>,
        timeout: Duration,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let directory = self.pictures()?;
        let mut seen: Option<Picture> = None;
        let mut last_words = String::new();
        self.nested(
            &format!("waiting for {pattern} to appear on screen"),
            || {
                self.look_until(timeout, call, &mut |limited| {
                    let picture = self.screen(&directory, limited)?;
                    if seen.as_ref() == Some(&picture) {
                        return Ok(ControlFlow::Continue(last_words.clone()));
                    }
                    // A picture that was taken in time is read to its end.
                    let mut texts = Vec::new();
                    for variant in Variant::ALL {
                        let text = self.text_in(&picture.variant(variant), &directory, call)?;
                        if search(&text)? {
                            return Ok(ControlFlow::Break(()));
                        }
                        texts.push(python_text(&text));
                    }
                    seen = Some(picture);
                    last_words =
                        format!("Last OCR attempt failed. Text was: [{}]", texts.join(", "));
                    Ok(ControlFlow::Continue(last_words.clone()))
                })
            },
        )
    }

    /// A place for pictures.
    fn pictures(&self) -> Result<TemporaryDirectory, Error> {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        TemporaryDirectory::make(self.state_dir().join(format!("screen-{number}")))
    }

    /// What the screen shows now.
    fn screen(&self, directory: &TemporaryDirectory, call: &Call<'_>) -> Result<Picture, Error> {
        self.started(call)?;
        let path = directory.0.join("screen.ppm");
        self.qmp("screendump", json!({ "filename": path }), call)
            .map_err(|error| match error {
                Error::Qmp { description, .. } => Error::Machine(format!(
                    "{} cannot show its screen: {description}",
                    self.name()
                )),
                error => error,
            })?;
        let read = |path: &Path| {
            fs::read(path).map_err(Error::host(format!("cannot read {}", path.display())))
        };
        Picture::from_ppm(&read(&path)?).map_err(|error| {
            Error::Machine(format!("QEMU of {} made no picture: {error}", self.name()))
        })
    }
}
