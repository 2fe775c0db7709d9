//! Which kernel modules must be loaded, and in which order.
//!
//! Packages do not ship `modules.dep` (depmod writes it when they are installed), so the dependencies are read where
//! depmod reads them: in the `depends=` field of each module.

use std::collections::{BTreeMap, BTreeSet};

/// A module that a kernel has as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// The name with underscores, as the kernel lists it.
    pub(crate) name: String,
    /// The names of the modules that it needs.
    pub(crate) needs: Vec<String>,
    /// The file, uncompressed.
    pub(crate) content: Vec<u8>,
}

/// Gives the file of a module, or `None` when the kernel has none of that name.
pub(crate) type Load<'a> = &'a mut dyn FnMut(&str) -> Result<Option<Vec<u8>>, String>;

/// Finds the `wanted` modules and all that they need, each after what it needs.
///
/// What is in `built_in` needs no file.
///
/// # Errors
///
/// Names a module that is missing, or that needs itself.
pub(crate) fn resolve(
    wanted: &[&str],
    built_in: &BTreeSet<String>,
    load: Load<'_>,
) -> Result<Vec<Module>, String> {
    let mut order = Vec::new();
    let mut states = BTreeMap::new();
    for name in wanted {
        visit(name, built_in, load, &mut states, &mut order)?;
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

fn visit(
    name: &str,
    built_in: &BTreeSet<String>,
    load: Load<'_>,
    states: &mut BTreeMap<String, State>,
    order: &mut Vec<Module>,
) -> Result<(), String> {
    match states.get(name) {
        Some(State::Done) => return Ok(()),
        Some(State::Open) => return Err(format!("the module {name} needs itself")),
        None => {}
    }
    let Some(content) = load(name)? else {
        return if built_in.contains(name) {
            Ok(())
        } else {
            Err(format!("the kernel has no module {name}"))
        };
    };
    states.insert(name.to_owned(), State::Open);
    let needs = needs(&content);
    for need in &needs {
        visit(need, built_in, load, states, order)?;
    }
    states.insert(name.to_owned(), State::Done);
    order.push(Module {
        name: name.to_owned(),
        needs,
        content,
    });
    Ok(())
}

/// Reads the `depends=` field of a module: names with commas between them.
fn needs(content: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(start) = content
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = content[start + FIELD.len()..]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect()
}

/// A module's name from the name of its file: `virtio-rng.ko.xz` is `virtio_rng`.
pub(crate) fn canonical(file: &str) -> String {
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The `wanted` ones of `all`, and all that they need, in the order of loading.
pub(crate) fn with_needs(wanted: &[&str], all: &[Module]) -> Vec<Module> {
    let mut names: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut kept = Vec::new();
    // What a module needs comes before it in `all`: read from the end, every need is known before its turn.
    for module in all.iter().rev().cloned() {
        if names.contains(module.name.as_str()) {
            let found = all.iter().find(|known| known.name == module.name);
            names.extend(
                found
                    .iter()
                    .flat_map(|found| found.needs.iter().map(String::as_str)),
            );
            kept.push(module);
        }
    }
    kept.reverse();
    kept
}

/// The `modules.dep` of these modules when each lies beside it as `<name>.ko`.
pub(crate) fn dep_file(modules: &[Module]) -> String {
    let by_name: BTreeMap<&str, &Module> = modules
        .iter()
        .map(|module| (module.name.as_str(), module))
        .collect();
    let mut text = String::new();
    for module in modules {
        let mut all = Vec::new();
        collect(module, &by_name, &mut all);
        let needs: String = all.iter().map(|name| format!(" {name}.ko")).collect();
        text.push_str(&format!("{}.ko:{needs}\n", module.name));
    }
    text
}

/// All that a module needs, nearest first, as depmod lists it: modprobe loads from the end.
fn collect<'a>(module: &'a Module, by_name: &BTreeMap<&str, &'a Module>, all: &mut Vec<&'a str>) {
    for need in module
        .needs
        .iter()
        .filter_map(|need| by_name.get(need.as_str()))
    {
        // What is needed twice must come last, so that it is loaded first.
        all.retain(|&known| known != need.name);
        all.push(&need.name);
        collect(need, by_name, all);
    }
}

#[cfg(test)]
mod tests;
