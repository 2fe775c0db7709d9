//! Deadlines and cancels: nothing of a command is left, wherever it went.

use crate::support::{Guest, finish, groups, run, script, soon};
use hotbed_console::agent::Agent;
use hotbed_console::agent::wire::Exit;
use std::time::{Duration, Instant};

/// How late an end may be on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

/// Starts processes that note their numbers, and try to get away in each of the usual ways.
fn escapists(path: &str, own: bool) -> String {
    let begin = if own { "echo $$ >/dev/null; " } else { "" };
    let run =
        format!("sh -c 'echo $$ >>{path}; trap \"\" TERM HUP INT; while :; do sleep 1; done'");
    format!(
        "{begin}{run} & setsid {run} & (setsid sh -c \"{} &\" &) ; until test $(wc -l <{path}) = 3; do sleep 0.01; done; echo ready; wait; sleep 60",
        run.replace('"', "\\\"").replace('$', "\\$")
    )
}

fn is_there(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn escape(options: &[&str]) {
    let guest = Guest::start(options);
    let agent = guest.connect();
    for own in [false, true] {
        for cancels in [false, true] {
            let path = guest.path(&format!("pids-{own}-{cancels}"));
            std::fs::write(&path, "").unwrap();
            let text = escapists(&path, own);
            let mut command = script(&text);
            command.timeout_ms = Some(if cancels { 60_000 } else { 1500 });
            let begun = Instant::now();
            let running = agent.start(&command, text.as_bytes()).unwrap();
            if cancels {
                running.poll_output(soon()).unwrap();
                running.cancel();
            }
            let outcome = finish(&running);
            assert!(
                begun.elapsed() < Duration::from_millis(1500) + SLACK,
                "{:?}",
                begun.elapsed()
            );
            assert_eq!(
                (outcome.ended.exit, outcome.ended.timed_out),
                (Exit::Signal(9), !cancels)
            );
            let pids = std::fs::read_to_string(&path).unwrap();
            assert_eq!(pids.lines().count(), 3, "{pids}");
            let until = soon();
            while let Some(pid) = pids.lines().find(|pid| is_there(pid)) {
                assert!(
                    Instant::now() < until,
                    "{pid} is left, own {own}, cancels {cancels}, {options:?}"
                );
                std::thread::yield_now();
            }
        }
    }
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn everything_that_a_command_started_ends_with_it() {
    escape(&[]);
}

#[test]
fn everything_ends_without_cgroups_too() {
    escape(&["--no-cgroups"]);
}

fn timed(agent: &Agent, text: &str, timeout_ms: u64) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut command = script(text);
    command.timeout_ms = Some(timeout_ms);
    let outcome = finish(&agent.start(&command, text.as_bytes()).unwrap());
    assert!(outcome.ended.timed_out);
    (outcome.stdout, begun.elapsed())
}

#[test]
fn output_that_is_never_closed_keeps_the_deadline() {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    for text in [
        "echo a; sleep 60 & exit 0",
        "echo a; echo $$ >/dev/null; sleep 60 & exit 0",
    ] {
        let (stdout, time) = timed(&agent, text, 300);
        assert_eq!(stdout, b"a\n");
        assert!(time < Duration::from_millis(300) + SLACK, "{time:?}");
    }
}

#[test]
fn output_without_an_end_keeps_the_deadline() {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    let (stdout, time) = timed(&agent, "yes", 300);
    assert!(!stdout.is_empty());
    assert!(time < Duration::from_millis(300) + SLACK, "{time:?}");
}

#[test]
fn a_host_that_takes_no_output_keeps_the_deadline() {
    for options in [&[][..], &["--no-cgroups"]] {
        let guest = Guest::start(options);
        let agent = guest.connect();
        let mut command = script("yes");
        command.timeout_ms = Some(200);
        let running = agent.start(&command, b"yes").unwrap();
        // Nobody takes anything; other commands do not mind, neither while it runs nor when it is killed.
        assert_eq!(run(&agent, "sleep 0.5; echo fine").text(), "fine\n");
        agent.ping(soon()).unwrap().unwrap();
        assert!(finish(&running).ended.timed_out);
    }
}

#[test]
fn dropping_a_command_ends_it() {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    let text = "echo $BASHPID; exec sleep 60";
    let running = agent.start(&script(text), text.as_bytes()).unwrap();
    let pid = running.pid(soon()).unwrap().unwrap().to_string();
    running.poll_output(soon()).unwrap();
    assert!(is_there(&pid));
    drop(running);
    let until = soon();
    while is_there(&pid) {
        assert!(Instant::now() < until, "it is left");
        std::thread::yield_now();
    }
}

#[test]
fn the_end_of_a_session_ends_its_commands() {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    let running = agent
        .start(&script("exec sleep 60"), b"exec sleep 60")
        .unwrap();
    let pid = running.pid(soon()).unwrap().unwrap().to_string();
    drop((running, agent));
    let agent = guest.connect();
    let until = soon();
    while is_there(&pid) {
        assert!(Instant::now() < until, "it is left");
        std::thread::yield_now();
    }
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

/// Waits until a process is gone.
fn await_end(pid: &str, what: &str) {
    let until = soon();
    while is_there(pid) {
        assert!(Instant::now() < until, "{what} ({pid}) is left");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_command_left_before_it_ended_is_killed_with_the_rest_of_it() {
    for options in [&[][..], &["--no-cgroups"]] {
        leave(&Guest::start(options));
    }
}

#[test]
fn what_a_command_left_is_killed_where_its_group_cannot_be_made() {
    let guest = Guest::start(&[]);
    let taken = groups().map(|groups| groups.join(guest.group("1")));
    if let Some(taken) = taken.filter(|taken| std::fs::create_dir(taken).is_ok()) {
        leave(&guest);
        std::fs::remove_dir(taken).expect("the agent does not use it");
    } else {
        println!("SKIPPED: no group can be made here, so none can be taken");
    }
}

fn leave(guest: &Guest) {
    let agent = guest.connect();
    let path = guest.path("pid");
    // The command ends, but not its output; a daemon of it has no part in that.
    let text = format!(
        "echo $$ >/dev/null; setsid sh -c 'echo $$ >{path}; sleep 600 >/dev/null 2>&1; :' >/dev/null 2>&1 & \
         until test -s {path}; do sleep 0.01; done; sleep 600 & exit 0"
    );
    let running = agent.start(&script(&text), text.as_bytes()).unwrap();
    let pid = running.pid(soon()).unwrap().unwrap().to_string();
    await_end(&pid, "the command");
    let daemon = std::fs::read_to_string(&path).unwrap();
    assert!(is_there(daemon.trim()));
    running.cancel();
    finish(&running);
    await_end(daemon.trim(), "its daemon");
    assert_eq!(run(&agent, "echo fine").text(), "fine\n");
}

#[test]
fn what_a_command_left_goes_on_when_that_is_over() {
    for options in [&[][..], &["--no-cgroups"]] {
        let guest = Guest::start(options);
        let agent = guest.connect();
        let path = guest.path("pid");
        let text = format!(
            "echo $$ >/dev/null; setsid sh -c 'echo $$ >{path}; exec sleep 600' >/dev/null 2>&1 & \
             until test -s {path}; do sleep 0.01; done"
        );
        let outcome = run(&agent, &text);
        assert_eq!(outcome.ended.exit, Exit::Code(0));
        let text = "echo $$ >/dev/null; sleep 600 & exit 0";
        let other = agent.start(&script(text), text.as_bytes()).unwrap();
        let pid = other.pid(soon()).unwrap().unwrap().to_string();
        await_end(&pid, "the command");
        other.cancel();
        finish(&other);
        let daemon = std::fs::read_to_string(&path).unwrap();
        assert!(is_there(daemon.trim()), "it was killed with another");
        // Not even with the session.
        drop((other, agent));
        let agent = guest.connect();
        assert_eq!(
            run(&agent, &format!("kill {}", daemon.trim())).ended.exit,
            Exit::Code(0)
        );
        await_end(daemon.trim(), "what was told to end");
    }
}

#[test]
fn programs_and_shells_do_not_outlive_an_agent_that_is_killed() {
    let mut guest = Guest::start(&[]);
    let agent = guest.connect();
    let start = |text: &str| {
        let running = agent.start(&script(text), text.as_bytes()).unwrap();
        running.poll_output(soon()).unwrap();
        let pid = running.pid(soon()).unwrap().unwrap();
        (running, pid.to_string())
    };
    let (own, program) = start("echo $$; exec sleep 600");
    let (shared, child) = start("echo ready; exec sleep 600");
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    let shell = stat.split(' ').nth(3).unwrap();
    guest.process.kill().unwrap();
    guest.process.wait().unwrap();
    await_end(&program, "a program");
    await_end(shell, "a shell");
    drop((own, shared));
    // Whoever has started the agent ends what is below that: systemd, and PID 1 of micro.
    let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}
