//! A peer of ours that closes and comes again; and the real systemd, as a user's manager in a folder of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use super::super::bus::wire::Kind;
use super::super::bus::wire::fake::{Item, encode};
use super::super::testing::{LONG, found, is_quiet, run};
use super::*;

const SHORT: Duration = Duration::from_millis(150);

fn goal(name: &str, states: &[&str], or_fail: bool, finished: bool) -> Goal {
    Goal::Unit {
        name: mangle(name).unwrap(),
        states: states.iter().map(|&state| state.to_owned()).collect(),
        or_fail,
        finished,
    }
}

fn active(name: &str) -> Goal {
    goal(name, &["active"], true, false)
}

fn watch(socket: &Path, goal: Goal) -> UnitWatch {
    UnitWatch::at(goal, socket.to_str().unwrap(), None).unwrap()
}

/// Answers the greeting, and the first two questions so that the unit is there, in no state yet.
fn greet(listener: &UnixListener) -> std::os::unix::net::UnixStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 4096];
    assert!(stream.read(&mut bytes).unwrap() > 0);
    stream.write_all(b"OK 1234\r\n").unwrap();
    stream
        .write_all(&encode(
            Kind::Return,
            2,
            ["", "", ""],
            &[Item::text("/unit")],
        ))
        .unwrap();
    stream
}

fn send_active(stream: &mut std::os::unix::net::UnixStream) {
    let value = super::super::bus::wire::Value::Text("active".to_owned());
    let changes = Item::Properties(vec![("ActiveState".to_owned(), value)]);
    let head = ["/unit", state::PROPERTIES, "PropertiesChanged"];
    let items = [Item::text(state::UNIT), changes, Item::Texts(Vec::new())];
    stream
        .write_all(&encode(Kind::Signal, 0, head, &items))
        .unwrap();
}

#[test]
fn manager_that_is_not_there_yet_is_waited_for_and_followed_when_it_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/systemd/private");
    let mut waiting = watch(&socket, active("a"));
    assert!(is_quiet(&mut waiting, SHORT));
    assert!(waiting.connect_next.is_none(), "its coming is an event");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = std::thread::spawn(move || {
        drop(greet(&listener));
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let mut stream = greet(&listener);
        send_active(&mut stream);
        stream
    });
    assert_eq!(found(&mut waiting, LONG), Some("active".to_owned()));
    drop(peer.join());
}

#[test]
fn peer_that_closes_each_connection_is_given_up_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut waiting = watch(&socket, active("a"));
    let mut now = Instant::now();
    let failure = loop {
        while listener.accept().is_ok() {}
        now += Duration::from_secs(1);
        if let Err(failure) = waiting.poll(now) {
            break failure;
        }
    };
    assert_eq!(failure.kind, FailureKind::Os);
    assert!(
        failure.message.ends_with("it closes every connection"),
        "{failure:?}"
    );
    assert_eq!(waiting.lost, CONNECTIONS_MAX);
}

#[test]
fn peer_that_speaks_something_else_fails_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = watch(&socket, active("a"));
    waiting.poll(Instant::now()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"220 mail server\r\n").unwrap();
    let failure = run(&mut waiting, LONG).0.unwrap_err();
    assert!(failure.message.contains("220 mail server"), "{failure:?}");
}

#[test]
fn slow_manager_is_not_asked_again_before_it_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = watch(&socket, active("a"));
    let mut now = Instant::now();
    waiting.poll(now).unwrap();
    let mut stream = greet(&listener);
    let value = super::super::bus::wire::Value::Text("active".to_owned());
    for _ in 0..5 {
        now += ASK_AGAIN;
        assert_eq!(waiting.poll(now), Ok(None));
    }
    stream
        .write_all(&encode(
            Kind::Return,
            3,
            ["", "", ""],
            &[Item::Variant(value)],
        ))
        .unwrap();
    assert_eq!(found(&mut waiting, LONG), Some("active".to_owned()));
}

#[test]
fn watch_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = watch(&socket, active("a"));
    waiting.poll(Instant::now()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    drop(waiting);
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .expect("the connection is closed");
}

#[test]
fn users_are_found_by_name_and_by_number() {
    let table = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\nbroken\n";
    assert_eq!(uid_in(table, "alice"), Some(1000));
    assert_eq!(uid_in(table, "broken"), None);
    assert_eq!(uid("0").unwrap(), 0);
    assert_eq!(uid("root").unwrap(), 0);
    assert_eq!(uid("no such user").unwrap_err().kind, FailureKind::NotFound);
}

/// A user's manager that runs with the test.
struct Systemd {
    folder: tempfile::TempDir,
    manager: Child,
    /// Its control group.
    group: String,
}

impl Systemd {
    /// None, and why, where it can not run.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().file_name().unwrap().to_str().unwrap();
        let group = format!("hotbed-wait{group}");
        let manager = Command::new("sh")
            .args(["-c", include_str!("systemd.sh")])
            .env("GROUP", &group)
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(manager) = manager else {
            eprintln!("skipped: there is no sh");
            return None;
        };
        let mut systemd = Self {
            folder,
            manager,
            group,
        };
        let mut there =
            crate::wait::file::FileWatch::new(systemd.socket().to_str().unwrap(), true).unwrap();
        let end = Instant::now() + LONG;
        while found(&mut there, SHORT).is_none() {
            if Instant::now() > end || systemd.manager.try_wait().unwrap().is_some() {
                eprintln!("skipped: there is no systemd, or it does not run here");
                return None;
            }
        }
        Some(systemd)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("systemd/private")
    }

    fn watch(&self, goal: Goal) -> UnitWatch {
        watch(&self.socket(), goal)
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .arg("--user")
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    }

    fn write_unit(&self, name: &str, text: &str) {
        let folder = self.folder.path().join(".config/systemd/user");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
        self.command("systemctl", &["daemon-reload"]);
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // It stops what it has started.
        let manager = rustix::process::Pid::from_child(&self.manager);
        let _ = rustix::process::kill_process(manager, rustix::process::Signal::TERM);
        self.manager.wait().unwrap();
        for groups in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            remove_groups(&Path::new(groups).join(&self.group));
        }
    }
}

/// Removes a control group and those in it; they are empty.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Without jobs: what the manager began with is done.
fn settle(systemd: &Systemd) {
    assert!(found(&mut systemd.watch(Goal::Boot), LONG).is_some());
}

#[test]
fn real_systemd_tells_of_units() {
    let Some(systemd) = Systemd::start() else {
        return;
    };
    settle(&systemd);

    // A unit that there is no file of, with or_fail and without.
    let failure = run(&mut systemd.watch(active("nothing")), LONG)
        .0
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Hopeless);
    assert_eq!(
        failure.message,
        "unit \"nothing.service\" is inactive and there are no pending jobs"
    );
    let mut waiting = systemd.watch(goal("later", &["active"], false, false));
    assert!(is_quiet(&mut waiting, SHORT));

    // It comes, and becomes active after 0.3 s.
    let script = "sleep 0.3; systemd-notify --ready; sleep 100";
    let line =
        format!("[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c '{script}'\n");
    systemd.write_unit("later.service", &line);
    assert!(is_quiet(&mut waiting, SHORT));
    systemd.command("systemctl", &["start", "--no-block", "later"]);
    let (result, looks) = run(&mut waiting, LONG);
    assert_eq!(result.unwrap(), Some("active".to_owned()));
    assert!(looks < 100, "{looks}: changes are events");
    assert!(found(&mut systemd.watch(active("later.service")), LONG).is_some());
    let mut stopping = systemd.watch(goal("later", &["inactive", "failed"], true, false));
    assert!(is_quiet(&mut stopping, SHORT));
    systemd.command("systemctl", &["stop", "--no-block", "later"]);
    assert!(found(&mut stopping, LONG).is_some());
}

#[test]
fn real_systemd_tells_of_failures_oneshots_templates_and_odd_names() {
    let Some(systemd) = Systemd::start() else {
        return;
    };
    settle(&systemd);
    systemd.write_unit(
        "bad.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.2; exit 1'\n",
    );
    systemd.command("systemctl", &["start", "--no-block", "bad"]);
    let failure = run(&mut systemd.watch(active("bad")), LONG).0.unwrap_err();
    assert_eq!(
        failure.message,
        "unit \"bad.service\" reached state \"failed\""
    );

    systemd.write_unit(
        "once.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sleep 0.2\n",
    );
    let mut before = systemd.watch(goal("once", &["active"], false, true));
    assert!(is_quiet(&mut before, SHORT), "it has not run");
    systemd.command("systemctl", &["start", "--no-block", "once"]);
    let mut running = systemd.watch(goal("once", &["active"], true, true));
    assert_eq!(found(&mut running, LONG), Some("inactive".to_owned()));
    assert_eq!(found(&mut before, LONG), Some("inactive".to_owned()));
    let failure = run(&mut systemd.watch(active("once")), LONG).0.unwrap_err();
    assert_eq!(
        failure.kind,
        FailureKind::Hopeless,
        "without `finished` that is inactive"
    );

    systemd.write_unit("t@.service", "[Service]\nExecStart=/bin/sleep 100\n");
    let name = r"t@a-b\x2dc.service";
    let mut waiting = systemd.watch(goal(name, &["active"], false, false));
    assert!(is_quiet(&mut waiting, SHORT));
    systemd.command("systemctl", &["start", "--no-block", name]);
    assert!(found(&mut waiting, LONG).is_some());
}

#[test]
fn real_systemd_that_executes_itself_anew_is_followed() {
    let Some(systemd) = Systemd::start() else {
        return;
    };
    settle(&systemd);
    systemd.write_unit("a.service", "[Service]\nExecStart=/bin/sleep 100\n");
    let mut waiting = systemd.watch(goal("a", &["active"], false, false));
    assert!(is_quiet(&mut waiting, SHORT));
    systemd.command("systemctl", &["daemon-reexec"]);
    systemd.command("systemctl", &["start", "--no-block", "a"]);
    assert!(found(&mut waiting, LONG).is_some());
}
