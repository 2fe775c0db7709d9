//! The steps, from the cheapest to the dearest.

use std::time::Duration;

use anyhow::ensure;

use super::Context;
use crate::agent::{self, Target};
use crate::run::Job;
use crate::setup::needs::Purpose;
use crate::{nix, parity, stubs, tidy, workspace};

/// How long one example may take, image building included.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// One step of `cargo xtask test`.
#[derive(Debug)]
pub(super) struct Step {
    /// What it is called on the command line and in the summary.
    pub(super) name: &'static str,
    /// What it checks.
    pub(super) about: &'static str,
    /// What must be installed for it.
    pub(super) purposes: &'static [Purpose],
    /// Steps that must have passed.
    pub(super) after: &'static [&'static str],
    /// Does it.
    pub(super) body: fn(&mut Context<'_>) -> anyhow::Result<()>,
}

/// All steps.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "sources are formatted",
        purposes: &[Purpose::Build],
        after: &[],
        body: fmt,
    },
    Step {
        name: "tidy",
        about: "the rules of the source tree",
        purposes: &[Purpose::Build],
        after: &[],
        body: tidy,
    },
    Step {
        name: "nix",
        about: "the flake evaluates",
        purposes: &[Purpose::Nix],
        after: &[],
        body: nix::check,
    },
    Step {
        name: "stubs",
        about: "the Python stubs, by mypy and ty",
        purposes: &[Purpose::Stubs],
        after: &[],
        body: stubs::check,
    },
    Step {
        name: "clippy",
        about: "lints of every target",
        purposes: &[Purpose::Build],
        after: &[],
        body: clippy,
    },
    Step {
        name: "doc",
        about: "documentation builds and its links hold",
        purposes: &[Purpose::Build],
        after: &[],
        body: doc,
    },
    Step {
        name: "fuzz",
        about: "the fuzz targets compile",
        purposes: &[Purpose::Build],
        after: &[],
        body: fuzz,
    },
    Step {
        name: "build",
        about: "the program, all tests and the agent compile",
        purposes: &[Purpose::Build],
        after: &[],
        body: build,
    },
    Step {
        name: "parity",
        about: "scripts find what the NixOS driver has, or are told what it waits for",
        purposes: &[Purpose::Build],
        after: &["build"],
        body: parity::check,
    },
    Step {
        name: "test",
        about: "unit, property and integration tests, with real QEMU",
        purposes: &[Purpose::Build, Purpose::Guests, Purpose::Peers],
        after: &["build"],
        body: test,
    },
    Step {
        name: "doctest",
        about: "examples in the documentation",
        purposes: &[Purpose::Build],
        after: &["build"],
        body: doctest,
    },
    Step {
        name: "bench",
        about: "every benchmark runs once",
        purposes: &[Purpose::Build, Purpose::Guests, Purpose::Peers],
        after: &["build"],
        body: bench,
    },
    Step {
        name: "examples",
        about: "every test file in examples/",
        purposes: &[Purpose::Build, Purpose::Guests],
        after: &["build"],
        body: examples,
    },
];

fn cargo(arguments: &[&str]) -> Job {
    Job::new(workspace::cargo()).args(arguments)
}

fn fmt(context: &mut Context<'_>) -> anyhow::Result<()> {
    let check = ["--", "--color", "never"];
    context.run("", cargo(&["fmt", "--all", "--check"]).args(check))?;
    let fuzz = cargo(&["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"]);
    context.run("fuzz", fuzz.args(check))?;
    Ok(())
}

fn tidy(context: &mut Context<'_>) -> anyhow::Result<()> {
    let findings = tidy::findings(context.workspace, context.runner)?;
    match findings.as_slice() {
        [] => context.tally.pass(),
        findings => context.tally.fail("tidy", &findings.join("\n")),
    }
    Ok(())
}

fn clippy(context: &mut Context<'_>) -> anyhow::Result<()> {
    context.run(
        "",
        cargo(&[
            "clippy",
            "--workspace",
            "--all-features",
            "--all-targets",
            "--keep-going",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    Ok(())
}

fn doc(context: &mut Context<'_>) -> anyhow::Result<()> {
    let job = cargo(&[
        "doc",
        "--workspace",
        "--all-features",
        "--no-deps",
        "--keep-going",
    ])
    .env("RUSTDOCFLAGS", "-D warnings");
    context.run("", job)?;
    Ok(())
}

fn fuzz(context: &mut Context<'_>) -> anyhow::Result<()> {
    let manifest = context.workspace.root().join("fuzz/Cargo.toml");
    let job = cargo(&["check", "--manifest-path"])
        .args([&manifest])
        // A folder of its own below target/: its dependencies are locked apart from the workspace's.
        .env("CARGO_TARGET_DIR", context.workspace.target().join("fuzz"))
        // Nothing is linked, so any file will do for libFuzzer; without one it is compiled, which takes a C++ compiler.
        .env("CUSTOM_LIBFUZZER_PATH", manifest);
    context.run("", job)?;
    Ok(())
}

/// The program as a user builds it, and the tests.
fn build(context: &mut Context<'_>) -> anyhow::Result<()> {
    if context.run("hotbed", cargo(&["build", "--package", "hotbed-cli"]))? {
        context.run(
            "tests",
            cargo(&["test", "--workspace", "--all-features", "--no-run"]),
        )?;
        agent(context)?;
    }
    Ok(())
}

/// The program that runs in guests. A machine that cannot build it is no failure: Hotbed works without.
fn agent(context: &mut Context<'_>) -> anyhow::Result<()> {
    let target = Target::choose(context.runner, context.install)?;
    if target == Target::Musl {
        if context.run("agent", target.job(context.workspace))? {
            target.install(context.workspace)?;
        }
        return Ok(());
    }
    let before = context.tally.clone();
    if context.run("agent", target.job(context.workspace))? {
        target.install(context.workspace)?;
    } else {
        context.tally = before;
        let reason =
            "no Rust target for static programs: rustup target add x86_64-unknown-linux-musl";
        let said = agent::without(reason);
        println!("{said}");
        context.tally.skipped.push(said);
    }
    Ok(())
}

/// One test binary after the other, as cargo does it: several boot guests, and those share the cores.
fn test(context: &mut Context<'_>) -> anyhow::Result<()> {
    let job = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--tests",
    ]);
    // The output of tests that pass too: it says what they skipped.
    context.run("", job.args(["--", "--show-output"]))?;
    Ok(())
}

fn doctest(context: &mut Context<'_>) -> anyhow::Result<()> {
    context.run(
        "",
        cargo(&[
            "test",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
            "--doc",
        ]),
    )?;
    Ok(())
}

/// Each benchmark once, unoptimised: it runs, and its checks of its own results hold.
fn bench(context: &mut Context<'_>) -> anyhow::Result<()> {
    let job = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--bench",
        "*",
    ]);
    context.run("", job)?;
    Ok(())
}

/// Each file is a test; a new one needs no entry anywhere.
fn examples(context: &mut Context<'_>) -> anyhow::Result<()> {
    let files = stubs::python_files(&context.workspace.root().join("examples"))?;
    ensure!(!files.is_empty(), "examples/ holds no test");
    for file in files {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let job = Job::new(context.workspace.hotbed())
            .args(["run".as_ref(), file.as_os_str()])
            .limit(EXAMPLE_LIMIT);
        context.run(&name, job)?;
    }
    Ok(())
}
