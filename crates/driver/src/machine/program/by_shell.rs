//! A program by the backdoor shell: its input is put into a file before, its errors are read from one after, and how it ended.
//!
//! A shell's status tells 137 from `exit 137` as little as from a signal 9. The list of its jobs does, for as long as nobody has
//! waited for the job: so the program is one, and a trap that comes with its end writes the list down.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use hotbed_console::Command;

use super::super::files::put_bytes;
use super::super::quoting::quote;
use super::super::shell::{ANSWER_GRACE, Session, TIMED_OUT};
use super::{Finished, Program, Task};
use crate::call::{after, now};
use crate::{Call, Error};

/// Tells names of files apart.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// What is said, with status 127, where there is no `su`.
const NO_SU: &str = "hotbed: no su";

/// Runs a program to its end.
pub(super) fn run(
    session: &mut Session<'_>,
    task: &Task,
    stdin: Option<&[u8]>,
    call: &Call<'_>,
) -> Result<Finished, Error> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let file = |kind: &str| format!("/tmp/.hotbed-{serial}.{kind}");
    let (input, errors, end) = (file("in"), file("err"), file("end"));
    if let Some(bytes) = stdin {
        put_bytes(session, &input, bytes, call)?;
    }
    let errors_go = match task.merges_stderr {
        true => "2>&1".to_owned(),
        false => format!("2>{errors}"),
    };
    let input_comes = match stdin {
        Some(_) => format!("<{input}"),
        None => "<&0".to_owned(),
    };
    // A job's input would be empty, and SIGINT would not reach it, if nothing were said about them. The shell's own words on how
    // the job ended are nobody's errors.
    let script = format!(
        "trap 'LC_ALL=C jobs >{end} || :' CHLD\n(\ntrap - INT QUIT\n{}\n) {input_comes} {errors_go} &\nexec 2>/dev/null\nwait $!",
        words(task)
    );
    let mut finished = Finished::default();
    let deadline = task
        .timeout
        .map(|timeout| after(now(), timeout) + ANSWER_GRACE);
    let command = Command {
        timeout: task.timeout,
        ..Command::new(&script)
    };
    let begin = now();
    let status = session.run(&command, &mut finished.stdout, deadline, call)?;
    finished.duration = now().saturating_duration_since(begin);
    finished.timed_out = task.timeout.is_some() && status == TIMED_OUT;
    let rest = format!(
        "read -r job <{end} || job=; echo \"$job\"; cat {errors} || :; rm -f {errors} {input} {end}"
    );
    let mut end_and_errors = Vec::new();
    let rest = format!("exec 2>/dev/null; {rest}");
    session.run(&Command::new(&rest), &mut end_and_errors, None, call)?;
    let line_end = end_and_errors.iter().position(|&byte| byte == b'\n');
    finished.stderr = end_and_errors.split_off(line_end.map_or(0, |at| at + 1));
    finished.status = as_subprocess_has_it(status, &end_and_errors);
    let said = match task.merges_stderr {
        true => &finished.stdout,
        false => &finished.stderr,
    };
    if let Some(user) = &task.user
        && finished.status == 127
        && said.trim_ascii() == NO_SU.as_bytes()
    {
        return Err(Error::NoAgent {
            what: format!("a program of user {user}"),
            machine: session.machine.name().to_owned(),
            why: "nor has the guest a program `su`".to_owned(),
        });
    }
    Ok(finished)
}

/// The status of a program that ended with `status` in the shell's words, and that the list of jobs has as `job`.
fn as_subprocess_has_it(status: i32, job: &[u8]) -> i32 {
    // `[1]+  Exit 137   …`, or in the same place what the signal is called.
    let mut word = job
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let is_exit = word.nth(1) == Some(b"Exit");
    match status {
        129..=159 if !is_exit => 128 - status,
        status => status,
    }
}

/// The program as the last words of a script.
fn words(task: &Task) -> String {
    let mut words = String::from("exec env");
    if task.user.is_some() {
        words = format!("type -P su >/dev/null || {{ echo '{NO_SU}' >&2; exit 127; }}\n{words}");
    }
    if let Some(directory) = &task.directory {
        words = format!("cd -- {}\n{words}", quote(directory));
    }
    // `env` takes its options first.
    for (name, _) in task.environment.iter().filter(|(_, value)| value.is_none()) {
        let _ = write!(words, " -u {}", quote(name));
    }
    for (name, value) in &task.environment {
        if let Some(value) = value {
            let _ = write!(words, " {}", quote(&format!("{name}={value}")));
        }
    }
    let program: Vec<String> = match &task.program {
        Program::Script(script) => vec![
            "bash".to_owned(),
            "-c".to_owned(),
            format!("set -euo pipefail; {script}"),
        ],
        Program::Arguments(arguments) => arguments.clone(),
    };
    let program: Vec<_> = program.iter().map(|word| quote(word)).collect();
    let program = program.join(" ");
    match &task.user {
        None => {
            let _ = write!(words, " {program}");
        }
        Some(user) => {
            let inner = quote(&format!("exec {program}"));
            let _ = write!(words, " su -s /bin/sh -c {inner} {}", quote(user));
        }
    }
    words
}
