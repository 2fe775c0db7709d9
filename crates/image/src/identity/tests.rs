//! What a guest is told, and what is never let through to its shell.

use super::*;

fn client() -> Identity {
    let eth1 = Interface {
        name: "eth1".to_owned(),
        mac: [0x52, 0x54, 0, 0x12, 1, 2],
        ipv4: (Ipv4Addr::new(192, 168, 1, 2), 24),
        ipv6: ("2001:db8:1::2".parse().unwrap(), 64),
    };
    let server = (
        IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1)),
        vec!["server".to_owned(), "server.example.org".to_owned()],
    );
    Identity {
        hostname: "client".to_owned(),
        interfaces: vec![eth1],
        hosts: vec![server],
    }
}

fn refusal(change: impl FnOnce(&mut Identity)) -> String {
    let mut identity = client();
    change(&mut identity);
    identity.archive().unwrap_err().to_string()
}

#[test]
fn stage_1_reads_a_line_for_each_interface() {
    assert_eq!(
        client().interfaces_file(),
        "eth1 52:54:00:12:01:02 192.168.1.2 255.255.255.0 2001:db8:1::2/64\n"
    );
}

#[test]
fn a_machine_knows_its_neighbours_and_itself() {
    let expected = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 client\n192.168.1.1 server server.example.org\n";
    assert_eq!(client().hosts_file(), expected);
}

#[test]
fn a_machine_that_is_in_hosts_is_not_at_the_loopback() {
    let mut identity = client();
    identity.hosts.push((
        IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2)),
        vec!["client".to_owned()],
    ));
    assert!(!identity.hosts_file().contains("127.0.1.1"));
}

#[test]
fn hostile_host_names_are_refused() {
    let long = "a".repeat(64);
    for name in [
        "", "-a", "a-", "a b", "a;reboot", "$(id)", "a\nb", "../x", "a.b", "ä", "a_b", "a\0", &long,
    ] {
        assert!(
            refusal(|identity| identity.hostname = name.to_owned()).contains("host name"),
            "{name:?}"
        );
    }
    client().archive().unwrap();
}

#[test]
fn hostile_interfaces_are_refused() {
    for name in [
        "",
        "lo",
        ".",
        "..",
        "all",
        "eth1 eth2",
        "eth/1",
        "`id`",
        "-a",
        "0123456789abcdef",
    ] {
        assert!(
            refusal(|identity| identity.interfaces[0].name = name.to_owned()).contains("interface"),
            "{name:?}"
        );
    }
    assert!(refusal(|identity| identity.interfaces[0].mac[0] = 0x53).contains("MAC"));
    assert!(refusal(|identity| identity.interfaces[0].ipv4.1 = 33).contains("prefix"));
    assert!(refusal(|identity| identity.interfaces[0].ipv6.1 = 129).contains("prefix"));
    assert!(
        refusal(|identity| identity.interfaces.push(identity.interfaces[0].clone()))
            .contains("twice")
    );
}

#[test]
fn hostile_hosts_are_refused() {
    for name in ["", "a b", "a#b", "a\n10.0.0.1 bank", ".", "a..b"] {
        assert!(
            refusal(|identity| identity.hosts[0].1[0] = name.to_owned()).contains("/etc/hosts"),
            "{name:?}"
        );
    }
    assert!(refusal(|identity| identity.hosts[0].1.clear()).contains("/etc/hosts"));
}

#[test]
fn the_machine_id_is_that_of_the_machine_and_well_formed() {
    let id = client().machine_id();
    assert_eq!(id.len(), 33);
    assert!(
        id.trim_end()
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()),
        "{id}"
    );
    assert_eq!(id, client().machine_id());
    assert_ne!(
        id,
        Identity {
            hostname: "other".to_owned(),
            ..client()
        }
        .machine_id()
    );
}
