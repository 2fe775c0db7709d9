//! JUnit: the test and its subtests as test cases.
//!
//! There are two forms, as the NixOS driver wrote them before and after August 2026 (NixOS/nixpkgs#556413). Both say more here:
//! how long each case took, and a case `main` that failed wherever the script itself did.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event as Xml};

use super::{Event, Report, about, xml_text};

const SUITE: &str = "NixOS integration test";
const MAIN: &str = "main";
/// The most bytes of output that a report holds, of all cases together.
pub(super) const OUTPUT_MAX: usize = 64 << 20;
const LEFT_OUT: &str = "(what follows is left out here: the console logs have it)\n";

/// Where the lines of the test stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each line in the case in which it was said; the case `main`, which comes first, has those outside of subtests.
    ByCase,
    /// All lines in the suite, and those of a subtest in its case, too. `main` is there when there is no subtest, or when it failed.
    BySuite,
}

/// A JUnit report, which is written when it is closed.
#[derive(Debug)]
pub struct JunitReport {
    path: PathBuf,
    form: Form,
    all: Output,
    /// `main`, then the subtests in the order in which they began; those of one name are one case.
    cases: Vec<Case>,
    /// The subtests that run: their blocks and cases, the innermost last.
    open: Vec<(u64, usize)>,
    /// The block that began outside of all others, while it is open.
    outermost: Option<u64>,
    /// How long the test took: its outermost blocks.
    time: Duration,
    /// How much of that was in subtests.
    in_subtests: Duration,
    room: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Output {
    out: String,
    err: String,
}

#[derive(Debug, Default)]
struct Case {
    name: String,
    has_failed: bool,
    time: Duration,
    output: Output,
}

impl JunitReport {
    /// Begins a report that will be written to `path`. The file is made at once, so that a place that cannot be written to shows now.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(path: &Path, form: Form) -> io::Result<Self> {
        let mut report = Self {
            path: path.to_owned(),
            form,
            all: Output::default(),
            cases: Vec::new(),
            open: Vec::new(),
            outermost: None,
            time: Duration::ZERO,
            in_subtests: Duration::ZERO,
            room: OUTPUT_MAX,
            closed: false,
        };
        report.case(MAIN);
        report.write()?;
        Ok(report)
    }

    fn case(&mut self, name: &str) -> usize {
        let found = self.cases.iter().position(|case| case.name == name);
        found.unwrap_or_else(|| {
            self.cases.push(Case {
                name: name.to_owned(),
                ..Case::default()
            });
            self.cases.len() - 1
        })
    }

    fn current(&self) -> usize {
        self.open.last().map_or(0, |&(_, case)| case)
    }

    /// Adds a line where it belongs, as long as there is room for it.
    fn say(&mut self, line: &str, pick: fn(&mut Output) -> &mut String) {
        if self.room == 0 {
            return;
        }
        let room = self.room.checked_sub(line.len() + 1);
        let mut line = format!("{}\n", xml_text(line));
        if room.is_none() {
            line = LEFT_OUT.to_owned();
        }
        self.room = room.unwrap_or(0);
        let current = self.current();
        if self.form == Form::BySuite {
            pick(&mut self.all).push_str(&line);
            if current == 0 {
                return;
            }
        }
        if let Some(case) = self.cases.get_mut(current) {
            pick(&mut case.output).push_str(&line);
        }
    }

    fn begin(&mut self, number: u64, subtest: Option<&str>) {
        self.outermost.get_or_insert(number);
        if let Some(name) = subtest {
            let case = self.case(name);
            self.open.push((number, case));
        }
    }

    fn end(&mut self, number: u64, elapsed: Duration, passed: bool) {
        if self.outermost == Some(number) {
            self.outermost = None;
            self.time += elapsed;
        }
        let Some(place) = self.open.iter().position(|&(open, _)| open == number) else {
            return;
        };
        let (_, case) = self.open.remove(place);
        if self.open.is_empty() {
            self.in_subtests += elapsed;
        }
        if let Some(case) = self.cases.get_mut(case) {
            case.time += elapsed;
            case.has_failed |= !passed;
        }
    }

    /// The cases that are shown.
    fn shown(&self) -> &[Case] {
        let main_failed = self.cases.first().is_some_and(|main| main.has_failed);
        let without_main = self.form == Form::BySuite && self.cases.len() > 1 && !main_failed;
        self.cases
            .get(usize::from(without_main)..)
            .unwrap_or_default()
    }

    fn write(&self) -> io::Result<()> {
        let text = self.to_xml()?;
        std::fs::write(&self.path, text).map_err(|error| about(&self.path, &error))
    }

    fn to_xml(&self) -> io::Result<Vec<u8>> {
        let cases = self.shown();
        let failures = cases
            .iter()
            .filter(|case| case.has_failed)
            .count()
            .to_string();
        let tests = cases.len().to_string();
        let time = seconds(self.time);
        let mut writer = Writer::new_with_indent(Vec::new(), b'\t', 1);
        writer.write_event(Xml::Decl(BytesDecl::new("1.0", None, None)))?;
        let suites = BytesStart::new("testsuites").with_attributes([
            ("disabled", "0"),
            ("errors", "0"),
            ("failures", &failures),
            ("tests", &tests),
            ("time", &time),
        ]);
        let suite = BytesStart::new("testsuite").with_attributes([
            ("disabled", "0"),
            ("errors", "0"),
            ("failures", &failures),
            ("name", SUITE),
            ("skipped", "0"),
            ("tests", &tests),
            ("time", &time),
        ]);
        writer.write_event(Xml::Start(suites))?;
        writer.write_event(Xml::Start(suite))?;
        for case in cases {
            case.write(&mut writer)?;
        }
        self.all.write(&mut writer)?;
        writer.write_event(Xml::End(BytesEnd::new("testsuite")))?;
        writer.write_event(Xml::End(BytesEnd::new("testsuites")))?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Case {
    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let time = seconds(self.time);
        let mut start = BytesStart::new("testcase");
        start.push_attribute(("name", xml_text(&self.name).as_str()));
        start.push_attribute(("time", time.as_str()));
        if !self.has_failed && self.output.is_empty() {
            return writer.write_event(Xml::Empty(start));
        }
        writer.write_event(Xml::Start(start))?;
        if self.has_failed {
            let failure = BytesStart::new("failure")
                .with_attributes([("type", "failure"), ("message", "test case failed")]);
            writer.write_event(Xml::Empty(failure))?;
        }
        self.output.write(writer)?;
        writer.write_event(Xml::End(BytesEnd::new("testcase")))
    }
}

impl Output {
    fn is_empty(&self) -> bool {
        self.out.is_empty() && self.err.is_empty()
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        for (name, text) in [("system-out", &self.out), ("system-err", &self.err)] {
            if !text.is_empty() {
                writer.write_event(Xml::Start(BytesStart::new(name)))?;
                writer.write_event(Xml::Text(BytesText::new(text)))?;
                writer.write_event(Xml::End(BytesEnd::new(name)))?;
            }
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

impl Report for JunitReport {
    fn record(&mut self, event: &Event<'_>) {
        match *event {
            Event::Line { machine, text } => match machine {
                Some(machine) => self.say(&format!("{machine}: {text}"), |output| &mut output.out),
                None => self.say(text, |output| &mut output.out),
            },
            Event::Serial { machine, line } => {
                self.say(&format!("{machine} # {line}"), |output| &mut output.out);
            }
            Event::Error { text } => {
                self.say(text, |output| &mut output.err);
                let current = self.current();
                if let Some(case) = self.cases.get_mut(current) {
                    case.has_failed = true;
                }
            }
            Event::Begin(block) => {
                self.begin(block.number, block.subtest);
                match block.machine {
                    Some(machine) => self.say(&format!("{machine}: {}", block.message), |output| {
                        &mut output.out
                    }),
                    None => self.say(block.message, |output| &mut output.out),
                }
            }
            Event::End {
                block,
                elapsed,
                passed,
            } => self.end(block.number, elapsed, passed),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        if let Some(main) = self.cases.first_mut() {
            main.time = self.time.saturating_sub(self.in_subtests);
        }
        self.write()
    }
}
