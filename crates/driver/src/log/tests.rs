//! What comes out of the log, and what never does.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;

use super::text::without_controls;
use super::{Level, Log, SERIAL_LINES_MAX};

/// A sink that can be read, and closed like a terminal that takes nothing.
#[derive(Clone, Default)]
struct Sink(Arc<(Mutex<Terminal>, Condvar)>);

/// What was written, and whether nothing is taken now.
type Terminal = (Vec<u8>, bool);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().0.clone()).unwrap()
    }

    fn block(&self, blocked: bool) {
        self.0.0.lock().unwrap().1 = blocked;
        self.0.1.notify_all();
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        while state.1 {
            state = self.0.1.wait(state).unwrap();
        }
        state.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log(colours: bool) -> (Log, Sink) {
    let sink = Sink::default();
    (Log::to(Box::new(sink.clone()), colours), sink)
}

/// The text with the seconds of finish lines made equal.
fn said(sink: &Sink) -> String {
    sink.text().replace("0.01 seconds", "0.00 seconds")
}

#[test]
fn lines_have_the_form_that_users_grep() {
    let (log, sink) = log(false);
    log.log(Some("alice"), "starting vm");
    log.nested::<_, ()>(Some("alice"), "must succeed: true", || Ok(()))
        .unwrap();
    log.nested::<(), ()>(None, "fails", || Err(())).unwrap_err();
    log.subtest("ping").finish();
    log.log_serial("[    0.0] Linux", "alice");
    log.log_test_error("Traceback");
    log.flush();
    assert_eq!(
        said(&sink),
        "alice: starting vm\nalice: must succeed: true\nalice: (finished: must succeed: true, in 0.00 seconds)\nfails\n\
         subtest: ping\n(finished: subtest: ping, in 0.00 seconds)\nalice # [    0.0] Linux\n!!! Traceback\n"
    );
}

#[test]
fn colours_are_those_of_the_nixos_driver() {
    let (log, sink) = log(true);
    log.begin(Some("a"), "block").finish();
    log.log_serial("line", "a");
    log.log_test_error("x");
    log.set_level(Level::Debug);
    log.debug("detail");
    assert_eq!(
        said(&sink),
        "a: \x1b[1m\x1b[32mblock\x1b[0m\na: (finished: block, in 0.00 seconds)\n\x1b[2ma # line\x1b[0m\n\x1b[31m!!! \x1b[0mx\n\x1b[2mdetail\x1b[0m\n"
    );
}

#[test]
fn levels_filter_what_the_nixos_driver_filters() {
    let (log, sink) = log(false);
    let all = |log: &Log| {
        log.debug("debug");
        log.info("info");
        log.warning("warning");
        log.log_test_error("test");
        log.error("error");
        log.log(None, "log");
    };
    log.set_level(Level::Error);
    all(&log);
    assert_eq!(sink.text(), "error\nlog\n");
    log.set_level(Level::Info);
    all(&log);
    assert_eq!(
        sink.text(),
        "error\nlog\ninfo\nwarning\n!!! test\nerror\nlog\n"
    );
}

#[test]
fn guests_are_silent_when_asked() {
    let (log, sink) = log(false);
    log.print_serial_logs(false);
    log.log_serial("a", "m");
    log.print_serial_logs(true);
    log.log_serial("b", "m");
    log.flush();
    assert_eq!(sink.text(), "m # b\n");
}

#[test]
fn a_blocked_terminal_holds_up_no_guest_and_the_rest_is_counted() {
    let (log, sink) = log(false);
    sink.block(true);
    for line in 0..SERIAL_LINES_MAX * 3 {
        log.log_serial(&line.to_string(), "m");
    }
    sink.block(false);
    log.flush();
    let text = sink.text();
    assert!(text.starts_with("m # 0\nm # 1\n"));
    let shown = text.lines().filter(|line| line.starts_with("m # ")).count();
    let left_out = SERIAL_LINES_MAX * 3 - shown;
    assert!(left_out >= SERIAL_LINES_MAX - 1, "{left_out}");
    assert!(
        text.contains(&format!("({left_out} lines of guests are not shown")),
        "{}",
        text.lines().last().unwrap()
    );
}

#[test]
fn lines_stay_whole_when_many_threads_write() {
    let (log, sink) = log(false);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let log = &log;
            scope.spawn(move || {
                for _ in 0..200 {
                    log.log(Some(name), "message");
                    log.log_serial("line", name);
                }
            });
        }
    });
    drop(log);
    let text = sink.text();
    assert_eq!(text.lines().count(), 1600);
    assert!(
        text.lines()
            .all(|line| line.len() == "a: message".len() || line.len() == "a # line".len())
    );
}

#[test]
fn guests_cannot_steer_the_terminal() {
    for (line, shown) in [
        ("plain\ttext é", "plain\ttext é"),
        ("\x1b[0;32m  OK  \x1b[0m] Started", "  OK  ] Started"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x1b(Btext\x1b[?25l\x1b[2J", "text"),
        ("a\x08\x7f\u{9b}b\u{202e}c", "abc"),
        ("\x1b[12\x1b[3mx", "x"),
        ("\x1bPhidden", ""),
    ] {
        assert_eq!(without_controls(line, 100), shown, "{line:?}");
    }
    assert_eq!(without_controls("abcdef", 3), "abc…");
}

proptest! {
    #[test]
    fn no_control_character_comes_through(line in any::<String>()) {
        prop_assert!(!without_controls(&line, 1000).chars().any(|c| c != '\t' && c.is_control()));
    }

    #[test]
    fn printable_text_comes_through(line in "[^\\p{C}]{0,50}") {
        prop_assert_eq!(without_controls(&line, 1000), line);
    }
}
