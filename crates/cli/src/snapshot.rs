//! `hotbed snapshot`: snapshots as a tree of files, for runs in other places.

use anstream::eprintln;
use hotbed_driver::{Call, Error, Log, Options, TestConfig, Testbed};
use hotbed_image::Progress;
use hotbed_image::cache::Tree;

use crate::arguments::{SnapshotCommand, SnapshotOptions};
use crate::bench::{failed, read_config};
use crate::progress;
use crate::report::{self, Exit};
use crate::signals::Signals;

/// Runs `hotbed snapshot …`.
pub(crate) fn run(command: &SnapshotCommand) -> Exit {
    let SnapshotCommand::Build(options) = command;
    match build(options) {
        Ok(()) => Exit::Success,
        Err(exit) => exit,
    }
}

fn build(options: &SnapshotOptions) -> Result<(), Exit> {
    let config = read_config(Some(&options.file))?;
    let is_there = |name: &&String| config.machines.iter().any(|machine| machine.name == **name);
    if let Some(unknown) = options.machine.iter().find(|name| !is_there(name)) {
        report::problem(format_args!("the test has no machine `{unknown}`"));
        return Err(Exit::Usage);
    }
    let signals = Signals::watch()?;
    let call = Call {
        until: None,
        interrupt: &signals,
    };
    let tree = Tree::at(&options.out).map_err(|error| {
        report::error(&error);
        Exit::Usage
    })?;
    let built = progress::show(|progress| put_all(config, options, &tree, progress, &call));
    // What is there is whole, also when not everything is.
    let finished = tree.finish();
    let count = built.map_err(|error| failed(&error, &signals))?;
    finished.map_err(|error| {
        report::error(&error);
        Exit::HostFailed
    })?;
    let machines = if count == 1 { "machine" } else { "machines" };
    eprintln!(
        "snapshots of {count} {machines} are in {}",
        options.out.display()
    );
    Ok(())
}

/// Puts all machines into the tree that somebody wants; gives how many have snapshots there.
fn put_all(
    config: TestConfig,
    options: &SnapshotOptions,
    tree: &Tree,
    progress: &dyn Progress,
    call: &Call<'_>,
) -> Result<usize, Error> {
    let log = Log::to(Box::new(std::io::sink()), false);
    let how = Options {
        out_dir: Some(tree.scratch()),
        snapshots: options.snapshots.clone(),
        ..Options::default()
    };
    let testbed = Testbed::new(config, how, log.into())?;
    let wanted = |name: &str| {
        options.machine.is_empty() || options.machine.iter().any(|machine| machine == name)
    };
    let mut machines = testbed.machines().iter();
    let count = machines.try_fold(0, |count, machine| match wanted(machine.name()) {
        true => Ok(count + usize::from(machine.put_into(tree, progress, call)?)),
        false => Ok(count),
    });
    testbed.stop();
    count
}
