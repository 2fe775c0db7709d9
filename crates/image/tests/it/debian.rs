//! What a debian machine has, and what the test's head added.

use std::collections::BTreeMap;

use hotbed_image::{Cache, DebianSpec, FileSpec, LogConsole, Silent, Spec, build};

use crate::machine::{Machine, identity, qemu_is_missing};

#[test]
fn a_debian_machine_runs_systemd_and_what_the_head_of_the_test_added() {
    if qemu_is_missing() {
        return;
    }
    let image = build(&Cache::open().unwrap(), &spec(), &Silent).unwrap();
    let mut machine = Machine::boot(&image, &identity("server", 1, &[1]), LogConsole::Virtio);

    machine.succeed("until [ \"$(systemctl is-system-running)\" = running ]; do systemctl --failed; sleep 0.1; done");
    assert_eq!(
        machine.succeed("systemctl is-active nginx sleeper multi-user.target | xargs"),
        "active active active"
    );
    machine.succeed("bash -c 'exec 3<>/dev/tcp/localhost/80; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; grep nginx! <&3'");
    assert_eq!(
        machine.succeed("cat \"/srv/it's here\"; stat -c %a%U \"/srv/it's here\""),
        "no newline at its end600root"
    );
    assert_eq!(
        machine.succeed("su -- alice -c 'echo $HOME'"),
        "/home/alice"
    );
    assert_eq!(machine.succeed("cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(machine.succeed("hostnamectl hostname"), "server");
    assert!(
        machine
            .succeed("ip -br addr show eth1")
            .contains("192.168.1.1/24 2001:db8:1::1/64")
    );
    assert_eq!(machine.succeed("stat -f -c %T /"), "overlayfs");
    machine.succeed(
        "touch /usr/bin/writable && udevadm settle && test -e /dev/disk/by-id/virtio-root",
    );
    machine.succeed("loginctl list-sessions && modprobe dummy && test -c /dev/net/tun");
    assert_eq!(
        machine.succeed("journalctl -q -b -o cat _SYSTEMD_UNIT=sleeper.service | wc -l"),
        "0"
    );

    machine.succeed("logger into-the-journal && journalctl --sync");
    let log = machine.log();
    for expected in [
        "Linux version",
        "connecting to host...",
        "into-the-journal",
        "Started sleeper.service",
    ] {
        assert!(log.contains(expected), "{expected} is not in\n{log}");
    }
    machine.power_off();
}

fn spec() -> Spec {
    let service =
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    let file = |content: &str, mode| FileSpec {
        content: content.to_owned(),
        mode,
    };
    Spec::Debian(DebianSpec {
        packages: vec!["nginx-light".to_owned()],
        files: BTreeMap::from([
            (
                "/etc/systemd/system/sleeper.service".to_owned(),
                file(service, 0o644),
            ),
            (
                "/srv/it's here".to_owned(),
                file("no newline at its end", 0o600),
            ),
            (
                "/etc/sysctl.d/90-test.conf".to_owned(),
                file("net.ipv4.ip_forward = 1\n", 0o644),
            ),
        ]),
        run: vec![
            "systemctl enable sleeper".to_owned(),
            "useradd --create-home alice".to_owned(),
        ],
    })
}
