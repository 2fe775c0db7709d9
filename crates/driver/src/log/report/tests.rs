//! What reports say, and that it is XML whatever is said and however the test ends.

use std::path::Path;

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event as Xml;

use super::junit::{Form, JunitReport};
use super::xml::XmlReport;
use crate::Log;

/// The text with all durations made equal.
fn without_times(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    let marks = [("time=\"", "\""), (", in ", " seconds")];
    while let Some((at, end)) = marks
        .iter()
        .filter_map(|(mark, end)| Some((rest.find(mark)? + mark.len(), end)))
        .min()
    {
        result.push_str(&rest[..at]);
        result.push('_');
        rest = &rest[at + rest[at..].find(end).unwrap()..];
    }
    result + rest
}

/// How deep the elements are nested at most; fails on what is not well-formed.
fn depth(text: &str) -> usize {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut deepest) = (0, 0);
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error}: {text}"))
        {
            Xml::Start(_) => depth += 1,
            Xml::End(_) => depth -= 1,
            Xml::Text(text) => assert!(depth > 0 || text.trim().is_empty()),
            Xml::Eof => break,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    assert_eq!(depth, 0, "not closed: {text}");
    // XML 1.0, section 2.2.
    let is_forbidden = |c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    assert!(!text.contains(is_forbidden), "{text:?}");
    deepest
}

fn silent() -> Log {
    Log::to(Box::new(std::io::sink()), false)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A test with a subtest that passes, one that fails, and that one's exception, which is caught.
fn say(log: &Log) {
    let whole = log.begin(None, "run the VM test script");
    log.log_serial("[    0.0] <Linux>", "alice");
    let passes = log.subtest("foo & bar");
    log.nested::<_, ()>(Some("alice"), "must succeed: true", || Ok(()))
        .unwrap();
    passes.finish();
    let fails = log.subtest("fails");
    log.info("about to fail");
    log.log_test_error("Test \"fails\" failed");
    drop(fails);
    log.log(Some("alice"), "after it");
    whole.finish();
}

#[test]
fn the_xml_log_has_the_elements_of_the_nixos_driver() {
    let folder = folder();
    let path = folder.path().join("log.xml");
    let log = silent();
    log.add_report(Box::new(XmlReport::create(&path).unwrap()));
    say(&log);
    log.close_reports().unwrap();
    assert_eq!(
        without_times(&read(&path)),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><logfile>\
         <nest><head>run the VM test script</head>\
         <line machine=\"alice\" type=\"serial\">[    0.0] &lt;Linux&gt;</line>\
         <nest><head>subtest: foo &amp; bar</head>\
         <nest><head machine=\"alice\">must succeed: true</head>\
         <line>(finished: must succeed: true, in _ seconds)</line></nest>\
         <line>(finished: subtest: foo &amp; bar, in _ seconds)</line></nest>\
         <nest><head>subtest: fails</head><line>about to fail</line>\
         <line>Test &quot;fails&quot; failed</line></nest>\
         <line machine=\"alice\">after it</line>\
         <line>(finished: run the VM test script, in _ seconds)</line></nest></logfile>"
    );
}

#[test]
fn the_xml_log_is_whole_at_every_moment() {
    let folder = folder();
    let path = folder.path().join("log.xml");
    let log = silent();
    log.add_report(Box::new(XmlReport::create(&path).unwrap()));
    assert_eq!(depth(&read(&path)), 1);
    let first = log.begin(None, "first");
    let second = log.begin(None, "second");
    assert_eq!(depth(&read(&path)), 4);
    first.finish();
    log.log(None, "in the second");
    assert_eq!(depth(&read(&path)), 4);
    second.finish();
    let third = log.begin(None, "third");
    assert_eq!(depth(&read(&path)), 4);
    log.close_reports().unwrap();
    drop(third);
    assert_eq!(depth(&read(&path)), 4);
    assert!(read(&path).ends_with("<nest><head>third</head></nest></logfile>"));
}

#[test]
fn the_xml_log_goes_through_a_pipe() {
    let folder = folder();
    let path = folder.path().join("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &path,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || read(&path)
    });
    let log = silent();
    log.add_report(Box::new(XmlReport::create(&path).unwrap()));
    let open = log.begin(None, "never ends");
    log.close_reports().unwrap();
    drop(log);
    assert_eq!(depth(&reader.join().unwrap()), 3);
    drop(open);
}

#[test]
fn junit_has_the_cases_of_the_nixos_driver() {
    let folder = folder();
    let path = folder.path().join("junit.xml");
    let log = silent();
    log.add_report(Box::new(JunitReport::create(&path, Form::ByCase).unwrap()));
    say(&log);
    log.close_reports().unwrap();
    let text = read(&path);
    depth(&text);
    assert_eq!(
        without_times(&text),
        "<?xml version=\"1.0\"?>\n\
         <testsuites disabled=\"0\" errors=\"0\" failures=\"1\" tests=\"3\" time=\"_\">\n\
         \t<testsuite disabled=\"0\" errors=\"0\" failures=\"1\" name=\"NixOS integration test\" skipped=\"0\" tests=\"3\" time=\"_\">\n\
         \t\t<testcase name=\"main\" time=\"_\">\n\
         \t\t\t<system-out>run the VM test script\nalice # [    0.0] &lt;Linux&gt;\nalice: after it\n</system-out>\n\
         \t\t</testcase>\n\
         \t\t<testcase name=\"foo &amp; bar\" time=\"_\">\n\
         \t\t\t<system-out>subtest: foo &amp; bar\nalice: must succeed: true\n</system-out>\n\
         \t\t</testcase>\n\
         \t\t<testcase name=\"fails\" time=\"_\">\n\
         \t\t\t<failure type=\"failure\" message=\"test case failed\"/>\n\
         \t\t\t<system-out>subtest: fails\nabout to fail\n</system-out>\n\
         \t\t\t<system-err>Test &quot;fails&quot; failed\n</system-err>\n\
         \t\t</testcase>\n\
         \t</testsuite>\n\
         </testsuites>\n"
    );
}

#[test]
fn junit_by_suite_has_subtests_and_a_main_that_failed() {
    let folder = folder();
    let path = folder.path().join("junit.xml");
    let report = |body: &dyn Fn(&Log)| {
        let log = silent();
        log.add_report(Box::new(JunitReport::create(&path, Form::BySuite).unwrap()));
        body(&log);
        log.close_reports().unwrap();
        let text = read(&path);
        depth(&text);
        text
    };
    let text = report(&say);
    assert!(!text.contains("name=\"main\""), "{text}");
    assert!(text.contains("failures=\"1\" tests=\"2\""), "{text}");
    assert_eq!(text.matches("alice: must succeed: true").count(), 2);
    assert_eq!(text.matches("alice: after it").count(), 1);
    let text = report(&|log| {
        say(log);
        log.log_test_error("the script failed");
    });
    assert!(text.contains("failures=\"2\" tests=\"3\""), "{text}");
    assert!(text.contains("name=\"main\""), "{text}");
    let text = report(&|log| log.info("no subtest"));
    assert!(text.contains("failures=\"0\" tests=\"1\""), "{text}");
    assert!(text.contains("name=\"main\""), "{text}");
}

#[test]
fn junit_holds_no_more_than_it_may() {
    let folder = folder();
    let path = folder.path().join("junit.xml");
    let log = silent();
    log.add_report(Box::new(JunitReport::create(&path, Form::ByCase).unwrap()));
    let line = "x".repeat(1 << 20);
    for _ in 0..80 {
        log.info(&line);
    }
    log.error("why it failed");
    log.close_reports().unwrap();
    let text = read(&path);
    depth(&text);
    assert!(
        (super::junit::OUTPUT_MAX - line.len()..=super::junit::OUTPUT_MAX + 4096)
            .contains(&text.len())
    );
    assert_eq!(text.matches("what follows is left out here").count(), 1);
    assert!(text.contains("failures=\"1\""));
}

#[test]
fn a_report_that_cannot_be_written_says_so() {
    let folder = folder();
    let path = folder.path().join("missing").join("x.xml");
    let shown = |error: std::io::Error| error.to_string();
    let says = format!("cannot write the report {}", path.display());
    assert!(shown(XmlReport::create(&path).unwrap_err()).starts_with(&says));
    assert!(shown(JunitReport::create(&path, Form::ByCase).unwrap_err()).starts_with(&says));
    let log = silent();
    let full = Path::new("/dev/full");
    let _ = log.begin(None, "before");
    assert!(XmlReport::create(full).is_err());
    let path = folder.path().join("junit.xml");
    log.add_report(Box::new(JunitReport::create(&path, Form::ByCase).unwrap()));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(log.close_reports().unwrap_err().len(), 1);
}

proptest! {
    #[test]
    fn whatever_is_said_reports_are_xml(
        said in proptest::collection::vec((0_u8..6, "[\u{0}-\u{20}<>&\"'a\u{85}\u{fffe}\u{1f600}]{0,20}"), 0..20),
    ) {
        let folder = folder();
        let paths = ["log.xml", "case.xml", "suite.xml"].map(|name| folder.path().join(name));
        let log = silent();
        log.add_report(Box::new(XmlReport::create(&paths[0]).unwrap()));
        log.add_report(Box::new(JunitReport::create(&paths[1], Form::ByCase).unwrap()));
        log.add_report(Box::new(JunitReport::create(&paths[2], Form::BySuite).unwrap()));
        let mut open = Vec::new();
        for (what, text) in said {
            match what {
                0 => log.log(Some(&text), &text),
                1 => log.log_serial(&text, &text),
                2 => log.log_test_error(&text),
                3 => open.push(log.begin(Some(&text), &text)),
                4 => open.push(log.subtest(&text)),
                _ if open.is_empty() => {}
                _ => open.remove(text.len() % open.len()).finish(),
            }
        }
        log.close_reports().unwrap();
        for path in &paths {
            depth(&read(path));
        }
    }
}
