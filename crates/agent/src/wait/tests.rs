//! Requests, as they come.

use hotbed_console::agent::wire::{BootPhase, Process};

use super::testing::{LONG, found, now};
use super::*;

fn begun(wait: Wait) -> Box<dyn Watch> {
    begin(wait, now()).unwrap_or_else(|failure| panic!("{failure:?}"))
}

fn refused(wait: Wait) -> FailureKind {
    begin(wait, now()).err().expect("it makes no sense").kind
}

fn unit(name: &str) -> Wait {
    Wait::Unit {
        unit: name.to_owned(),
        user: None,
        states: vec!["active".to_owned()],
        or_fail: true,
        finished: false,
    }
}

#[test]
fn requests_become_what_they_ask_for() {
    let path = "/proc/self/exe".to_owned();
    let file = Wait::File {
        path: path.clone(),
        present: true,
    };
    assert!(found(&mut *begun(file), LONG).is_some());
    let socket = Wait::UnixSocket {
        path,
        datagram: false,
        open: false,
    };
    assert!(found(&mut *begun(socket), LONG).is_some());
    let port = Wait::Port {
        address: "127.0.0.1".to_owned(),
        port: 1,
        open: false,
    };
    assert!(found(&mut *begun(port), LONG).is_some());
    let pid = std::process::id();
    let process = Wait::Process {
        process: Process::Pid(pid),
        running: true,
    };
    assert_eq!(found(&mut *begun(process), LONG), Some(pid.to_string()));
}

#[test]
fn what_needs_systemd_is_refused_without_it_but_not_the_phases_of_the_boot() {
    if std::path::Path::new(unit::BOOTED).is_dir() {
        eprintln!("skipped: this system runs systemd");
        return;
    }
    assert_eq!(refused(unit("a.service")), FailureKind::Unsupported);
    let journal = Wait::Journal {
        pattern: "x".to_owned(),
        unit: Some("a".to_owned()),
        past: true,
    };
    assert_eq!(refused(journal), FailureKind::Unsupported);
    assert!(found(&mut *begun(Wait::Boot(BootPhase::Basic)), LONG).is_some());
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(refused(unit("")), FailureKind::Invalid);
    let journal = Wait::Journal {
        pattern: "(".to_owned(),
        unit: None,
        past: true,
    };
    assert_eq!(refused(journal), FailureKind::Invalid);
}

#[test]
fn pause_grows_with_the_time_within_its_bounds() {
    let [min, max] = [5, 15].map(Duration::from_millis);
    for (elapsed, wanted) in [(0, 5), (100, 5), (200, 10), (1000, 15), (100_000, 15)] {
        let paused = pause(Duration::from_millis(elapsed), min, max);
        assert_eq!(paused, Duration::from_millis(wanted), "after {elapsed} ms");
    }
}
