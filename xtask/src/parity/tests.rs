use super::{Row, finding, parse};
use crate::parity::uses::Sources;

#[test]
fn rows_have_their_section_and_say_why_they_wait() {
    let rows = parse("# about\n[3.9 VLANs]\nVLan.nr\n\nVLan.tap_name  not yet: containers\n");
    let row = |symbol, waits_for| Row {
        section: "3.9 VLANs",
        symbol,
        waits_for,
    };
    assert_eq!(
        rows,
        [
            row("VLan.nr", None),
            row("VLan.tap_name", Some("containers"))
        ]
    );
}

#[test]
fn a_row_is_there_and_tested_or_waits() {
    let row = |waits_for| Row {
        section: "1",
        symbol: "x",
        waits_for,
    };
    let says = |waits_for, signature, test| finding(&row(waits_for), signature, test);
    assert_eq!(says(None, Some("()"), Some("a_test")), None);
    assert_eq!(says(Some("rain"), None, None), None);
    assert_eq!(
        says(None, None, Some("a_test")).unwrap(),
        "x (1) is missing"
    );
    assert_eq!(says(None, Some("()"), None).unwrap(), "x (1) has no test");
    let waits = says(Some("rain"), Some("()"), Some("a_test")).unwrap();
    assert!(waits.ends_with("still marked as waiting"), "{waits}");
}

#[test]
fn a_test_names_a_symbol_as_a_word_of_its_own() {
    let mut sources = Sources::default();
    sources.add_tests("use x;\n#[test]\nfn one() { m.send_keys(); }\n#[test]\nfn two() { \"\\nretry(x)\\n\\\n m.send_key('a')\" }");
    assert_eq!(sources.test_of("Machine.send_key").as_deref(), Some("two"));
    assert_eq!(sources.test_of("retry").as_deref(), Some("two"));
    assert_eq!(sources.test_of("send_key"), None);
    assert_eq!(sources.test_of("Machine.retry"), None);
}
