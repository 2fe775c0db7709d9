//! The pure parts of machines: command lines, keys, quoting, scripts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hotbed_image::LogConsole;
use proptest::prelude::*;

use super::command_line::{Accelerator, Parts, Sockets, image_machine, start_script};
use super::keys::key_name;
use super::quoting::{python_bytes, python_text, quote};
use super::units::{full_name, systemctl, wait_for_unit_script};
use crate::config::{ImageKind, ImageMachine, Net};

fn machine() -> ImageMachine {
    ImageMachine {
        image: ImageKind::Micro,
        packages: Vec::new(),
        files: std::collections::BTreeMap::new(),
        run: Vec::new(),
        memory: None,
        cpus: 2,
        kernel: None,
        qemu_args: vec!["-device".to_owned(), "x y".to_owned()],
        log: LogConsole::Virtio,
        hot: None,
        net: Net::Stream,
    }
}

/// QEMU's arguments for a machine in `/t`, all but those of its image, as one line.
fn arguments(machine: &ImageMachine, directory: &str, allow_reboot: bool) -> String {
    arguments_with(machine, directory, allow_reboot, false)
}

fn arguments_with(
    machine: &ImageMachine,
    directory: &str,
    allow_reboot: bool,
    agent: bool,
) -> String {
    let parts = Parts {
        name: "alice",
        number: 7,
        vlans: &[
            (1, PathBuf::from("/t/vlan1")),
            (200, PathBuf::from("/t/a,b")),
        ],
        accelerator: Accelerator::Tcg,
        sockets: &Sockets::in_directory(Path::new(directory)),
        allow_reboot,
        agent,
    };
    let line = image_machine(machine, &parts, &["-kernel".into(), "k".into()]);
    let words: Vec<&str> = line.iter().filter_map(|word| OsStr::to_str(word)).collect();
    words.join(" ")
}

#[test]
fn image_machines_have_the_consoles_and_cards_that_guests_expect() {
    assert_eq!(
        arguments(&machine(), "/t", false),
        "-name alice -nodefaults -no-user-config -display none -M q35,suppress-vmdesc=on -global migration.send-configuration=off -accel tcg,thread=multi -cpu max,-erms,-fsrm -m 256 -smp 2 -kernel k \
         -qmp unix:/t/qmp,server=on,wait=off -monitor unix:/t/monitor -chardev socket,id=shell,path=/t/shell \
         -chardev stdio,id=log,signal=off -device virtio-serial-pci,max_ports=2 -device virtconsole,chardev=shell \
         -device virtconsole,chardev=log -device virtio-rng-pci -device vmgenid,guid=auto \
         -netdev stream,id=vlan1,server=off,addr.type=unix,addr.path=/t/vlan1 \
         -device virtio-net-pci,id=virtio-net-pci.1,netdev=vlan1,mac=52:54:00:12:01:07,romfile=,guest_announce=off \
         -netdev stream,id=vlan2,server=off,addr.type=unix,addr.path=/t/a,,b \
         -device virtio-net-pci,id=virtio-net-pci.2,netdev=vlan2,mac=52:54:00:12:C8:07,romfile=,guest_announce=off \
         -no-reboot -device x y"
    );
}

#[test]
fn a_card_that_shares_memory_has_no_msix_where_qemu_translates() {
    let sharing = ImageMachine {
        net: Net::VhostUser,
        ..machine()
    };
    let line = arguments(&sharing, "/t", false);
    assert!(
        line.contains(
            "-chardev socket,id=vlan2,path=/t/a,,b -netdev vhost-user,id=vlan2,chardev=vlan2 \
             -device virtio-net-pci,id=virtio-net-pci.2,netdev=vlan2,mac=52:54:00:12:C8:07,romfile=,guest_announce=off,vectors=0 "
        ),
        "{line}"
    );
}

#[test]
fn options_of_a_machine_reach_qemu() {
    let uart = ImageMachine {
        log: LogConsole::Uart,
        memory: Some(3000),
        ..machine()
    };
    let line = arguments(&uart, "/a,b", true);
    for part in [
        "-m 3000 ",
        "-serial chardev:log ",
        "-monitor unix:/a,,b/monitor ",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(
        !line.contains("-no-reboot") && !line.contains("virtconsole,chardev=log"),
        "{line}"
    );
    let debian = ImageMachine {
        image: ImageKind::Debian,
        ..machine()
    };
    assert!(arguments(&debian, "/t", true).contains("-m 1024 "));
}

#[test]
fn start_scripts_get_the_flags_of_the_nixos_driver() {
    let sockets = Sockets::in_directory(Path::new("/tmp/vm-state-a"));
    assert_eq!(
        start_script("/nix/run-a-vm", &sockets, false, false, false),
        "/nix/run-a-vm -qmp unix:/tmp/vm-state-a/qmp,server=on,wait=off -monitor unix:/tmp/vm-state-a/monitor \
         -chardev socket,id=shell,path=/tmp/vm-state-a/shell -device virtio-serial -device virtconsole,chardev=shell \
         -device virtio-rng-pci -serial stdio -no-reboot -nographic"
    );
    assert!(start_script("x", &sockets, true, true, false).ends_with("-serial stdio"));
    let spaced = Sockets::in_directory(Path::new("/tmp/a b"));
    assert!(
        start_script("x", &spaced, true, true, false).contains("-monitor unix:'/tmp/a b/monitor'")
    );
}

#[test]
fn agents_port_comes_after_the_consoles_on_their_bus() {
    let sockets = Sockets::in_directory(Path::new("/tmp/vm-state-a"));
    assert!(start_script("x", &sockets, true, true, true).ends_with(
        "-device virtio-serial -device virtconsole,chardev=shell -device virtio-rng-pci -serial stdio \
         -chardev socket,id=agent,path=/tmp/vm-state-a/agent -device virtserialport,chardev=agent,name=org.hotbed.agent"
    ));
    let line = arguments_with(&machine(), "/t", true, true);
    assert!(
        line.contains(
            "-device virtio-serial-pci,max_ports=3 -device virtconsole,chardev=shell -device virtconsole,chardev=log \
             -chardev socket,id=agent,path=/t/agent -device virtserialport,chardev=agent,name=org.hotbed.agent "
        ),
        "{line}"
    );
    assert!(line.ends_with(" -device x y"), "{line}");
}

#[test]
fn characters_become_keys_of_a_us_keyboard() {
    for (key, name) in [
        ("a", "a"),
        ("7", "7"),
        ("Z", "shift-z"),
        (" ", "spc"),
        ("\n", "ret"),
        ("-", "0x0C"),
        ("_", "shift-0x0C"),
        ("!", "shift-0x02"),
        (")", "shift-0x0B"),
        ("\"", "shift-0x28"),
        ("|", "shift-0x2B"),
        ("?", "shift-0x35"),
        ("ctrl-alt-delete", "ctrl-alt-delete"),
        ("f2", "f2"),
        ("", ""),
    ] {
        assert_eq!(key_name(key), name, "{key:?}");
    }
}

#[test]
fn bytes_and_texts_are_shown_as_python_shows_them() {
    assert_eq!(
        python_bytes(b"Spawning\n\x00\xff'"),
        r#"b"Spawning\n\x00\xff'""#
    );
    assert_eq!(python_bytes(b"'\"\\"), r#"b'\'"\\'"#);
    assert_eq!(python_text("ctrl-alt-delete"), "'ctrl-alt-delete'");
    assert_eq!(python_text("it's\t\u{1}é"), "\"it's\\t\\x01é\"");
}

#[test]
fn names_of_units_are_completed_as_systemctl_does_it() {
    for (given, full) in [
        ("nginx", Some("nginx.service")),
        ("nginx.service", Some("nginx.service")),
        ("getty@tty1", Some("getty@tty1.service")),
        ("multi-user.target", Some("multi-user.target")),
        ("a.b", Some("a.b.service")),
        ("/mnt", None),
        ("ngin*", None),
        ("--help", None),
        ("", None),
    ] {
        assert_eq!(full_name(given).as_deref(), full, "{given}");
    }
}

#[test]
fn systemctl_of_a_user_goes_through_su() {
    assert_eq!(systemctl("start x", None), "systemctl start x");
    assert_eq!(
        systemctl("show 'x'", Some("alice")),
        r"su -l alice --shell /bin/sh -c $'XDG_RUNTIME_DIR=/run/user/`id -u` systemctl --user show \'x\''"
    );
    assert!(
        wait_for_unit_script("a b.service", "active", None)
            .contains("ActiveState -- 'a b.service')")
    );
}

proptest! {
    /// What the shell makes of a quoted word is the word.
    #[test]
    fn quoted_words_come_back(word in "[^\0]{0,40}") {
        prop_assert_eq!(unquote(&quote(&word)), word);
    }
}

/// A POSIX shell's reading of a word made of plain characters, `'…'` and `"…"`.
fn unquote(text: &str) -> String {
    let (mut word, mut quote) = (String::new(), None);
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => word.push(c),
        }
    }
    word
}
