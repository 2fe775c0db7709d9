//! What a build does when it is repeated, and when it cannot succeed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use hotbed_image::{Cache, DebianSpec, Error, Progress, Silent, Spec, build};

/// Keeps the steps.
#[derive(Default)]
struct Steps(Mutex<Vec<String>>);

impl Progress for Steps {
    fn step(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }

    fn line(&self, _text: &str) {}
}

#[test]
fn a_second_build_does_nothing() {
    let cache = Cache::open().unwrap();
    let first = build(&cache, &Spec::Micro, &Silent).unwrap();
    let steps = Steps::default();
    let start = Instant::now();
    let second = build(&cache, &Spec::Micro, &steps).unwrap();
    println!("a build that finds its image takes {:.1?}", start.elapsed());
    assert_eq!(first, second);
    assert_eq!(*steps.0.lock().unwrap(), [] as [&str; 0]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_package_that_does_not_exist_is_named_and_leaves_no_entry() {
    let cache = Cache::open().unwrap();
    let packages = vec!["no-such-package-anywhere".to_owned()];
    let spec = Spec::Debian(DebianSpec {
        packages,
        ..DebianSpec::default()
    });
    let error = build(&cache, &spec, &Silent).unwrap_err();
    let Error::Tool { last_words, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        last_words
            .iter()
            .any(|line| line.contains("no-such-package-anywhere")),
        "{error}"
    );
    assert!(
        error.to_string().contains("is the package's name right"),
        "{error}"
    );
}

#[test]
fn an_interrupted_build_ends_at_once_and_leaves_nothing() {
    struct Interrupted;
    impl Progress for Interrupted {
        fn step(&self, _message: &str) {}
        fn line(&self, _text: &str) {}
        fn is_interrupted(&self) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    assert!(matches!(
        build(&cache, &Spec::Micro, &Interrupted),
        Err(Error::Interrupted)
    ));
    for name in ["entries", "tmp", "pins"] {
        assert_eq!(
            std::fs::read_dir(folder.path().join(name)).unwrap().count(),
            0,
            "{name}"
        );
    }
}
