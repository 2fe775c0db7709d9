//! The stubs say what the classes do, and nothing else.

use crate::{run, with_python};

#[test]
fn every_name_parameter_and_default_agrees_with_the_classes() {
    with_python(|py| {
        let stubs = concat!(env!("CARGO_MANIFEST_DIR"), "/stubs");
        let compare = include_str!("stubs_agree.py");
        run(py, &format!("{compare}\nmain({stubs:?})\n"));
    });
}

#[test]
fn the_stubs_are_marked_as_typed() {
    let marker = concat!(env!("CARGO_MANIFEST_DIR"), "/stubs/test_driver/py.typed");
    assert!(std::path::Path::new(marker).is_file());
}
