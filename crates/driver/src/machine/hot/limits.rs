//! What cannot be saved, and why.

use crate::config::ImageMachine;

/// Devices without a state outside of QEMU, which QEMU can save.
const DEVICES: [&str; 10] = [
    "virtio-rng-pci",
    "virtio-balloon-pci",
    "virtio-vga",
    "virtio-gpu-pci",
    "VGA",
    "virtio-keyboard-pci",
    "virtio-mouse-pci",
    "virtio-tablet-pci",
    "pvpanic-pci",
    "vmgenid",
];
/// Displays that QEMU can save.
const DISPLAYS: [&str; 3] = ["std", "virtio", "none"];

/// Why a machine cannot be saved; `None` when it can.
pub(super) fn why_not(machine: &ImageMachine) -> Option<String> {
    let mut arguments = machine.qemu_args.iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next().map_or("", String::as_str);
        let known = match argument.as_str() {
            "-device" => DEVICES.contains(&value.split(',').next().unwrap_or_default()),
            "-vga" => DISPLAYS.contains(&value),
            _ => false,
        };
        if !known {
            return Some(format!(
                "`qemu_args` has `{}`, of which it is not known whether it can be saved",
                format!("{argument} {value}").trim_end()
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestConfig;
    use crate::config::{Hot, MachineKind};

    fn machine(line: &str) -> ImageMachine {
        let text = format!("# /// hotbed\n# hot = true\n# [machines.m]\n# {line}\n# ///\n");
        let config = TestConfig::from_python_file(std::path::Path::new("t.py"), &text).unwrap();
        match &config.machines[0].kind {
            MachineKind::Image(machine) => (**machine).clone(),
            MachineKind::StartScript(script) => panic!("{script}"),
        }
    }

    #[test]
    fn only_devices_that_qemu_can_save_are_let_through() {
        let args = |words: &str| why_not(&machine(&format!("qemu_args = [{words}]")));
        assert_eq!(args(""), None);
        assert_eq!(
            args(r#""-device", "virtio-rng-pci,id=x", "-vga", "std""#),
            None
        );
        for words in [
            r#""-device", "vhost-user-fs-pci""#,
            r#""-drive", "file=/x""#,
            r#""-device""#,
            r#""-vga", "std", "-virtfs", "local""#,
        ] {
            assert!(args(words).is_some(), "{words}");
        }
    }

    #[test]
    fn a_machine_says_hot_for_itself_or_the_head_does_for_all() {
        assert_eq!(machine("memory = 64").hot, Some(Hot::Booted));
        assert_eq!(machine("hot = false").hot, Some(Hot::Never));
    }
}
