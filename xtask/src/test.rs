//! `cargo xtask test`: every check and every test, one after the other, and a summary.
//!
//! - [`steps`]: the list of steps.
//! - [`tally`]: what a step counted, read from what its program printed.
//!
//! A failed step does not stop the ones after it, but for those that need what it should have built. What failed is
//! shown once more at the end, and the last line counts tests (a check counts as one).

mod steps;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;

use self::steps::{STEPS, Step};
pub(crate) use self::tally::Tally;
use crate::run::{Interrupted, Job, Runner};
use crate::setup::{self, needs::Purpose};
use crate::ui::seconds;
use crate::workspace::Workspace;

/// Arguments of the job.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    setup: setup::Arguments,
    /// Run only this step (may be given several times), with the steps that it needs.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// List the steps and run nothing.
    #[arg(long)]
    list: bool,
}

/// What a step works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Where everything is.
    pub(crate) workspace: &'a Workspace,
    /// Runs its programs.
    pub(crate) runner: &'a Runner,
    /// What it counts.
    pub(crate) tally: Tally,
    /// Whether what this machine lacks may be installed.
    pub(crate) install: bool,
    step: &'static str,
    label: String,
}

impl Context<'_> {
    /// Runs one program of the step and counts the tests in its output; a program that fails without a failed test counts as one.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or on [`Interrupted`].
    pub(crate) fn run(&mut self, what: &str, job: Job) -> anyhow::Result<bool> {
        let name = if what.is_empty() {
            self.step.to_owned()
        } else {
            format!("{}-{what}", self.step)
        };
        let log = self.workspace.scratch("logs").join(format!("{name}.log"));
        let label = if what.is_empty() {
            self.label.clone()
        } else {
            format!("{}: {what}", self.label)
        };
        let job = job.folder(self.workspace.root()).log(&log);
        let mut counted = Tally::default();
        let outcome = self
            .runner
            .watch(&label, &job, &mut |line| counted.line(line))?;
        let success = outcome.success();
        counted.settle(&name, success, &outcome.describe(), &outcome.tail, &log);
        self.tally.add(counted);
        Ok(success)
    }
}

#[derive(Debug)]
struct Finished {
    name: &'static str,
    tally: Tally,
    elapsed: Duration,
    ran: bool,
}

impl Finished {
    fn success(&self) -> bool {
        self.tally.failed == 0
    }
}

/// Runs the job.
///
/// # Errors
///
/// When a step is unknown, the set-up fails, or on [`Interrupted`]; not when a check fails.
pub(crate) fn run(
    workspace: &Workspace,
    runner: &Runner,
    arguments: &Arguments,
) -> anyhow::Result<ExitCode> {
    if arguments.list {
        for step in STEPS {
            println!("{:<10} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let steps = select(&arguments.only)?;
    let mut purposes: Vec<Purpose> = Vec::new();
    purposes.extend(steps.iter().flat_map(|step| step.purposes));
    setup::ensure(runner, &purposes, &arguments.setup)?;

    let started = Instant::now();
    let mut finished: Vec<Finished> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let lame = step.after.iter().any(|name| {
            finished
                .iter()
                .any(|done| done.name == *name && !done.success())
        });
        let label = format!("[{}/{}] {}", index + 1, steps.len(), step.name);
        finished.push(if lame {
            not_run(step)
        } else {
            let context = Context {
                workspace,
                runner,
                tally: Tally::default(),
                install: !arguments.setup.no_install,
                step: step.name,
                label,
            };
            perform(context, step)?
        });
        let done = finished.last().map(describe).unwrap_or_default();
        println!("{done}");
    }
    Ok(summarise(&finished, started.elapsed()))
}

/// The steps to run, each with those that it needs, in the list's order.
fn select(only: &[String]) -> anyhow::Result<Vec<&'static Step>> {
    if let Some(name) = only
        .iter()
        .find(|name| !STEPS.iter().any(|step| step.name == **name))
    {
        bail!("there is no step {name:?}; `cargo xtask test --list` lists them");
    }
    let asked = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let needed = |name: &str| {
        STEPS
            .iter()
            .any(|step| asked(step.name) && step.after.contains(&name))
    };
    Ok(STEPS
        .iter()
        .filter(|step| asked(step.name) || needed(step.name))
        .collect())
}

fn perform(mut context: Context<'_>, step: &Step) -> anyhow::Result<Finished> {
    let started = Instant::now();
    if let Err(error) = (step.body)(&mut context) {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        context.tally.fail(step.name, &format!("{error:#}"));
    }
    context.runner.check()?;
    Ok(Finished {
        name: step.name,
        tally: context.tally,
        elapsed: started.elapsed(),
        ran: true,
    })
}

fn not_run(step: &Step) -> Finished {
    let mut tally = Tally::default();
    tally.fail(
        step.name,
        &format!("not run, because it needs: {}", step.after.join(", ")),
    );
    Finished {
        name: step.name,
        tally,
        elapsed: Duration::ZERO,
        ran: false,
    }
}

fn describe(done: &Finished) -> String {
    let verdict = match (done.ran, done.success()) {
        (false, _) => "not run",
        (_, true) => "ok",
        (_, false) => "FAILED",
    };
    let Tally {
        passed,
        failed,
        skipped,
        ..
    } = &done.tally;
    let failed = if *failed > 0 {
        format!(", {failed} failed")
    } else {
        String::new()
    };
    let skipped = if skipped.is_empty() {
        String::new()
    } else {
        format!(", {} skipped", skipped.len())
    };
    format!(
        "{verdict:<8} {:<10} {:>12}   {passed} passed{failed}{skipped}",
        done.name,
        seconds(done.elapsed)
    )
}

/// Prints what failed and what was skipped, the table of steps, and the last line.
fn summarise(finished: &[Finished], elapsed: Duration) -> ExitCode {
    let mut all = Tally::default();
    for done in finished {
        all.add(done.tally.clone());
    }
    for failure in &all.failures {
        println!("\n──── FAILED: {failure}");
    }
    if !all.skipped.is_empty() {
        println!("\nSkipped:\n  {}", all.skipped.join("\n  "));
    }
    println!("\nSteps:");
    finished
        .iter()
        .for_each(|done| println!("  {}", describe(done)));
    println!("In {}.\n", seconds(elapsed));
    println!("{} passed, {} failed", all.passed, all.failed);
    if all.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests;
