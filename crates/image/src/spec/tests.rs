//! What is refused before anything is built.

use super::*;

fn refusal(spec: DebianSpec) -> String {
    Spec::Debian(spec).check().unwrap_err().to_string()
}

fn with_file(path: &str, content: &str, mode: u32) -> DebianSpec {
    let file = FileSpec {
        content: content.to_owned(),
        mode,
    };
    DebianSpec {
        files: BTreeMap::from([(path.to_owned(), file)]),
        ..DebianSpec::default()
    }
}

#[test]
fn names_that_apt_would_take_for_something_else_are_refused() {
    for name in ["", "-y", "curl-", "a b", "a;b", "$(id)", "../x.deb", "ä"] {
        let packages = vec!["curl".to_owned(), name.to_owned()];
        assert!(
            refusal(DebianSpec {
                packages,
                ..DebianSpec::default()
            })
            .contains("name of a package"),
            "{name:?}"
        );
    }
    let packages = [
        "g++",
        "nginx-light",
        "libc6:amd64",
        "python3.11",
        "curl=7.88.1-10+deb12u15",
    ];
    let packages = packages.map(str::to_owned).to_vec();
    Spec::Debian(DebianSpec {
        packages,
        ..DebianSpec::default()
    })
    .check()
    .unwrap();
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in [
        "",
        "etc/motd",
        "/",
        "/etc/",
        "//etc/motd",
        "/etc/../root",
        "/a\0b",
        "/a\nb",
    ] {
        assert!(
            refusal(with_file(path, "x", 0o644)).contains("absolute path"),
            "{path:?}"
        );
    }
    assert!(refusal(with_file("/etc/motd", "x", 0o10644)).contains("mode"));
    assert!(refusal(with_file("/etc/motd", "a\0b", 0o644)).contains("zero byte"));
    Spec::Debian(with_file("/etc/it's a $(file)", "x", 0o4755))
        .check()
        .unwrap();
}

#[test]
fn commands_that_cannot_be_passed_on_are_refused() {
    for command in ["a\0b".to_owned(), "x".repeat(COMMAND_MAX + 1)] {
        assert!(
            refusal(DebianSpec {
                run: vec![command],
                ..DebianSpec::default()
            })
            .contains("command")
        );
    }
}
