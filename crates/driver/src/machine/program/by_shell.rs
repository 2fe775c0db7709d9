//! A program by the backdoor shell: its input is put into a file before, its errors are read from one after.

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
    let (input, errors) = (
        format!("/tmp/.hotbed-{serial}.in"),
        format!("/tmp/.hotbed-{serial}.err"),
    );
    if let Some(bytes) = stdin {
        put_bytes(session, &input, bytes, call)?;
    }
    let mut script = match task.merges_stderr {
        true => "exec 2>&1\n".to_owned(),
        false => format!("exec 2>{errors}\n"),
    };
    if stdin.is_some() {
        let _ = writeln!(script, "exec <{input}"); // Writing to a String cannot fail.
    }
    script.push_str(&words(task));
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
    finished.status = match status {
        // A shell has no other words for a signal.
        129..=159 => 128 - status,
        status => status,
    };
    let rest = format!("cat {errors} 2>/dev/null; rm -f {errors} {input}");
    session.run(&Command::new(&rest), &mut finished.stderr, None, call)?;
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
