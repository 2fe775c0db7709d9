//! Captures as they are asked for.

use std::path::Path;

use super::Switch;
use super::capture::Capture;
use super::engine::Engine;
use super::observe::{Observer, Selection, Sink};
use crate::error::Error;
use crate::report::CaptureSummary;

/// What is seen on the wire, for others to look at.
impl Switch {
    /// Writes every frame that comes in from now on to a pcapng file, with an interface for each port.
    ///
    /// # Errors
    ///
    /// [`Error::CaptureRunning`], or [`Error::Capture`] when the file cannot be made.
    pub fn start_capture(&self, path: &Path) -> Result<(), Error> {
        self.begin_capture(path, true, Selection::default())
    }

    /// Ends the capture that [`Switch::start_capture`] started; when it returns, the file is whole.
    ///
    /// # Errors
    ///
    /// [`Error::NoCapture`], or [`Error::Capture`] when the file could not be written.
    pub fn stop_capture(&self) -> Result<CaptureSummary, Error> {
        let capture = self.call(|engine| engine.take_capture(|capture| capture.is_main))?;
        capture.ok_or(Error::NoCapture)?.finish()
    }

    /// Writes some frames to a pcapng file: those of some ports, or those that a filter means. Several such captures can
    /// run at a time, beside that of [`Switch::start_capture`].
    ///
    /// ```
    /// use hotbed_switch::wire::filter::Filter;
    /// use hotbed_switch::{Selection, Config, End, Switch};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let (switch, path) = (Switch::start(Config::default())?, dir.path().join("web.pcapng"));
    /// let ports = Some(vec![End::from("server")]); // Also if it comes later.
    /// let filter = Some(Filter::parse("tcp and port 80 or arp")?);
    /// switch.start_capture_of(&path, &Selection { ports, filter })?;
    /// assert_eq!(switch.stop_capture_of(&path)?.frames, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::CaptureRunning`] for a file that is being written already, [`Error::TooManyRules`], or
    /// [`Error::Capture`] when the file cannot be made.
    pub fn start_capture_of(&self, path: &Path, selection: &Selection) -> Result<(), Error> {
        self.begin_capture(path, false, selection.clone())
    }

    /// Ends a capture by its file; when it returns, the file is whole.
    ///
    /// # Errors
    ///
    /// [`Error::NoCapture`], or [`Error::Capture`] when the file could not be written.
    pub fn stop_capture_of(&self, path: &Path) -> Result<CaptureSummary, Error> {
        let path = path.to_owned();
        let take = move |engine: &mut Engine| engine.take_capture(|capture| capture.path == path);
        self.call(take)?.ok_or(Error::NoCapture)?.finish()
    }

    fn begin_capture(&self, path: &Path, is_main: bool, selection: Selection) -> Result<(), Error> {
        let owned = path.to_owned();
        self.call(move |engine| engine.check_capture(&owned, is_main))??;
        // Here, not in the switch's thread: to open a pipe or a file far away takes its time.
        let capture = Capture::start(path.to_owned(), is_main);
        let capture = capture.map_err(|source| Error::Capture {
            path: path.to_owned(),
            source,
        })?;
        self.call(move |engine| {
            engine.check_capture(&capture.path, is_main)?; // Somebody may have been quicker.
            engine.add_observer(Observer::new(selection, Sink::Capture(capture)))
        })?
    }
}
