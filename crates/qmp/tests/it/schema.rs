//! What the wrappers send is what a real QEMU knows.

use hotbed_qmp::commands::{ARGUMENTS, QuerySchema};

use crate::support::{Qemu, late};

#[test]
fn every_command_and_argument_is_in_the_schema_of_a_real_qemu() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let schema = qemu.connect().call(&QuerySchema {}, late()).unwrap();
    assert!(ARGUMENTS.len() > 40);
    for (command, required, optional) in ARGUMENTS {
        assert!(schema.has_command(command), "QEMU has no command {command}");
        for argument in required.iter().chain(*optional) {
            assert!(
                schema.has_argument(command, argument),
                "{command} has no argument {argument}"
            );
        }
        for argument in schema.required_arguments(command) {
            assert!(
                required.contains(&argument),
                "{command} does not send {argument}, which it must"
            );
        }
    }
}

#[test]
fn arguments_within_arguments_are_in_the_schema_of_a_real_qemu() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let schema = qemu.connect().call(&QuerySchema {}, late()).unwrap();
    for (command, path) in [
        ("chardev-add", "backend.type"),
        ("chardev-add", "backend.data"),
        ("send-key", "keys.type"),
        ("send-key", "keys.data"),
        ("migrate-set-capabilities", "capabilities.capability"),
        ("migrate-set-capabilities", "capabilities.state"),
        ("object-add", "mem-path"),
        ("netdev_add", "addr.type"),
    ] {
        assert!(
            schema.has_argument(command, path),
            "{command} has no argument {path}"
        );
        assert!(!schema.has_argument(command, &format!("{path}-not")));
    }
    let has_value = |command, path, value: &str| {
        schema
            .values(command, path)
            .is_some_and(|values| values.iter().any(|known| known == value))
    };
    assert!(has_value(
        "migrate-set-capabilities",
        "capabilities.capability",
        "x-ignore-shared"
    ));
    assert!(
        has_value("send-key", "keys.type", "qcode") && has_value("send-key", "keys.type", "number")
    );
    assert!(has_value("send-key", "keys.data", "ret"));
    assert!(has_value("set-action", "shutdown", "pause"));
    assert!(!has_value("set-action", "shutdown", "dance"));
    assert_eq!(schema.values("set_link", "up"), None);
}

#[test]
fn schema_tells_what_a_qemu_does_not_know() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let schema = qemu.connect().call(&QuerySchema {}, late()).unwrap();
    assert!(
        !schema.has_command("set-link") && !schema.has_command("STOP") && schema.has_event("STOP")
    );
    assert!(
        !schema.has_event("stop")
            && !schema.has_argument("stop", "a")
            && !schema.has_argument("no", "a")
    );
    assert!(schema.is_out_of_band("yank") && !schema.is_out_of_band("stop"));
    assert_eq!(schema.required_arguments("set_link"), ["name", "up"]);
}
