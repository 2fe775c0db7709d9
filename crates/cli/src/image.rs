//! `hotbed image`, and the images that a test needs before it runs.

use std::path::Path;

use anstream::{eprintln, println};
use hotbed_driver::config::MachineKind;
use hotbed_driver::{Call, Error, TestConfig, Testbed};
use hotbed_image::cache::Tree;
use hotbed_image::{Cache, Spec};
use hotbed_python::{Interpreter, Signals};
use owo_colors::OwoColorize;

use crate::arguments::ImageCommand;
use crate::cache::ago;
use crate::progress;
use crate::report::{self, Exit};

/// How much of a digest is shown.
const DIGEST_SHOWN: usize = 12;

/// Builds or finds the images of all machines of a test, so that booting does not have to. When that fails, the testbed is
/// stopped and it is said why.
pub(crate) fn prepare(testbed: &Testbed, _interpreter: &Interpreter) -> Result<(), Exit> {
    before_script(testbed, |call| {
        progress::show(|progress| testbed.prepare_images(progress, call))
    })
}

/// Does what comes before the script. When that fails, the testbed is stopped and it is said why.
pub(crate) fn before_script(
    testbed: &Testbed,
    act: impl FnOnce(&Call<'_>) -> Result<(), Error>,
) -> Result<(), Exit> {
    let signals = Signals::default();
    let call = Call {
        until: None,
        interrupt: &signals,
    };
    act(&call).map_err(|error| {
        testbed.stop(); // The last line is the verdict.
        if let Some(signal) = signals.signal() {
            eprintln!("{} by {}", "interrupted".yellow().bold(), signal.name());
            return Exit::Signal(signal);
        }
        report::error(&error);
        exit_of(&error)
    })
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Image {
            source: hotbed_image::Error::InvalidSpec(_),
            ..
        }
        | Error::Argument(_) => Exit::Usage,
        _ => Exit::HostFailed,
    }
}

/// Runs `hotbed image …`.
pub(crate) fn run(command: &ImageCommand) -> Exit {
    match command {
        ImageCommand::Build { what, out } => build(what, out.as_deref()),
        ImageCommand::List => list(),
    }
}

fn build(what: &Path, out: Option<&Path>) -> Exit {
    let specs = match what.to_str() {
        Some("micro") => vec![Spec::Micro],
        Some("debian") => vec![Spec::Debian(hotbed_image::DebianSpec::default())],
        _ => match specs_of_test(what) {
            Ok(specs) => specs,
            Err(exit) => return exit,
        },
    };
    let result = Cache::open().and_then(|cache| {
        specs
            .iter()
            .map(|spec| progress::show(|progress| hotbed_image::build(&cache, spec, progress)))
            .collect::<Result<Vec<_>, _>>()
    });
    let result = result.and_then(|images| {
        let Some(out) = out else { return Ok(images) };
        let tree = Tree::at(out)?;
        for (spec, image) in specs.iter().zip(&images) {
            progress::show(|progress| tree.put_image(spec, image, progress))?;
        }
        tree.finish()?;
        Ok(images)
    });
    match result {
        Ok(images) => {
            for image in images {
                println!("{}", image.digest);
            }
            Exit::Success
        }
        Err(error) => {
            report::error(&error);
            match error {
                hotbed_image::Error::InvalidSpec(_) => Exit::Usage,
                _ => Exit::HostFailed,
            }
        }
    }
}

/// The images that the machines of a test file need, each once.
fn specs_of_test(path: &Path) -> Result<Vec<Spec>, Exit> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        report::problem(format_args!(
            "{}: neither an image (micro, debian) nor a test file that can be read: {error}",
            path.display()
        ));
        Exit::Usage
    })?;
    let config = TestConfig::from_python_file(path, &text).map_err(|error| {
        report::error(&error);
        Exit::Usage
    })?;
    let mut specs = Vec::new();
    for machine in &config.machines {
        if let MachineKind::Image(image) = &machine.kind {
            let spec = image.spec();
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

/// Lists what the cache holds: kind, digest, size, age.
fn list() -> Exit {
    let listed = Cache::open().and_then(|cache| Ok((cache.list()?, cache)));
    let (entries, cache) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            report::error(&error);
            return Exit::HostFailed;
        }
    };
    for entry in &entries {
        let digest: String = entry.key.chars().take(DIGEST_SHOWN).collect();
        println!(
            "{:<8} {digest} {:>6} MiB  {}",
            entry.kind,
            entry.bytes >> 20,
            ago(entry.built)
        );
    }
    println!(
        "{} entries, {} MiB in {}",
        entries.len(),
        entries.iter().map(|entry| entry.bytes).sum::<u64>() >> 20,
        cache.root().display()
    );
    Exit::Success
}
