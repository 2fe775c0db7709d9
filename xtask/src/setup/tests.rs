use std::path::Path;

use super::apt::Plan;
use super::host::{Only, Release, is_static_elf};
use super::*;

/// A made-up machine on which nothing is installed.
fn bare(folder: &Path, family: Family, root: bool) -> Host {
    std::fs::create_dir_all(folder.join("usr/bin")).unwrap();
    Host::made_up(family, root, folder)
}

fn put(folder: &Path, path: &str, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, bytes).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The smallest program header table: one entry of a type.
fn elf(kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64; // The table is behind the header,
    bytes[54] = 56; // an entry has 56 bytes,
    bytes[56] = 1; // and there is one.
    bytes[64] = kind;
    bytes
}

#[test]
fn bare_machine_lacks_everything_that_the_purposes_need_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let host = bare(folder.path(), Family::Debian, true);
    assert_eq!(packages(&missing(&host, &[Purpose::Nix])), ["nix-bin"]);
    let guests = packages(&missing(&host, &[Purpose::Guests]));
    assert_eq!(
        guests,
        [
            "qemu-system-x86",
            "busybox-static",
            "bash-static",
            "mmdebstrap",
            "erofs-utils"
        ]
    );
}

#[test]
fn two_programs_of_one_package_name_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = bare(folder.path(), Family::Debian, true);
    assert_eq!(
        packages(&missing(&host, &[Purpose::Peers])),
        [
            "vde2",
            "dpdk-dev",
            "tesseract-ocr",
            "dpkg",
            "iproute2",
            "procps",
            "user-mode-linux"
        ]
    );
}

#[test]
fn ubuntu_needs_debian_keys_and_a_user_needs_uidmap() {
    let folder = tempfile::tempdir().unwrap();
    let ubuntu = packages(&missing(
        &bare(folder.path(), Family::Relative, false),
        &[Purpose::Guests],
    ));
    assert!(ubuntu.contains(&"debian-archive-keyring") && ubuntu.contains(&"uidmap"));
}

#[test]
fn program_that_came_from_elsewhere_counts() {
    let folder = tempfile::tempdir().unwrap();
    let host = bare(folder.path(), Family::Debian, true);
    put(folder.path(), "usr/bin/nix-instantiate", b"#!/bin/sh\n");
    assert!(missing(&host, &[Purpose::Nix]).is_empty());
}

#[test]
fn dynamic_busybox_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let host = bare(folder.path(), Family::Debian, true);
    let lacks =
        |host: &Host| packages(&missing(host, &[Purpose::Guests])).contains(&"busybox-static");
    put(folder.path(), "usr/bin/busybox", &elf(3));
    assert!(lacks(&host));
    put(folder.path(), "usr/bin/busybox", &elf(1));
    assert!(!lacks(&host));
}

#[test]
fn cut_off_program_is_not_taken_for_a_static_one() {
    let whole = elf(1);
    assert!(is_static_elf(&whole));
    for len in 0..65 {
        assert!(!is_static_elf(&whole[..len]), "{len}");
    }
}

#[test]
fn library_of_another_python_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let host = bare(folder.path(), Family::Debian, true);
    std::os::unix::fs::symlink("python3.11", folder.path().join("usr/bin/python3")).unwrap();
    put(folder.path(), "usr/bin/python3.11", b"");
    put(
        folder.path(),
        "usr/lib/x86_64-linux-gnu/libpython3.12.so",
        b"",
    );
    let lacks = |host: &Host| packages(&missing(host, &[Purpose::Build])).contains(&"python3-dev");
    assert!(lacks(&host));
    put(
        folder.path(),
        "usr/lib/x86_64-linux-gnu/libpython3.11.so",
        b"",
    );
    assert!(!lacks(&host));
}

#[test]
fn systems_are_told_apart() {
    let family = |text: &str| Release::parse(text).family;
    assert_eq!(
        family("PRETTY_NAME=\"Debian GNU/Linux 13\"\nID=debian\n"),
        Family::Debian
    );
    assert_eq!(family("ID=ubuntu\nID_LIKE=debian\n"), Family::Relative);
    assert_eq!(
        family("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"),
        Family::Relative
    );
    assert_eq!(family("ID=fedora\n"), Family::Other);
    assert_eq!(
        Release::parse("PRETTY_NAME=\"Debian GNU/Linux 13\"\n").name,
        "Debian GNU/Linux 13"
    );
    assert_eq!(Release::parse("").name, "an unknown system");
}

#[test]
fn plan_names_what_apt_installs_and_removes() {
    let plan = Plan::parse(
        "NOTE: This is only a simulation!\nRemv qemu-utils [1:10.0.2]\nInst seabios (1.16.2-1 Debian:12 [all])\n\
         Inst qemu-system-x86 (1:7.2 Debian:12 [amd64])\nConf seabios (1.16.2-1 Debian:12 [all])\n",
    );
    assert_eq!(plan.installs, ["seabios", "qemu-system-x86"]);
    assert_eq!(plan.removals, ["qemu-utils"]);
}

#[test]
fn every_need_has_a_package_and_a_reason() {
    for need in needs::TABLE {
        assert!(
            !need.package.is_empty() && !need.reason.is_empty(),
            "{need:?}"
        );
        assert!(
            need.package
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte)),
            "{need:?}"
        );
        assert!(matches!(
            need.only,
            Only::Everywhere | Only::NotRoot | Only::NotDebian | Only::Debian
        ));
    }
}
