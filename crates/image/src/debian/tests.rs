//! What goes into the key, and what is passed to the shell.

use std::collections::BTreeMap;

use super::files::{quote, spec_script};
use super::*;
use crate::FileSpec;

fn spec() -> DebianSpec {
    let motd = FileSpec {
        content: "it's\n".to_owned(),
        mode: 0o644,
    };
    DebianSpec {
        packages: vec!["curl".to_owned(), "nginx-light".to_owned()],
        files: BTreeMap::from([("/etc/motd".to_owned(), motd)]),
        run: vec!["useradd alice".to_owned(), "echo 'a b'".to_owned()],
    }
}

#[test]
fn every_input_changes_the_key() {
    let programs = Programs::find().unwrap();
    let key_of = |base: &str, change: &dyn Fn(&mut DebianSpec)| {
        let mut spec = spec();
        change(&mut spec);
        key(base, &programs, &spec).unwrap()
    };
    let original = key_of("base", &|_| {});
    let changes: [&dyn Fn(&mut DebianSpec); 8] = [
        &|spec| spec.packages.truncate(1),
        &|spec| spec.packages.push("vim-tiny".to_owned()),
        &|spec| spec.files.clear(),
        &|spec| spec.files.get_mut("/etc/motd").unwrap().mode = 0o600,
        &|spec| spec.files.get_mut("/etc/motd").unwrap().content.push('x'),
        &|spec| spec.run.truncate(1),
        &|spec| spec.run.reverse(),
        &|spec| spec.run[0].push('x'),
    ];
    let mut keys: Vec<String> = changes
        .iter()
        .map(|change| key_of("base", change))
        .collect();
    keys.push(key_of("another base", &|_| {}));
    keys.push(original);
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn the_order_of_packages_does_not_change_the_key() {
    let programs = Programs::find().unwrap();
    let mut other = spec();
    other.packages = ["nginx-light", "curl", "nginx-light"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        key("base", &programs, &spec()).unwrap(),
        key("base", &programs, &other).unwrap()
    );
}

#[test]
fn what_a_spec_holds_reaches_the_shell_as_it_is() {
    let script = spec_script(&spec());
    assert!(
        script.contains("printf %s 'it'\\''s\n' >\"$path\"\nchmod 0644 \"$path\"\n"),
        "{script}"
    );
    assert!(
        script.contains("bash -e -c 'echo '\\''a b'\\''' </dev/null\n"),
        "{script}"
    );
    assert_eq!(quote("$(id) `id` \\"), "'$(id) `id` \\'");
}
