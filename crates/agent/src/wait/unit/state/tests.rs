//! A manager made of answers.

use super::*;
use crate::wait::bus::wire::fake::{Item, message};

const PATH: &str = "/org/freedesktop/systemd1/unit/a_2eservice";

/// What was asked and not answered yet: the number, and what of.
struct Bench {
    state: State,
    asked: Vec<(u32, String)>,
    serial: u32,
}

type Answer = Result<Option<String>, Failure>;

impl Bench {
    fn new(goal: Goal) -> Self {
        let mut bench = Self {
            state: State::new(goal),
            asked: Vec::new(),
            serial: 0,
        };
        bench
            .with(|state, send| {
                state.begin(send);
                Ok(None)
            })
            .unwrap();
        bench
    }

    fn with(&mut self, act: impl FnOnce(&mut State, Send<'_>) -> Answer) -> Answer {
        let (asked, serial) = (&mut self.asked, &mut self.serial);
        act(&mut self.state, &mut |call| {
            *serial += 1;
            let what = if call.member == "Get" {
                call.arguments[1]
            } else {
                call.member
            };
            asked.push((*serial, what.to_owned()));
            *serial
        })
    }

    fn take(&mut self, message: &Message) -> Answer {
        self.with(|state, send| state.handle(message, send))
    }

    fn answer_with(&mut self, what: &str, kind: Kind, error: &str, items: &[Item]) -> Answer {
        let at = self.asked.iter().position(|(_, asked)| asked == what);
        let (serial, _) = self
            .asked
            .remove(at.unwrap_or_else(|| panic!("{what} was not asked")));
        self.take(&message(kind, serial, ["", "", error], items))
    }

    fn answer(&mut self, what: &str, value: Value) -> Answer {
        self.answer_with(what, Kind::Return, "", &[Item::Variant(value)])
    }

    fn answer_text(&mut self, what: &str, text: &str) -> Answer {
        self.answer(what, Value::Text(text.to_owned()))
    }

    fn answer_path(&mut self) {
        let path = [Item::text(PATH)];
        assert_eq!(
            self.answer_with("LoadUnit", Kind::Return, "", &path),
            Ok(None)
        );
    }

    /// A wait whose unit is in this state.
    fn at(goal: Goal, active: &str) -> (Self, Answer) {
        let mut bench = Self::new(goal);
        bench.answer_path();
        let answer = bench.answer_text("ActiveState", active);
        (bench, answer)
    }

    fn change(&mut self, path: &str, interface: &str, changes: &[(&str, Value)]) -> Answer {
        let changes = changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self.take(&message(
            Kind::Signal,
            0,
            [path, PROPERTIES, "PropertiesChanged"],
            &[
                Item::text(interface),
                Item::Properties(changes),
                Item::Texts(Vec::new()),
            ],
        ))
    }

    fn change_active(&mut self, active: &str) -> Answer {
        self.change(
            PATH,
            UNIT,
            &[("ActiveState", Value::Text(active.to_owned()))],
        )
    }

    fn manager(&mut self, member: &str, items: &[Item]) -> Answer {
        self.take(&message(
            Kind::Signal,
            0,
            [MANAGER_PATH, MANAGER, member],
            items,
        ))
    }

    fn remove_job(&mut self, unit: &str) -> Answer {
        let items = [
            Item::Number(7),
            Item::text("/job/7"),
            Item::text(unit),
            Item::text("done"),
        ];
        self.manager("JobRemoved", &items)
    }

    fn jobs(&mut self, number: u64) -> Answer {
        assert!(self.state.wants_jobs());
        self.with(|state, send| {
            state.ask_jobs(send);
            Ok(None)
        })
        .unwrap();
        self.answer("NJobs", Value::Number(number))
    }
}

fn unit(states: &[&str], or_fail: bool, finished: bool) -> Goal {
    Goal::Unit {
        name: "a.service".to_owned(),
        states: states.iter().map(|&state| state.to_owned()).collect(),
        or_fail,
        finished,
    }
}

fn active() -> Goal {
    unit(&["active"], true, false)
}

fn found(state: &str) -> Answer {
    Ok(Some(state.to_owned()))
}

fn hopeless(message: &str) -> Answer {
    Err(Failure::new(FailureKind::Hopeless, message))
}

const NO_JOBS: &str = "unit \"a.service\" is inactive and there are no pending jobs";

#[test]
fn unit_that_is_active_is_found_at_once() {
    assert_eq!(Bench::at(active(), "active").1, found("active"));
}

#[test]
fn unit_is_found_by_the_signal_and_not_by_that_of_another() {
    let (mut bench, answer) = Bench::at(active(), "activating");
    assert_eq!(answer, Ok(None));
    let to_active = [("ActiveState", Value::Text("active".to_owned()))];
    assert_eq!(bench.change("/other", UNIT, &to_active), Ok(None));
    assert_eq!(bench.change(PATH, "a.b.Other", &to_active), Ok(None));
    assert_eq!(bench.change_active("reloading"), Ok(None));
    assert_eq!(bench.change_active("active"), found("active"));
    assert!(bench.asked.iter().all(|(_, what)| what == "Subscribe"));
}

#[test]
fn change_without_its_value_makes_it_ask() {
    let (mut bench, _) = Bench::at(active(), "activating");
    assert_eq!(bench.change(PATH, UNIT, &[]), Ok(None));
    assert_eq!(bench.answer_text("ActiveState", "active"), found("active"));
}

#[test]
fn failed_unit_fails_the_wait_unless_that_is_wanted_or_nothing_is_to() {
    let (_, answer) = Bench::at(active(), "failed");
    assert_eq!(
        answer,
        hopeless("unit \"a.service\" reached state \"failed\"")
    );
    let (_, answer) = Bench::at(unit(&["active", "failed"], true, false), "failed");
    assert_eq!(answer, found("failed"));
    let (mut bench, answer) = Bench::at(unit(&["active"], false, false), "failed");
    assert_eq!(answer, Ok(None));
    assert_eq!(bench.change_active("active"), found("active"));
}

#[test]
fn inactive_unit_fails_the_wait_once_there_are_no_jobs_and_it_is_still_inactive() {
    let (mut bench, answer) = Bench::at(active(), "inactive");
    assert_eq!(answer, Ok(None));
    assert_eq!(bench.jobs(3), Ok(None));
    assert!(!bench.state.wants_jobs(), "not before a job has ended");
    assert_eq!(bench.remove_job("other.service"), Ok(None));
    assert_eq!(bench.jobs(0), Ok(None));
    assert_eq!(
        bench.answer_text("ActiveState", "inactive"),
        hopeless(NO_JOBS)
    );
}

#[test]
fn unit_that_became_active_between_the_questions_is_found() {
    let (mut bench, _) = Bench::at(active(), "inactive");
    assert_eq!(bench.jobs(0), Ok(None));
    assert_eq!(bench.answer_text("ActiveState", "active"), found("active"));
    let (mut bench, _) = Bench::at(active(), "inactive");
    assert_eq!(bench.jobs(0), Ok(None));
    assert_eq!(bench.answer_text("ActiveState", "activating"), Ok(None));
    assert!(!bench.state.wants_jobs());
}

#[test]
fn inactive_unit_that_is_wanted_or_may_be_is_no_failure() {
    let (_, answer) = Bench::at(unit(&["inactive"], true, false), "inactive");
    assert_eq!(answer, found("inactive"));
    let (bench, answer) = Bench::at(unit(&["active"], false, false), "inactive");
    assert_eq!(answer, Ok(None));
    assert!(!bench.state.wants_jobs());
}

#[test]
fn unit_that_was_unloaded_is_inactive() {
    let mut bench = Bench::new(active());
    bench.answer_path();
    let error = "org.freedesktop.DBus.Error.UnknownObject";
    let answer = bench.answer_with("ActiveState", Kind::Error, error, &[Item::text("gone")]);
    assert_eq!(answer, Ok(None));
    assert_eq!(bench.jobs(0), Ok(None));
    let answer = bench.answer_with("ActiveState", Kind::Error, error, &[Item::text("gone")]);
    assert_eq!(answer, hopeless(NO_JOBS));
}

#[test]
fn end_of_its_own_job_makes_it_ask() {
    let (mut bench, _) = Bench::at(unit(&["active"], false, false), "activating");
    assert_eq!(bench.remove_job("other.service"), Ok(None));
    assert!(!bench.asked.iter().any(|(_, what)| what == "ActiveState"));
    assert_eq!(bench.remove_job("a.service"), Ok(None));
    assert_eq!(bench.answer_text("ActiveState", "active"), found("active"));
}

#[test]
fn oneshot_that_has_run_well_counts_when_that_is_asked_for() {
    for (kind, result, time, is_found) in [
        ("oneshot", "success", 5, true),
        ("oneshot", "exit-code", 5, false),
        ("oneshot", "success", 0, false),
        ("simple", "success", 5, false),
    ] {
        let mut bench = Bench::new(unit(&["active"], true, true));
        bench.answer_path();
        bench.answer_text("Type", kind).unwrap();
        bench.answer_text("Result", result).unwrap();
        bench
            .answer("ExecMainExitTimestampMonotonic", Value::Number(time))
            .unwrap();
        let answer = bench.answer_text("ActiveState", "inactive").unwrap();
        assert_eq!(answer.is_some(), is_found, "{kind} {result} {time}");
    }
}

#[test]
fn oneshot_is_found_by_the_signals_of_its_end() {
    let mut bench = Bench::new(unit(&["active"], true, true));
    bench.answer_path();
    bench.answer_text("Type", "oneshot").unwrap();
    bench.answer_text("Result", "success").unwrap();
    bench
        .answer("ExecMainExitTimestampMonotonic", Value::Number(0))
        .unwrap();
    assert_eq!(bench.answer_text("ActiveState", "activating"), Ok(None));
    let end = [("ExecMainExitTimestampMonotonic", Value::Number(9))];
    assert_eq!(bench.change(PATH, SERVICE, &end), Ok(None));
    assert_eq!(bench.change_active("inactive"), found("inactive"));
}

#[test]
fn unit_is_looked_up_again_after_a_reload() {
    let (mut bench, _) = Bench::at(active(), "activating");
    assert_eq!(bench.manager("Reloading", &[Item::Number(1)]), Ok(None));
    assert_eq!(bench.manager("Reloading", &[Item::Number(0)]), Ok(None));
    let answer = bench.answer_with("LoadUnit", Kind::Return, "", &[Item::text("/other")]);
    assert_eq!(answer, Ok(None));
    let to_active = [("ActiveState", Value::Text("active".to_owned()))];
    assert_eq!(bench.change("/other", UNIT, &to_active), found("active"));
}

#[test]
fn name_that_systemd_refuses_fails_the_wait() {
    let mut bench = Bench::new(active());
    let error = "org.freedesktop.DBus.Error.InvalidArgs";
    let answer = bench.answer_with("LoadUnit", Kind::Error, error, &[Item::text("not valid.")]);
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(
        failure.message,
        "retrieving systemctl info for unit \"a.service\" failed: not valid."
    );
    let mut bench = Bench::new(active());
    let error = "org.freedesktop.DBus.Error.ServiceUnknown";
    assert_eq!(
        bench.answer_with("LoadUnit", Kind::Error, error, &[]),
        Ok(None)
    );
}

#[test]
fn answers_that_make_no_sense_are_no_answers() {
    let mut bench = Bench::new(active());
    assert_eq!(
        bench.answer_with("LoadUnit", Kind::Return, "", &[Item::Number(1)]),
        Ok(None)
    );
    assert_eq!(bench.answer("ActiveState", Value::Other), Ok(None));
    let stray = message(Kind::Return, 4711, ["", "", ""], &[]);
    assert_eq!(bench.take(&stray), Ok(None));
    let signal = message(
        Kind::Signal,
        0,
        [PATH, PROPERTIES, "PropertiesChanged"],
        &[],
    );
    assert_eq!(bench.take(&signal), Ok(None));
    assert_eq!(bench.manager("JobRemoved", &[]), Ok(None));
}

#[test]
fn end_of_the_boot_is_found_whatever_came_of_it() {
    for (state, is_end) in [
        ("initializing", false),
        ("starting", false),
        ("running", true),
        ("degraded", true),
        ("maintenance", true),
        ("offline", false),
    ] {
        let mut bench = Bench::new(Goal::Boot);
        let answer = bench.answer_text("SystemState", state).unwrap();
        assert_eq!(answer.is_some(), is_end, "{state}");
    }
    let mut bench = Bench::new(Goal::Boot);
    assert_eq!(bench.answer_text("SystemState", "starting"), Ok(None));
    assert_eq!(bench.manager("StartupFinished", &[]), Ok(None));
    assert_eq!(
        bench.answer_text("SystemState", "degraded"),
        found("degraded")
    );
    let mut bench = Bench::new(Goal::Boot);
    assert_eq!(
        bench.answer_text("SystemState", "stopping"),
        hopeless("the system is shutting down")
    );
}

#[test]
fn open_questions_have_a_bound() {
    let (mut bench, _) = Bench::at(active(), "activating");
    for _ in 0..10 * ASKED_MAX {
        bench.remove_job("a.service").unwrap();
    }
    assert!(bench.state.asked.len() <= ASKED_MAX);
}
