//! What a micro machine has and knows.

use hotbed_image::{Cache, LogConsole, Silent, Spec, build};

use crate::machine::{Machine, identity, qemu_is_missing};

#[test]
fn a_micro_machine_has_its_identity_and_the_shell_that_the_driver_needs() {
    if qemu_is_missing() {
        return;
    }
    let image = build(&Cache::open().unwrap(), &Spec::Micro, &Silent).unwrap();
    let mut identity = identity("client", 2, &[1, 7]);
    identity
        .hosts
        .push(("192.168.1.1".parse().unwrap(), vec!["server".to_owned()]));
    let mut machine = Machine::boot(&image, &identity, LogConsole::Virtio);

    assert_eq!(machine.succeed("hostname"), "client");
    assert!(
        machine
            .succeed("cat /etc/hosts")
            .contains("192.168.1.1 server")
    );
    let addresses = machine.succeed("ip addr");
    for expected in [
        "192.168.1.2/24",
        "2001:db8:1::2/64 scope global",
        "192.168.7.2/24",
        "2001:db8:7::2/64",
    ] {
        assert!(
            addresses.contains(expected),
            "{expected} is not in\n{addresses}"
        );
    }
    assert!(!addresses.contains("tentative"), "{addresses}");
    check_interfaces(&mut machine);
    // What the NixOS driver's wrapping calls, and what its probes do.
    assert_eq!(
        machine.succeed("timeout 5 bash -c 'set -euo pipefail; echo hi' | (base64 -w 0; echo)"),
        "aGkK"
    );
    assert_eq!(
        machine
            .run("timeout 1 sleep 5; (exit $?); x=$?; echo; (exit $x)")
            .1,
        124
    );
    assert_eq!(
        machine.succeed("nc -l -p 9 </dev/null & until nc -z localhost 9; do :; done; echo open"),
        "open"
    );
    assert_eq!(
        machine.succeed("pwd; echo $USER $HOME").replace('\n', " "),
        "/tmp root /root"
    );

    machine.succeed("echo said aloud >&2; echo '<4>from the kernel' >/dev/kmsg");
    let log = machine.log();
    for expected in [
        "Linux version",
        "connecting to host...",
        "said aloud",
        "from the kernel",
    ] {
        assert!(log.contains(expected), "{expected} is not in\n{log}");
    }
    assert_eq!(log.matches("Linux version").count(), 1, "{log}");
    machine.power_off();
}

fn check_interfaces(machine: &mut Machine) {
    for (name, vlan) in [("eth1", "01"), ("eth2", "07")] {
        assert_eq!(
            machine.succeed(&format!("cat /sys/class/net/{name}/address")),
            format!("52:54:00:12:{vlan}:02")
        );
    }
    assert_eq!(
        machine.succeed("ls /sys/class/net | sort | xargs"),
        "eth1 eth2 lo"
    );
    assert_eq!(
        machine.succeed("cat /proc/sys/net/ipv6/conf/default/accept_dad"),
        "1"
    );
}

#[test]
fn the_log_goes_to_the_uart_when_asked() {
    if qemu_is_missing() {
        return;
    }
    let image = build(&Cache::open().unwrap(), &Spec::Micro, &Silent).unwrap();
    let machine = Machine::boot(&image, &identity("alone", 1, &[]), LogConsole::Uart);
    let log = machine.log();
    for expected in ["Linux version", "connecting to host..."] {
        assert!(log.contains(expected), "{expected} is not in\n{log}");
    }
    machine.power_off();
}
