//! What cannot be saved, and why.

use crate::config::ImageMachine;

/// Devices without a state outside of QEMU, which QEMU can save.
const DEVICES: [&str; 9] = [
    "virtio-rng-pci",
    "virtio-balloon-pci",
    "virtio-vga",
    "virtio-gpu-pci",
    "VGA",
    "virtio-keyboard-pci",
    "virtio-mouse-pci",
    "virtio-tablet-pci",
    "pvpanic-pci",
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
