//! systemd, as far as a script called `systemctl` can be it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hotbed_driver::Error;

use crate::support::{Bed, call, run, timed};

const SOON: Duration = Duration::from_secs(120);

/// A guest whose `systemctl` shows the state in a file, and lists the jobs in another. It notes each call.
struct Systemd {
    bed: Bed,
}

impl Systemd {
    fn new(state: &str, jobs: &str) -> Self {
        let systemd = Self {
            bed: Bed::fake("guest"),
        };
        run(systemd.bed.m(), "true");
        let script = format!(
            r#"#!/bin/sh
cd {}
echo "$*" >>calls
case $* in
  *list-jobs*) cat jobs ;;
  *" show "*nosuch*) exit 4 ;;
  *" show "*) sleep 0.05; cat state ;;
  *) echo "$*"; exit 3 ;;
esac
"#,
            systemd.bed.m().state_dir().display()
        );
        systemd.write("state", state);
        systemd.write("jobs", jobs);
        systemd.write("bin/systemctl", &script);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(systemd.path("bin/systemctl"), executable).unwrap();
        systemd
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.bed.m().state_dir().join(name)
    }

    /// Whole at once, for one who reads meanwhile.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn wait(&self, timeout: Duration) -> Result<(), Error> {
        self.bed
            .m()
            .wait_for_unit("x.service", None, timeout, &call())
    }

    fn failure(&self) -> String {
        match timed(|| self.wait(SOON)) {
            (Err(Error::TestFailed(message)), time) => {
                time.at_most(Duration::from_secs(2));
                message
            }
            other => panic!("{other:?}"),
        }
    }

    fn calls(&self) -> usize {
        std::fs::read_to_string(self.path("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }
}

#[test]
fn active_unit_takes_one_look() {
    let systemd = Systemd::new("ActiveState=active\n", "");
    systemd.wait(SOON).unwrap();
    assert_eq!(systemd.calls(), 1);
    assert!(
        systemd
            .bed
            .log()
            .contains("m: (finished: waiting for unit x.service, in 0.")
    );
}

#[test]
fn unit_that_becomes_active_is_noticed_soon_and_cheaply() {
    let systemd = Systemd::new("ActiveState=activating\n", "");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(800));
            systemd.write("state", "ActiveState=active\n");
        });
        let (result, time) = timed(|| systemd.wait(SOON));
        result.unwrap();
        time.at_least(Duration::from_millis(780));
        time.at_most(Duration::from_millis(1300));
    });
    // A look takes 50 ms here and is followed by a pause of three times that.
    assert!(systemd.calls() <= 7, "{}", systemd.calls());
}

#[test]
fn unit_that_will_not_become_active_is_an_error_at_once() {
    assert_eq!(
        Systemd::new("ActiveState=failed\n", "").failure(),
        "unit \"x.service\" reached state \"failed\""
    );
    assert_eq!(
        Systemd::new("ActiveState=inactive\n", "No jobs running.\n").failure(),
        "unit \"x.service\" is inactive and there are no pending jobs"
    );
}

#[test]
fn inactive_unit_is_waited_for_while_there_are_jobs_and_cut_answers_are_no_answers() {
    for (state, jobs) in [
        ("ActiveState=inactive\n", "1 other.service start running\n"),
        ("", "No jobs"),
        ("ActiveSt", ""),
    ] {
        let systemd = Systemd::new(state, jobs);
        let result = systemd.wait(Duration::from_millis(700));
        let Err(Error::TestFailed(message)) = result else {
            panic!("{result:?}")
        };
        assert!(
            message.starts_with("action timed out after ") && message.ends_with("(timeout=0.7)"),
            "{message}"
        );
        systemd.write("state", "ActiveState=active\n");
        systemd.wait(SOON).unwrap();
    }
}

#[test]
fn properties_and_states_have_the_words_of_the_nixos_driver() {
    let systemd = Systemd::new(
        "ActiveState=active\nExecStart={ path=/x ; }\n\nnonsense\n",
        "",
    );
    let m = systemd.bed.m();
    let failure = |result: Result<(), Error>| match result {
        Err(Error::TestFailed(message)) => message,
        other => panic!("{other:?}"),
    };
    let info = m.get_unit_info("x", None, &call()).unwrap();
    let expected = [("ActiveState", "active"), ("ExecStart", "{ path=/x ; }")];
    assert_eq!(
        info,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    assert_eq!(
        m.get_unit_property("x", "ActiveState", None, &call())
            .unwrap(),
        "active"
    );
    assert!(matches!(
        m.get_unit_property("x", "Nothing", None, &call()),
        Err(Error::Assertion(_))
    ));
    assert_eq!(
        failure(m.get_unit_info("nosuch", None, &call()).map(|_| ())),
        "retrieving systemctl info for unit \"nosuch\" failed with exit code 4"
    );
    assert_eq!(
        failure(
            m.get_unit_property("nosuch", "P", None, &call())
                .map(|_| ())
        ),
        "retrieving systemctl property \"P\" for unit \"nosuch\" failed with exit code 4"
    );
    assert_eq!(
        failure(m.wait_for_unit("nosuch", None, SOON, &call())),
        "retrieving systemctl info for unit \"nosuch\" failed with exit code 4"
    );
    m.require_unit_state("x", "active", &call()).unwrap();
    assert_eq!(
        failure(m.require_unit_state("x", "inactive", &call())),
        "Expected unit 'x' to to be in state 'inactive' but it is in state 'active'"
    );
    let started = m.start_job("x", None, &call()).unwrap();
    assert_eq!((started.status, &*started.text()), (3, "start x\n"));
    assert_eq!(m.stop_job("x", None, &call()).unwrap().text(), "stop x\n");
}
