//! Real processes; their names are copies of `sleep` under names that nobody else has.

use std::path::PathBuf;
use std::process::{Child, Command};

use super::super::testing::{LONG, found, is_quiet, run};
use super::*;

const SHORT: Duration = Duration::from_millis(150);

struct Program {
    folder: tempfile::TempDir,
    name: String,
}

impl Program {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{name}{}", std::process::id());
        let shell = std::fs::canonicalize("/bin/sleep").expect("sleep");
        // A link: to run a program that was just written fails while a fork of ours has it open for writing.
        std::os::unix::fs::symlink(shell, folder.path().join(&name)).unwrap();
        Self { folder, name }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn start(&self) -> Running {
        let running = Running(Command::new(self.path()).arg("1000").spawn().unwrap());
        // A program that was started gets its name a moment after its starter goes on.
        let comm = format!("/proc/{}/comm", running.0.id());
        let name = &self.name[..self.name.len().min(COMM_MAX)];
        while std::fs::read_to_string(&comm).unwrap().trim_end() != name {
            std::thread::yield_now();
        }
        running
    }

    fn watch(&self, is_wanted: bool) -> Box<dyn Watch> {
        begin(Process::Name(self.name.clone()), is_wanted, Instant::now()).unwrap()
    }
}

/// Ends with the test.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn by_pid(pid: u32, is_wanted: bool) -> Box<dyn Watch> {
    begin(Process::Pid(pid), is_wanted, Instant::now()).unwrap()
}

#[test]
fn process_by_number_is_over_when_it_ends_be_it_not_yet_reaped() {
    let program = Program::new("pid");
    let mut running = program.start();
    let pid = running.0.id();
    assert_eq!(found(&mut *by_pid(pid, true), LONG), Some(pid.to_string()));
    let mut watch = by_pid(pid, false);
    assert!(is_quiet(&mut *watch, SHORT));
    running.kill();
    let (result, looks) = run(&mut *watch, LONG);
    assert!(result.unwrap().is_some());
    assert!(looks <= 3, "{looks}: the end is an event");
    drop(running);
    assert!(found(&mut *by_pid(pid, false), LONG).is_some());
}

#[test]
fn process_by_number_is_found_when_it_comes() {
    // Its number is not known before, so that of a process that has ended is waited for.
    let program = Program::new("gone");
    let pid = program.start().0.id();
    assert!(is_quiet(&mut *by_pid(pid, true), SHORT));
}

#[test]
fn process_by_name_is_found_when_it_comes() {
    let program = Program::new("come");
    let mut watch = program.watch(true);
    assert!(is_quiet(&mut *watch, SHORT));
    let running = program.start();
    assert_eq!(found(&mut *watch, LONG), Some(running.0.id().to_string()));
    assert!(
        found(&mut *program.watch(true), LONG).is_some(),
        "it is there already"
    );
}

#[test]
fn process_by_name_is_found_without_the_kernels_events() {
    let program = Program::new("look");
    let mut watch = ByName {
        name: program.name.clone().into_bytes(),
        is_wanted: true,
        events: None,
        scan: Some(Scan::default()),
        found: HashMap::new(),
        begin: Instant::now(),
        next: None,
    };
    assert!(is_quiet(&mut watch, SHORT));
    let _running = program.start();
    assert!(found(&mut watch, LONG).is_some());
}

#[test]
fn kernels_events_are_used_where_they_are() {
    let program = Program::new("told");
    let now = Instant::now();
    let mut watch = ByName {
        name: program.name.clone().into_bytes(),
        is_wanted: true,
        events: Events::open(),
        scan: Some(Scan::default()),
        found: HashMap::new(),
        begin: now,
        next: None,
    };
    assert!(is_quiet(&mut watch, SHORT));
    if !watch.events.as_ref().is_some_and(Events::is_confirmed) {
        eprintln!("skipped: no process events for this user, namespace or kernel");
        return;
    }
    assert!(
        watch.next.is_none() || watch.scan.is_some(),
        "it is looked for again and again"
    );
    // Other tests' processes may have been told of, with a look through all.
    watch.scan = None;
    watch.next = None;
    let _running = program.start();
    assert!(found(&mut watch, LONG).is_some());
    assert!(watch.next.is_none(), "it was not looked for");
}

#[test]
fn processes_by_name_are_over_when_the_last_has_ended() {
    let program = Program::new("end");
    assert!(found(&mut *program.watch(false), LONG).is_some());
    let mut one = program.start();
    let mut two = program.start();
    let mut watch = program.watch(false);
    assert!(is_quiet(&mut *watch, SHORT));
    one.kill();
    assert!(is_quiet(&mut *watch, SHORT));
    let three = program.start();
    two.kill();
    assert!(is_quiet(&mut *watch, SHORT), "another one has come since");
    drop(three);
    assert!(found(&mut *watch, LONG).is_some());
}

#[test]
fn more_processes_than_are_watched_at_once_are_waited_for() {
    let program = Program::new("many");
    let mut running: Vec<Running> = (0..ENDS_MAX + 5).map(|_| program.start()).collect();
    let mut watch = program.watch(false);
    assert!(is_quiet(&mut *watch, SHORT));
    let mut fds = 0;
    watch.interest(&mut |_, _| fds += 1);
    assert_eq!(fds, ENDS_MAX);
    let rest = running.split_off(ENDS_MAX);
    drop(running);
    assert!(is_quiet(&mut *watch, SHORT));
    drop(rest);
    assert!(found(&mut *watch, LONG).is_some());
}

#[test]
fn process_that_takes_another_name_has_ended_under_the_first() {
    let program = Program::new("first");
    let script = format!("exec {} 1000", program.path().display());
    let other = Program::new("second");
    std::fs::remove_file(other.path()).unwrap();
    std::os::unix::fs::symlink("/bin/sh", other.path()).unwrap();
    // The shell stays until it may read a line.
    let script = format!("read line; {script}");
    let mut child = Command::new(other.path())
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let _running = Running(child);
    assert!(found(&mut *other.watch(true), LONG).is_some());
    let mut watch = other.watch(false);
    assert!(is_quiet(&mut *watch, SHORT));
    drop(stdin);
    assert!(found(&mut *watch, LONG).is_some());
}

#[test]
fn name_longer_than_the_kernel_keeps_is_found() {
    let program = Program::new("a-name-of-more-than-fifteen-bytes");
    let _running = program.start();
    assert!(found(&mut *program.watch(true), LONG).is_some());
}

#[test]
fn what_is_no_process_is_refused() {
    for process in [
        Process::Pid(0),
        Process::Pid(u32::MAX),
        Process::Name(String::new()),
        Process::Name("/bin/sh".to_owned()),
    ] {
        let failure = begin(process, true, Instant::now())
            .err()
            .expect("no process");
        assert_eq!(failure.kind, FailureKind::Invalid);
    }
}
