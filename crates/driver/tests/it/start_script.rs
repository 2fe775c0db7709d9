//! The micro image behind a start script.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hotbed_driver::config::network;
use hotbed_image::{Cache, Identity, Interface, LogConsole, Silent, Spec};

/// Writes `run-NAME-vm` as nixpkgs makes them: QEMU with these options, and a guest with one card on VLAN 1.
pub(crate) fn write_start_script(
    directory: &Path,
    name: &str,
    number: u8,
    hosts: Vec<(IpAddr, Vec<String>)>,
    options: &str,
) -> PathBuf {
    let image = hotbed_image::build(&Cache::open().unwrap(), &Spec::Micro, &Silent).unwrap();
    let identity = Identity {
        hostname: name.to_owned(),
        interfaces: vec![Interface {
            name: "eth1".to_owned(),
            mac: network::mac(1, number),
            ipv4: (network::ipv4(1, number), 24),
            ipv6: (network::ipv6(1, number), 64),
        }],
        hosts,
    };
    let initrd = directory.join(format!("{name}.initrd"));
    image.write_initrd(&identity, &initrd).unwrap();
    let path = directory.join(format!("run-{name}-vm"));
    let text = format!(
        r#"#!/bin/sh
set -e
exec qemu-system-x86_64 -name {name} -smp 1 {options} \
    -kernel {kernel} -initrd {initrd} -append "{append} $QEMU_KERNEL_PARAMS" \
    $QEMU_OPTS \
    "$@"
"#,
        kernel = image.kernel.display(),
        initrd = initrd.display(),
        append = image.command_line(LogConsole::Uart),
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
