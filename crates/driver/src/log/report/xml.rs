//! The XML of the NixOS driver's `LOGFILE`: `<logfile>` of `<line>` and `<nest>`.
//!
//! After each event the file ends with the tags that close what is open, and the next event is written over them: so a reader
//! finds whole XML at any moment, and after a kill. What cannot be written at a place, such as a pipe, gets them at the end.
//!
//! Blocks of several threads overlap and elements cannot: one that ends while a later one is open is closed with that one.
#![expect(clippy::disallowed_types, reason = "the I/O shell")]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event as Xml};

use super::{Event, Report, about, finish_line, xml_text};

const ROOT: &str = "logfile";
const NEST: &str = "nest";

/// A log in XML.
#[derive(Debug)]
pub struct XmlReport {
    path: PathBuf,
    file: File,
    /// Where the next event goes; `None` for what cannot be written at a place.
    offset: Option<u64>,
    open: Vec<Open>,
    failure: Option<io::Error>,
    closed: bool,
}

/// A `<nest>` without its end.
#[derive(Debug)]
struct Open {
    number: u64,
    has_ended: bool,
}

impl XmlReport {
    /// Begins a log in `path`; a file that is there is replaced.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path).map_err(|error| about(path, &error))?;
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut report = Self {
            path: path.to_owned(),
            file,
            offset: is_regular.then_some(0),
            open: Vec::new(),
            failure: None,
            closed: false,
        };
        report.write(|writer| {
            let declaration = BytesDecl::new("1.0", Some("UTF-8"), None);
            writer.write_event(Xml::Decl(declaration))?;
            writer.write_event(Xml::Start(BytesStart::new(ROOT)))
        });
        report
            .failure
            .take()
            .map_or(Ok(()), |error| Err(about(path, &error)))?;
        Ok(report)
    }

    /// Writes what `body` makes. After a failure nothing is written: what is there stays whole.
    fn write(&mut self, body: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) {
        if self.failure.is_some() || self.closed {
            return;
        }
        let mut writer = Writer::new(Vec::new());
        let result = body(&mut writer).and_then(|()| self.put(writer.into_inner()));
        self.failure = result.err();
    }

    fn put(&mut self, mut bytes: Vec<u8>) -> io::Result<()> {
        let Some(offset) = self.offset else {
            return self.file.write_all(&bytes);
        };
        let next = offset + bytes.len() as u64;
        bytes.extend(self.end_tags()?);
        self.file.write_all_at(&bytes, offset)?;
        self.offset = Some(next);
        Ok(())
    }

    fn end_tags(&self) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        for _ in &self.open {
            writer.write_event(Xml::End(BytesEnd::new(NEST)))?;
        }
        writer.write_event(Xml::End(BytesEnd::new(ROOT)))?;
        Ok(writer.into_inner())
    }

    fn end(&mut self, number: u64) {
        if let Some(open) = self.open.iter_mut().find(|open| open.number == number) {
            open.has_ended = true;
        }
        let still_open = self
            .open
            .iter()
            .rposition(|open| !open.has_ended)
            .map_or(0, |last| last + 1);
        let ended = self.open.len() - still_open;
        self.open.truncate(still_open);
        self.write(|writer| {
            (0..ended).try_for_each(|_| writer.write_event(Xml::End(BytesEnd::new(NEST))))
        });
    }
}

/// An element with text, and with those attributes that have a value.
fn element(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    attributes: &[(&str, Option<&str>)],
    text: &str,
) -> io::Result<()> {
    let mut start = BytesStart::new(name);
    for (key, value) in attributes {
        if let Some(value) = value {
            start.push_attribute((*key, xml_text(value).as_str()));
        }
    }
    writer.write_event(Xml::Start(start))?;
    writer.write_event(Xml::Text(BytesText::new(&xml_text(text))))?;
    writer.write_event(Xml::End(BytesEnd::new(name)))
}

impl Report for XmlReport {
    fn record(&mut self, event: &Event<'_>) {
        match *event {
            Event::Line { machine, text } => {
                self.write(|writer| element(writer, "line", &[("machine", machine)], text));
            }
            Event::Error { text } => self.write(|writer| element(writer, "line", &[], text)),
            Event::Serial { machine, line } => self.write(|writer| {
                let attributes = [("machine", Some(machine)), ("type", Some("serial"))];
                element(writer, "line", &attributes, line)
            }),
            Event::Begin(block) => {
                self.open.push(Open {
                    number: block.number,
                    has_ended: false,
                });
                self.write(|writer| {
                    writer.write_event(Xml::Start(BytesStart::new(NEST)))?;
                    let attributes = [("machine", block.machine)];
                    element(writer, "head", &attributes, block.message)
                });
            }
            Event::End {
                block,
                elapsed,
                passed,
            } => {
                if passed {
                    let line = finish_line(block.message, elapsed);
                    self.write(|writer| element(writer, "line", &[], &line));
                }
                self.end(block.number);
            }
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.offset.is_none() && self.failure.is_none() && !self.closed {
            let tags = self.end_tags();
            self.failure = tags.and_then(|tags| self.file.write_all(&tags)).err();
        }
        self.closed = true;
        let failure = self.failure.take();
        failure.map_or(Ok(()), |error| Err(about(&self.path, &error)))
    }
}
